-- name: duties
-- Whether each kind of upkeep has something to do: one probe of each index, which the order keeps. As `exists` it may
-- become a scan of the table, when the planner remembers a time when all of it was late.
-- Index: executions_lease, executions_wait, executions_close, executions_closing, inbox_consumed, pool_reports_at, the
-- primary key of wakeups.
with at as materialized (select /*schema*/clock_now() as now)
select
    (select e.id from /*schema*/executions as e
        where e.status = 'running' and e.lease_expires_at <= (select now from at)
        order by e.lease_expires_at limit 1) is not null,
    (select e.id from /*schema*/executions as e
        where e.status = 'waiting' and e.wait_expires_at <= (select now from at)
        order by e.wait_expires_at limit 1) is not null,
    exists (select 1 from /*schema*/wakeups),
    (select e.id from /*schema*/executions as e
        where e.close_status = 'ready'
        order by e.finished_at limit 1) is not null,
    (select e.id from /*schema*/executions as e
        where e.close_status = 'closing' and e.close_lease_expires_at <= (select now from at)
        order by e.close_lease_expires_at limit 1) is not null,
    (select e.number from /*schema*/inbox as e
        where e.status = 'consumed' and e.expires_at <= (select now from at)
        order by e.expires_at limit 1) is not null,
    (select r.pool from /*schema*/pool_reports as r
        where r.reported_at < (select date_trunc('minute', now, 'UTC') from at)
        order by r.reported_at limit 1) is not null;

-- name: next_due
-- The earliest moment at which time alone gives something to do: one probe of each index, and of each level and queue
-- of what is ready, as `claim` makes them. Another table of things that wait for a moment adds a probe of its own. What is
-- due in a pool and was not claimed waits for a place there, not for time; for a rate it waits until it lets one start.
-- Index: executions_ready, executions_pooled, pool_marks_due, executions_lease, executions_wait, executions_close,
-- executions_closing, outbox_order; deliveries has a row for each subscriber.
select least(
    (select min(due.due_at)
        from unnest(%(queues)s::text[], %(priorities)s::smallint[]) as lane (queue, priority)
        cross join lateral (
            select e.due_at
            from /*schema*/executions as e
            where e.status = 'ready'
                and not e.is_pooled
                and e.queue = lane.queue
                and e.priority = lane.priority
                and e.task_name = any(%(task_names)s::text[])
                and e.record_version <= %(record_version)s::smallint
            order by e.due_at, e.id
            limit 1
        ) as due),
    (select min(due.due_at)
        from unnest(%(queues)s::text[], %(priorities)s::smallint[]) as lane (queue, priority)
        cross join lateral (
            select e.due_at
            from /*schema*/executions as e
            where e.status = 'ready' and e.is_pooled and e.serial_key is null
                and e.queue = lane.queue
                and e.priority = lane.priority
                and e.due_at > /*schema*/clock_now()
            order by e.due_at, e.id
            limit 1
        ) as due),
    (select m.due_at from /*schema*/pool_marks as m
        where m.pool = any(%(queues)s::text[]) and m.due_at > /*schema*/clock_now()
        order by m.due_at limit 1),
    (select min(f.at)
        from /*schema*/pools as p
            cross join (select /*schema*/clock_now() as now) as at
            cross join lateral (select /*schema*/rate_moment(p, at.now) as at) as f
        where p.name = any(%(queues)s::text[]) and p.rate_tokens is not null and not p.is_paused
            and f.at > at.now
            and ((
                select e.id from /*schema*/executions as e
                where e.status = 'ready' and e.is_pooled and e.serial_key is null and e.queue = p.name
                order by e.priority limit 1) is not null
                or (select l.serial_key from /*schema*/pool_lanes as l where l.pool = p.name
                    order by l.turn_at limit 1) is not null
                or (select m.serial_key from /*schema*/pool_marks as m where m.pool = p.name
                    order by m.due_at limit 1) is not null)),
    (select min(d.due_at)
        from /*schema*/deliveries as d
        where d.due_at > /*schema*/clock_now()
            and exists (select 1 from /*schema*/outbox as o where o.subscriber = d.subscriber)),
    (select e.lease_expires_at from /*schema*/executions as e
        where e.status = 'running'
        order by e.lease_expires_at limit 1),
    (select e.wait_expires_at from /*schema*/executions as e
        where e.status = 'waiting'
        order by e.wait_expires_at limit 1),
    (select e.finished_at from /*schema*/executions as e
        where e.close_status = 'ready'
        order by e.finished_at limit 1),
    (select e.close_lease_expires_at from /*schema*/executions as e
        where e.close_status = 'closing'
        order by e.close_lease_expires_at limit 1)
);

-- name: recover
-- Take running executions back from executors whose lease has run out; judged, locked and written in one statement.
-- Locks what it takes and the parents that are to be told, skips what is locked: an execution whose parent is locked is
-- left for the next call, and so is one of which a child ends by this one, because a row is written once.
-- Index: executions_lease.
with at as materialized (select /*schema*/clock_now() as now),
late as materialized (
    select e.ctid as row_id, e.id, case when e.deliveries >= e.max_deliveries then e.parent_id end as parent_id
    from /*schema*/executions as e
    where e.status = 'running'
        and e.lease_expires_at <= (select now from at)
    order by e.lease_expires_at
    limit %(limit)s::bigint
    for no key update skip locked
),
parents as materialized (
    select p.id
    from /*schema*/executions as p
    where p.id = any(array(select late.parent_id from late where late.parent_id is not null))
    for no key update skip locked
),
taken as (
    update /*schema*/executions as e
    set status = case
            when e.deliveries < e.max_deliveries then 'ready'
            when e.phase = 'run' then 'failed'
            else 'finalize_failed' end,
        fence = e.fence + 1,
        attempts = case when e.deliveries < e.max_deliveries then e.attempts - 1 else e.attempts end,
        due_at = case when e.deliveries < e.max_deliveries then at.now else e.due_at end,
        lease_expires_at = null,
        needs_cancel = false,
        error = case
            when e.deliveries < e.max_deliveries then %(lost_error)s::text else %(poisoned_error)s::text end,
        reason = case when e.deliveries < e.max_deliveries then null else 'poisoned' end,
        finished_at = case when e.deliveries < e.max_deliveries then null else at.now end,
        close_status = case
            when e.deliveries < e.max_deliveries then 'idle'
            when e.active_children_count = 0 then 'closed'
            else 'ready' end,
        closed_at = case
            when e.deliveries >= e.max_deliveries and e.active_children_count = 0 then at.now end,
        updated_at = at.now
    from at
    where e.ctid = any(array(
        select late.row_id
        from late
        where not exists (
            select 1
            from /*schema*/executions as p
            where p.id = any(array[late.parent_id]) and p.id not in (select parents.id from parents)
        )
            and not exists (select 1 from late as child where child.parent_id = late.id)
    ))
    returning e.id, e.task_name, e.queue, e.executor_id, e.parent_id, e.status as own_status,
        -- As the trigger `cancel_requested` makes it, right after.
        case when e.status = 'ready' and e.cancel_requested is not null then 'cancelled' else e.status end as status
),
ended as (
    select t.parent_id, 1 as failed from taken as t where t.own_status <> 'ready'
),
/*include tell_parents*/
select t.id, t.task_name, t.status, t.queue, t.executor_id from taken as t;
