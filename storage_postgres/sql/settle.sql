-- fragment: settle_turns
-- Write how turns ended, each under its fence alone: a status test here would invite the lease index and its dead
-- entries. Locks by writing, where no parent is to be told: the turns stand in the order of locks. Otherwise locks turns
-- and parents first. Index: the primary key, see `tell_parents`.
at as materialized (select /*schema*/clock_now() as now, /*include may_wait*/),
turns as materialized (
    select i.*, f.is_end, case when f.is_end then e.parent_id end as parent_id
    from at, unnest(
        %(id)s::uuid[], %(fence)s::int8[], %(status)s::text[], %(phase)s::text[], %(attempts)s::int[],
        %(deliveries)s::int[], %(iteration)s::int[], %(delay)s::float8[], %(output)s::text[],
        %(run_output)s::text[], %(error)s::text[], %(reason)s::text[], %(children)s::int[]
    ) as i (
        id, fence, status, phase, attempts, deliveries, iteration, delay, output, run_output, error, reason, children
    )
        cross join lateral (
            select i.status !~ '^(ready|waiting)' as is_end
        ) as f
        join /*schema*/executions as e on e.id = any(array[i.id]) and e.fence = any(array[i.fence])
    order by e.depth desc, e.id
),
held as materialized (
    select e.id
    from /*schema*/executions as e
    where e.id = any(array(
        select id from turns where (select count(parent_id) from turns) > 0
        union
        select parent_id from turns where parent_id is not null))
    order by e.depth desc, e.id
    for no key update
),
settled as (
    update /*schema*/executions as e
    set status = i.status,
        phase = i.phase,
        fence = i.fence + 1,
        settled_fence = i.fence,
        attempts = i.attempts,
        deliveries = i.deliveries,
        iteration = i.iteration,
        output = i.output,
        run_output = i.run_output,
        error = i.error,
        reason = i.reason,
        due_at = case when i.status = 'ready' then at.now + i.delay * interval '1s' else e.due_at end,
        lease_expires_at = null,
        waiting_for_children_at = case
            when i.status = 'waiting_for_children' then at.now else e.waiting_for_children_at end,
        waiting_for_finalize_at = case
            when i.status = 'waiting_for_finalize' then at.now else e.waiting_for_finalize_at end,
        finished_at = case when i.is_end then at.now end,
        close_status = case
            when not i.is_end then 'idle'
            when e.active_children_count = 0 then 'closed'
            else 'ready' end,
        closed_at = case when i.is_end and e.active_children_count = 0 then at.now end,
        children_count = e.children_count
            + case when i.status = 'waiting_for_finalize' then 0 else i.children end,
        active_children_count = e.active_children_count + i.children,
        updated_at = at.now
    from turns as i
        cross join at
    where e.id = any(array[i.id])
        and e.fence = any(array[i.fence])
        and (select count(*) from held) >= 0
    returning e.id, e.root_id, e.parent_id, e.queue, e.status, i.is_end, e.due_at <= at.now as is_due, e.cancel_requested
)

-- name: settle
-- The ends of turns after which nothing goes on and no children start, with the parents told. Locks see `settle_turns`.
-- Index: the primary key.
with /*include settle_turns*/,
ended as (
    select s.parent_id, (s.status <> 'completed')::int as failed from settled as s where s.is_end
),
/*include tell_parents*/,
woken as (
    select r.queue from resumed as r where r.status = 'ready'
    union
    select s.queue from settled as s where s.status = 'ready' and s.is_due
)
/*include settle_result*/;

