-- name: cancel
-- End unfinished executions, but not the turns of jobs, which end with these, nor workflows that have run, which are named
-- to be asked by a statement that follows. One whose parent is cancelled by the same
-- call is counted in the parent's own write, because a statement writes a row once. One that runs is only asked to end,
-- where it may finish; whatever makes it ready again then cancels it. Locks them and their parents in one go, in the order of `tell_parents`.
-- Index: the primary key; a test for parents that are not null would invite executions_children, and read all of it.
with at as materialized (select /*schema*/clock_now() as now),
related as materialized (
    select e.id from /*schema*/executions as e where e.id = any(%(ids)s::uuid[])
    union
    select e.parent_id from /*schema*/executions as e where e.id = any(%(ids)s::uuid[])
),
held as materialized (
    select e.id, e.parent_id, e.status, e.kind, e.finished_at is null and e.kind <> 'turn' as is_open,
        e.kind = 'workflow' and e.fence > 0 and not %(force)s::boolean as is_asked
    from /*schema*/executions as e
    where e.id = any(array(select r.id from related as r))
    order by e.depth desc, e.id
    for no key update
),
named as materialized (
    select h.id, h.parent_id, h.status, h.kind, h.is_open and h.is_asked as is_asked,
        h.is_open and not h.is_asked and not (%(may_finish)s::boolean and h.status = 'running') as is_open,
        h.is_open and not h.is_asked and %(may_finish)s::boolean and h.status = 'running' as is_spared
    from held as h
    where h.id = any(%(ids)s::uuid[])
),
ending as materialized (
    select m.id, count(*) filter (where not m.is_itself)::integer as children
    from (
        select n.id, true as is_itself from named as n where n.is_open
        union all
        select n.parent_id, false from named as n where n.is_open and n.parent_id is not null
    ) as m
    group by m.id
    having bool_or(m.is_itself)
),
asked as (
    update /*schema*/executions as e
    set cancel_requested = %(error)s::text,
        updated_at = at.now
    from at
    where e.id = any(array(select n.id from named as n where n.is_spared))
        and e.cancel_requested is null
    returning e.id
),
cancelled as (
    update /*schema*/executions as e
    set status = 'cancelled',
        fence = e.fence + 1,
        error = %(error)s::text,
        reason = %(reason)s::text,
        needs_cancel = e.status = 'running',
        lease_expires_at = null,
        finished_at = at.now,
        active_children_count = e.active_children_count - ending.children,
        close_status = case when e.active_children_count = ending.children then 'closed' else 'ready' end,
        closed_at = case when e.active_children_count = ending.children then at.now end,
        updated_at = at.now
    from ending
        cross join at
    where e.id = any(array[ending.id])
    returning e.id, e.parent_id
),
ended as (
    select c.parent_id, (%(reason)s::text is distinct from 'cancelled_by_parent')::int as failed from cancelled as c
    where c.parent_id is not null and c.parent_id not in (select ending.id from ending)
),
/*include tell_parents*/
select n.id, n.status, n.is_open, n.id in (select asked.id from asked), n.kind = 'turn', n.is_asked from named as n;

-- name: asked_by_request
-- Which of these workflows were asked to end by a request that was made before. The transaction holds them.
-- Index: messages_message_id.
select m.execution_id
from /*schema*/messages as m
where m.execution_id = any(%(ids)s::uuid[])
    and m.message_id = any(array[%(cancel_id)s::text])
    and m.payload::json ->> 'request' = %(request)s::text;

-- name: cancelled_among
-- Which of these were cancelled after their attempt, as they had been asked to. Index: the primary key.
select e.id
from /*schema*/executions as e
where e.id = any(%(ids)s::uuid[])
    and e.status = 'cancelled'
    and e.cancel_requested is not null;

-- name: unfinished
-- Unfinished executions that were created before a time, in no particular order; not the turns of jobs, nor callbacks, nor
-- those that run and were asked to end, where such may finish, nor workflows that were asked. Index: executions_parents,
-- executions_ready, executions_pooled, executions_keyed, executions_keyed_again, executions_lease, executions_wait.
select u.id
from (
    select e.id, e.created_at, e.queue, e.task_name, e.kind
    from /*schema*/executions as e
    where e.status in ('waiting_for_children', 'waiting_for_finalize')
    union all
    select e.id, e.created_at, e.queue, e.task_name, e.kind
    from /*schema*/executions as e
    where e.status = 'ready' and not e.is_pooled
    union all
    select e.id, e.created_at, e.queue, e.task_name, e.kind
    from /*schema*/executions as e
    where e.status = 'ready' and e.is_pooled and e.serial_key is null
    union all
    select e.id, e.created_at, e.queue, e.task_name, e.kind
    from /*schema*/executions as e
    where e.status = 'ready' and e.serial_key is not null and e.started_at is null
    union all
    select e.id, e.created_at, e.queue, e.task_name, e.kind
    from /*schema*/executions as e
    where e.status = 'ready' and e.serial_key is not null and e.started_at is not null
    union all
    select e.id, e.created_at, e.queue, e.task_name, e.kind
    from /*schema*/executions as e
    where e.status = 'running' and (e.cancel_requested is null or not %(may_finish)s::boolean)
    union all
    select e.id, e.created_at, e.queue, e.task_name, e.kind
    from /*schema*/executions as e
    where e.status = 'waiting'
) as u
where u.created_at < %(before)s::timestamptz
    and u.kind not in ('turn', 'callback')
    and (%(force)s::boolean or u.kind <> 'workflow' or not exists (
        select 1
        from /*schema*/messages as m
        where m.execution_id = any(array[u.id]) and m.message_id = any(array[%(cancel_id)s::text])))
    and (%(queue)s::text is null or u.queue = %(queue)s::text)
    and (%(task_name)s::text is null or u.task_name = %(task_name)s::text)
limit %(limit)s::bigint;

-- name: pick_up_cancelled
-- Executions cancelled under one executor's hands, once each. Locks what it takes, skips what is locked.
-- Index: executions_cancel.
update /*schema*/executions as e
set needs_cancel = false
where e.ctid = any(array(
    select c.ctid
    from /*schema*/executions as c
    where c.needs_cancel
        and c.executor_id = %(executor_id)s::text
    order by c.finished_at
    limit %(limit)s::bigint
    for no key update skip locked
))
returning e.id;

-- name: redrive
-- Make closed failures ready again: a lost finalize finalizes again, the rest starts anew. Locks what it writes.
-- Index: the primary key.
update /*schema*/executions as e
set status = 'ready',
    phase = case when e.status = 'finalize_failed' then 'children' else 'run' end,
    fence = e.fence + 1,
    attempts = 0,
    deliveries = 0,
    close_status = 'idle',
    reason = null,
    needs_cancel = false,
    cancel_requested = null,
    due_at = at.now,
    finished_at = null,
    closed_at = null,
    updated_at = at.now
from (select /*schema*/clock_now() as now) as at
where e.id = any(%(ids)s::uuid[])
    and e.status in ('failed', 'timed_out', 'finalize_failed', 'cancelled')
    and e.close_status = 'closed'
    and e.parent_id is null
    and e.kind not in ('sleeping', 'turn', 'workflow')
    and (e.status = 'finalize_failed' or e.children_count = 0)
returning e.id;
