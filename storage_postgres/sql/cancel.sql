-- name: cancel
-- End unfinished executions. One whose parent is cancelled by the same call is counted in the parent's own write,
-- because a statement writes a row once. Locks deepest first, then in id order: children before parents, as settle.
with at as materialized (select /*schema*/clock_now() as now),
held as materialized (
    select e.id, e.parent_id, e.status, e.finished_at is null as is_open
    from /*schema*/executions as e
    where e.id = any(%(ids)s::uuid[])
    order by e.depth desc, e.id
    for update
),
own as materialized (
    select h.parent_id, count(*)::integer as children
    from held as h
    where h.is_open and h.parent_id in (select o.id from held as o where o.is_open)
    group by h.parent_id
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
        active_children_count = e.active_children_count - left_over.children,
        close_status = case when e.active_children_count = left_over.children then 'closed' else 'ready' end,
        closed_at = case when e.active_children_count = left_over.children then at.now end,
        updated_at = at.now
    from held as h
        cross join at
        cross join lateral (
            select coalesce((select own.children from own where own.parent_id = h.id), 0) as children
        ) as left_over
    where e.id = h.id
        and h.is_open
        and e.id = any(%(ids)s::uuid[])
    returning e.id, e.parent_id
),
ended as (
    select c.parent_id from cancelled as c
    where c.parent_id is not null and c.parent_id not in (select o.id from held as o where o.is_open)
),
/*include tell_parents*/
select h.id, h.status, h.is_open from held as h;

-- name: pick_up_cancelled
-- Executions cancelled under one executor's hands, once each. Index: executions_cancel.
update /*schema*/executions as e
set needs_cancel = false
where e.ctid = any(array(
    select c.ctid
    from /*schema*/executions as c
    where c.needs_cancel
        and c.executor_id = %(executor_id)s::text
    order by c.finished_at
    limit %(limit)s::bigint
    for update skip locked
))
returning e.id;

-- name: redrive
-- Make closed failures ready again: a lost finalize finalizes again, the rest starts anew. Index: the primary key.
update /*schema*/executions as e
set status = 'ready',
    phase = case when e.status = 'finalize_failed' then 'children' else 'run' end,
    fence = e.fence + 1,
    attempts = 0,
    deliveries = 0,
    close_status = 'idle',
    reason = null,
    needs_cancel = false,
    due_at = at.now,
    finished_at = null,
    closed_at = null,
    updated_at = at.now
from (select /*schema*/clock_now() as now) as at
where e.id = any(%(ids)s::uuid[])
    and e.status in ('failed', 'timed_out', 'finalize_failed', 'cancelled')
    and e.close_status = 'closed'
    and e.parent_id is null
    and e.kind <> 'sleeping'
    and (e.status = 'finalize_failed' or e.children_count = 0)
returning e.id;