-- name: settle_bare
-- Ends that only bring the result of an execution without a parent: most of them. As `settle` otherwise: under the fence
-- alone, and locked in the order of locks, because roots stand at one depth and the ids in order. Those in pools are counted
-- here, in a row for each pool and task, which costs a tenth of the trigger `count_pooled`, which counts all other ends one
-- by one and leaves these out by their mark. Index: the primary key.
with at as materialized (select /*schema*/clock_now() as now, /*include may_wait*/),
settled as (
    update /*schema*/executions as e
    set status = 'completed',
        fence = e.fence + 1,
        settled_fence = e.fence,
        deliveries = 0,
        output = i.output,
        run_output = null,
        error = null,
        reason = null,
        lease_expires_at = null,
        finished_at = at.now,
        close_status = case when e.active_children_count = 0 then 'closed' else 'ready' end,
        closed_at = case when e.active_children_count = 0 then at.now end,
        is_counted = e.is_pooled,
        updated_at = at.now
    from unnest(%(id)s::uuid[], %(fence)s::bigint[], %(output)s::text[]) as i (id, fence, output)
        cross join at
    where e.id = i.id
        and e.id = any(%(id)s::uuid[])
        and e.fence = any(array[i.fence])
    returning e.id, e.queue, e.task_name, e.is_pooled,
        case when e.is_pooled
            then /*schema*/first_lag(e.phase, e.attempts, e.iteration, e.started_at, e.due_at) end as lag
),
counted as (
    insert into /*schema*/pool_ends
    select s.queue, s.task_name, min(at.now), 'completed', true, false, count(*), count(s.lag),
        coalesce(sum(s.lag), 0), coalesce(max(s.lag), 0)
    from settled as s
        cross join at
    where s.is_pooled
    group by s.queue, s.task_name
)
select (select count(*) from settled),
    case when (select count(*) from settled) < cardinality(%(id)s::uuid[])
        then array(select s.id::text from settled as s) end;

-- name: settle_and_spawn
-- As `settle`, also for turns that go on; then insert and count the children of accepted turns. It is a statement of its
-- own because the columns of the children are most of it, and few turns have any. Locks and index as `settle`. Index: the primary key.
with /*include settle_turns*/,
/*include spawn_children*/,
ended as (
    select s.parent_id, (s.status <> 'completed')::int as failed from settled as s where s.is_end
),
/*include tell_parents*/,
/*include spawned_woken*/
/*include settle_result*/,
    /*include has_cancelled*/;

-- name: settle_and_note
-- As `settle_and_spawn`; then store the notices of accepted turns. Only where somebody has subscribed to them.
-- Locks and index as `settle`. Index: the primary key.
with /*include settle_turns*/,
/*include spawn_children*/,
noted as (
    insert into /*schema*/outbox (subscriber, id, name, at, subject, kind, task_name, key, data, error, payload)
    select n.subscriber, n.id, n.name, at.now, n.subject, n.kind, n.task_name, n.key, n.data, n.error, n.payload
    from unnest(
        %(note_turn)s::uuid[], %(note_subscriber)s::text[], %(note_id)s::uuid[], %(note_name)s::text[],
        %(note_subject)s::text[], %(note_kind)s::text[], %(note_task_name)s::text[], %(note_key)s::text[],
        %(note_data)s::text[], %(note_error)s::text[], %(note_payload)s::text[]
    ) as n (turn, subscriber, id, name, subject, kind, task_name, key, data, error, payload)
        join settled as s on s.id = n.turn
        cross join at
),
ended as (
    select s.parent_id, (s.status <> 'completed')::int as failed from settled as s where s.is_end
),
/*include tell_parents*/,
/*include spawned_woken*/
/*include settle_result*/,
    /*include has_cancelled*/;

