-- name: claim
-- Give ready executions to one executor: by priority, then queue as listed, then due time; of a lane with `after` those
-- behind the place of that execution, so that nothing is read that was claimed before it.
-- One probe of the index per level and queue, in the order of the arrays; the outer limit stops the probes.
-- The rows are taken by ctid from an array that is computed once: no plan can take more than the limit, and none can
-- turn the update into a join over the table. The answer is in no order: to keep and sort the rows here takes a sixth of
-- the time, so the order of starts is made of `priority` and the last column by who reads it.
-- Locks what it takes, skips what is locked. Index: executions_ready.
with at as materialized (select /*schema*/clock_now() as now),
picked as materialized (
    select due.row_id
    from unnest(%(queues)s::text[], %(priorities)s::smallint[], %(after)s::uuid[]) as lane (queue, priority, after)
    cross join lateral (
        select coalesce((
            select x.due_at from /*schema*/executions as x where x.id = lane.after), '-infinity') as due_at
    ) as start
    cross join lateral (
        select e.ctid as row_id
        from /*schema*/executions as e
        where e.status = 'ready'
            and not e.is_pooled
            and e.queue = lane.queue
            and e.priority = lane.priority
            and e.due_at <= (select now from at)
            and (e.due_at, e.id) > (start.due_at, coalesce(lane.after, '00000000-0000-0000-0000-000000000000'))
            and e.task_name = any(%(task_names)s::text[])
            and e.record_version <= %(record_version)s::smallint
        order by e.due_at, e.id
        limit %(limit)s::bigint
        for no key update skip locked
    ) as due
    limit %(limit)s::bigint
)
update /*schema*/executions as e
set status = 'running',
    fence = e.fence + 1,
    attempts = e.attempts + 1,
    -- A suspect is counted by `count_starts`.
    deliveries = e.deliveries + case
        when e.deliveries >= 2 or e.deliveries + 1 >= e.max_deliveries then 0 else 1 end,
    executor_id = %(executor_id)s::text,
    reason = case when e.deliveries >= 2 or e.deliveries + 1 >= e.max_deliveries then 'unstarted' end,
    started_at = (select now from at),
    lease_expires_at = (select now from at) + %(lease)s::double precision * interval '1 second',
    updated_at = (select now from at)
where e.ctid = any(array(select picked.row_id from picked))
returning e.id, e.fence, e.kind, e.task_name, e.task_version, e.phase, e.input, e.attempts, e.deliveries, e.iteration,
    e.max_attempts, e.timeout, e.retry, e.run_output, e.error, e.root_id, e.parent_id, e.child_index, e.is_finalize,
    e.depth, e.queue, e.priority, date_part('epoch', (select now from at) - e.created_at) as age, e.children_count,
    e.on_complete, e.message_count, e.active_children_count,
    case when e.kind = 'workflow' then e.created_at end as created_at, e.reason is not null as is_suspect,
    date_part('epoch', e.due_at) as due;

-- name: claim_callback
-- Give one callback that has just been made to the executor whose transaction made it. Nobody else sees it yet, so
-- nothing is waited for. Locks what it writes. Index: the primary key.
update /*schema*/executions as e
set status = 'running',
    fence = e.fence + 1,
    attempts = e.attempts + 1,
    deliveries = e.deliveries + 1,
    executor_id = %(executor_id)s::text,
    started_at = at.now,
    lease_expires_at = at.now + %(lease)s::double precision * interval '1 second',
    updated_at = at.now
from (select /*schema*/clock_now() as now) as at
where e.id = %(id)s::uuid
    and e.kind = 'callback'
    and not e.is_pooled
    and e.status = 'ready'
    and e.due_at <= at.now
returning e.id, e.fence, e.kind, e.task_name, e.task_version, e.phase, e.input, e.attempts, e.deliveries,
    e.iteration, e.max_attempts, e.timeout, e.retry, e.run_output, e.error, e.root_id, e.parent_id, e.child_index,
    e.is_finalize, e.depth, e.queue, e.priority, date_part('epoch', at.now - e.created_at), e.children_count,
    e.on_complete, e.message_count, e.active_children_count, null::timestamptz, false;

-- name: count_starts
-- Count the deliveries of suspects that are about to start, of each claim once, if they are still held under the fence.
-- Locks what it writes, in the order of locks. Index: the primary key, see `tell_parents`.
with turns as materialized (
    select i.id, i.fence
    from unnest(%(id)s::uuid[], %(fence)s::bigint[]) as i (id, fence)
        join /*schema*/executions as e on e.id = any(array[i.id])
    order by e.depth desc, e.id
)
update /*schema*/executions as e
set deliveries = e.deliveries + case when e.reason = 'unstarted' then 1 else 0 end,
    reason = null,
    updated_at = /*schema*/clock_now()
from turns as i
where e.id = any(array[i.id])
    and e.fence = any(array[i.fence])
    and e.lease_expires_at is not null
returning e.id;

-- name: renew
-- Extend the leases that are still held under the fence given. Locks what it writes, skips what is locked: one that
-- somebody's transaction holds must not cost all others their leases. Index: the primary key, see `tell_parents`.
with turns as materialized (
    select e.id
    from unnest(%(id)s::uuid[], %(fence)s::bigint[]) as i (id, fence)
        join /*schema*/executions as e on e.id = any(array[i.id]) and e.fence = any(array[i.fence])
    where e.lease_expires_at is not null
    for no key update of e skip locked
)
update /*schema*/executions as e
set lease_expires_at = /*schema*/clock_now() + %(lease)s::double precision * interval '1 second'
from turns as i
where e.id = any(array[i.id])
returning e.id;

-- name: heartbeat
-- Store the details of attempts that still hold their fence. Locks what it writes, skips what is locked, as `renew` does.
-- Index: the primary key, see `tell_parents`.
with turns as materialized (
    select e.id, i.progress
    from unnest(%(id)s::uuid[], %(fence)s::bigint[], %(progress)s::text[]) as i (id, fence, progress)
        join /*schema*/executions as e on e.id = any(array[i.id]) and e.fence = any(array[i.fence])
    where e.lease_expires_at is not null
    for no key update of e skip locked
)
update /*schema*/executions as e
set progress = i.progress,
    updated_at = /*schema*/clock_now()
from turns as i
where e.id = any(array[i.id])
returning e.id;