-- fragment: spawn_children
-- Insert the children of accepted turns. Locks nothing. Index: the primary key, and the unique ones.
inserted as (
    insert into /*schema*/executions (
        id, root_id, parent_id, child_index, is_finalize, depth, kind, task_name, task_version, queue, priority,
        input, idempotency_key, idempotency_hash, sleeping_id, retry, max_attempts, max_deliveries, timeout, delay,
        record_version, status, created_at, due_at, wait_expires_at, started_at, updated_at, is_pooled, serial_key,
        on_complete, outlives_parent
    )
    select c.id, s.root_id, c.parent_id, c.child_index, c.is_finalize, c.depth, c.kind, c.task_name,
        c.task_version, c.queue, c.priority, c.input, c.idempotency_key, c.idempotency_hash, c.sleeping_id, c.retry,
        c.max_attempts, c.max_deliveries, c.timeout, c.delay, %(record_version)s::smallint,
        case when c.kind = 'sleeping' then 'waiting' else 'ready' end,
        at.now,
        greatest(coalesce(c.run_at, at.now + c.delay * interval '1 second'), at.now),
        case when c.kind = 'sleeping' then at.now + (c.delay + c.timeout) * interval '1 second' end,
        case when c.kind = 'sleeping' then at.now end,
        at.now, c.is_pooled, c.serial_key, c.on_complete, c.outlives_parent
    from unnest(
        %(child_id)s::uuid[], %(child_parent_id)s::uuid[], %(child_child_index)s::integer[],
        %(child_is_finalize)s::boolean[], %(child_depth)s::integer[], %(child_kind)s::text[],
        %(child_task_name)s::text[], %(child_task_version)s::integer[], %(child_queue)s::text[],
        %(child_priority)s::smallint[], %(child_input)s::text[], %(child_idempotency_key)s::text[],
        %(child_idempotency_hash)s::text[], %(child_sleeping_id)s::text[], %(child_retry)s::text[],
        %(child_max_attempts)s::integer[], %(child_max_deliveries)s::integer[],
        %(child_timeout)s::double precision[], %(child_delay)s::double precision[], %(child_run_at)s::timestamptz[],
        %(child_is_pooled)s::boolean[], %(child_serial_key)s::text[], %(child_on_complete)s::text[],
        %(child_outlives_parent)s::boolean[]
    ) as c (
        id, parent_id, child_index, is_finalize, depth, kind, task_name, task_version, queue, priority,
        input, idempotency_key, idempotency_hash, sleeping_id, retry, max_attempts, max_deliveries, timeout, delay,
        run_at, is_pooled, serial_key, on_complete, outlives_parent
    )
        join settled as s on s.id = c.parent_id
        cross join at
    returning queue, due_at, status
)

-- fragment: spawned_woken
-- The queues in which something became claimable, children included.
woken as (
    select r.queue from resumed as r where r.status = 'ready'
    union
    select c.queue from inserted as c where c.status = 'ready' and c.due_at <= (select now from at)
    union
    select s.queue from settled as s where s.status = 'ready' and s.is_due
)

-- fragment: settle_result
-- How many were accepted, their ids unless that is all, and the queues in which something became claimable.
select (select count(*) from settled),
    case when (select count(*) from settled) < cardinality(%(id)s::uuid[])
        then array(select id::text from settled) end,
    array(select queue from woken);

-- fragment: has_cancelled
-- Whether the trigger `cancel_requested` cancels some right after, instead of letting them go on.
exists (select 1 from settled as s where not s.is_end and s.cancel_requested is not null)

-- name: settled
-- Which turns were accepted under the fence given. Index: the primary key.
select e.id
from unnest(%(id)s::uuid[], %(fence)s::bigint[]) as i (id, fence)
    join /*schema*/executions as e on e.id = any(array[i.id])
where e.settled_fence = any(array[i.fence])
    and e.fence > i.fence;

-- name: children
-- The ends of all children of some parents. Index: executions_children, one probe for each parent, which `offset 0`
-- keeps: without statistics a list of parents looks like most of the table.
select c.parent_id, coalesce(c.child_index, 0), c.id, c.task_name, c.status, c.output, c.error, c.is_finalize
from unnest(%(parent_ids)s::uuid[]) as p (id)
cross join lateral (
    select e.parent_id, e.child_index, e.id, e.task_name, e.status, e.output, e.error, e.is_finalize
    from /*schema*/executions as e
    where e.parent_id = p.id
    offset 0
) as c
order by c.parent_id, c.is_finalize, c.child_index;
