-- fragment: job_columns
-- The columns of a job in the order of durable.job.Job.
j.id, j.kind, j.name, j.key, j.epoch, j.status, j.reason, j.state, j.state_version, j.turn_id, j.turn_cause,
j.turn_slot, j.turn_began_at, j.is_triggered, j.scheduled_at, j.run_count, j.execute_count, j.event_count, j.pending_count,
j.pending_first_at, j.pending_last_at, j.error, j.created_at, j.updated_at, j.ended_at, j.dead_count

-- fragment: one_turn
-- Insert the execution of one turn of the job `j`, due at `n.due_at`. Locks nothing. Index: none, it inserts.
/*schema*/insert_turns(
    array[%(turn_id)s::uuid], array[j.id], array[%(task_name)s::text], array[%(task_version)s::integer],
    array[%(queue)s::text], array[%(priority)s::smallint], array[%(max_attempts)s::integer],
    array[%(timeout)s::double precision], array[n.due_at], at.now)

-- name: start_job
-- Insert a job with its first turn, or begin a new incarnation of an ended one; no row where one lives. Waits for a
-- transaction that is inserting the same key, and locks the row. Index: jobs_key.
with at as materialized (select /*schema*/clock_now() as now),
due as materialized (
    select greatest(
        coalesce(%(run_at)s::timestamptz, at.now + %(delay)s::double precision * interval '1 second'), at.now) as due_at
    from at
),
started as (
    insert into /*schema*/jobs as j (
        id, kind, name, key, state, state_version, turn_id, scheduled_at, created_at, updated_at
    )
    select %(id)s::uuid, %(kind)s::text, %(name)s::text, %(key)s::text, %(state)s::text, %(state_version)s::integer,
        %(turn_id)s::uuid, due.due_at, at.now, at.now
    from at cross join due
    on conflict (kind, name, key) do update
    set status = 'active', reason = null, state = excluded.state, state_version = excluded.state_version,
        turn_id = excluded.turn_id, turn_cause = null, turn_slot = null, turn_began_at = null, scheduled_at = excluded.scheduled_at,
        run_count = 0, execute_count = 0, event_count = 0, error = null, created_at = excluded.created_at,
        updated_at = excluded.updated_at, ended_at = null
    where j.ended_at is not null
    returning /*include job_columns*/
),
inserted as materialized (
    select t.queue
    from started as j
        cross join at
        cross join due as n
        cross join lateral /*include one_turn*/ as t
)
select /*include job_columns*/
from started as j
where (select count(*) from inserted) >= 0;

-- name: lock_job
-- The row of one job, held until the transaction ends; waits for whoever has it. A turn that runs is no such holder.
-- Index: jobs_key.
select /*include job_columns*/
from /*schema*/jobs as j
where j.kind = %(kind)s::text
    and j.name = %(name)s::text
    and j.key = %(key)s::text
for no key update;

-- name: lock_turn_jobs
-- The jobs of claimed turns, held until the transaction ends; skips what others hold. Last, as `is_held` in durable.job:
-- whether a pause keeps the turn from starting. Index: the primary keys.
select e.id, e.fence, j.id,
    j.status = 'paused' and not j.is_triggered and j.turn_cause is distinct from 'trigger'
from unnest(%(id)s::uuid[], %(fence)s::bigint[]) as i (id, fence)
    join /*schema*/executions as e on e.id = any(array[i.id]) and e.fence = any(array[i.fence])
        and e.lease_expires_at is not null
    join /*schema*/jobs as j on j.id = any(array[e.root_id]) and j.turn_id = any(array[e.id])
order by j.id
for no key update of j skip locked;

-- name: take_turns
-- Decide why turns run that have not been taken, or that a pause would hold but for a trigger, and mark their events. With a window these are those of the first batch
-- that was taken before, or else the first that never were; the former stand before the latter, since turns take the
-- first that wait. A trigger stands as long as such batches wait. The jobs are held. Locks what it writes.
-- Index: the primary key of jobs, inbox_pending.
with at as materialized (select /*schema*/clock_now() as now),
due as materialized (
    select j.id, i.max_events,
        /*schema*/events_due_at(
            j.pending_count, j.pending_first_at, j.pending_last_at, i.window_seconds, i.max_wait, i.max_events
        ) as events_at,
        j.scheduled_at, j.is_triggered, i.window_seconds is not null as takes_on_trigger
    from unnest(
        %(job_id)s::uuid[], %(window)s::double precision[], %(max_wait)s::double precision[], %(max_events)s::bigint[]
    ) as i (job_id, window_seconds, max_wait, max_events)
        join /*schema*/jobs as j on j.id = any(array[i.job_id])
    where j.turn_cause is null
        or (j.status = 'paused' and j.is_triggered and j.kind = 'continuous' and j.turn_cause <> 'trigger')
),
decided as materialized (
    select d.id, d.max_events, d.takes_on_trigger,
        case
            when d.is_triggered then 'trigger'
            when d.scheduled_at <= at.now
                and (d.events_at is null or d.events_at > at.now or d.scheduled_at <= d.events_at) then 'schedule'
            when d.events_at <= at.now then 'events'
            else 'nothing' end as cause,
        case when d.takes_on_trigger then (
            select p.batch_id
            from /*schema*/inbox as p
            where p.job_id = d.id and p.status = 'pending'
            order by p.epoch, p.number
            limit 1
        ) end as batch_id
    from due as d cross join at
),
marked as (
    update /*schema*/inbox as i
    set status = 'taken', turn_id = j.turn_id, batch_id = coalesce(i.batch_id, j.turn_id)
    from decided as d
        join /*schema*/jobs as j on j.id = any(array[d.id])
        cross join lateral (
            select p.job_id, p.epoch, p.number
            from /*schema*/inbox as p
            where p.job_id = d.id and p.status = 'pending' and (d.batch_id is null or p.batch_id = d.batch_id)
            order by p.epoch, p.number
            limit case when d.batch_id is null then d.max_events end
        ) as p
    where (d.cause = 'events' or (d.cause = 'trigger' and d.takes_on_trigger))
        and i.job_id = any(array[p.job_id])
        and i.epoch = any(array[p.epoch])
        and i.number = any(array[p.number])
    returning i.job_id
),
counted as materialized (
    select m.job_id, count(*) as taken from marked as m group by m.job_id
)
update /*schema*/jobs as j
set turn_cause = d.cause,
    turn_slot = case when d.cause = 'schedule' then j.scheduled_at else j.turn_slot end,
    turn_began_at = at.now,
    scheduled_at = case when d.cause = 'schedule' then null else j.scheduled_at end,
    is_triggered = (j.is_triggered and d.cause <> 'trigger')
        or (d.takes_on_trigger and left_over.batch_id is not null),
    pending_count = j.pending_count - coalesce(c.taken, 0),
    pending_first_at = case when j.pending_count > coalesce(c.taken, 0) then left_over.first_at end,
    pending_last_at = case when j.pending_count > coalesce(c.taken, 0) then j.pending_last_at end,
    updated_at = at.now
from decided as d
    left join counted as c on c.job_id = d.id
    left join lateral (
        select p.received_at as first_at, p.batch_id
        from /*schema*/inbox as p
        where p.job_id = d.id and p.status = 'pending'
        order by p.epoch, p.number
        offset coalesce(c.taken, 0)
        limit 1
    ) as left_over on true
    cross join at
where j.id = any(array[d.id])
    and d.cause <> 'nothing'
returning j.id;

-- name: taken_turns
-- What turns run on, after `take_turns`. Index: the primary key of jobs, inbox_turn.
select /*include job_columns*/, /*schema*/clock_now(),
    case when j.turn_cause is null then least(j.scheduled_at, /*schema*/events_due_at(
        j.pending_count, j.pending_first_at, j.pending_last_at, i.window_seconds, i.max_wait, i.max_events)) end,
    e.batch_id, e.number, e.event_id, e.payload, e.received_at, e.turn_id
from unnest(
    %(job_id)s::uuid[], %(window)s::double precision[], %(max_wait)s::double precision[], %(max_events)s::bigint[]
) as i (job_id, window_seconds, max_wait, max_events)
    join /*schema*/jobs as j on j.id = any(array[i.job_id])
    left join /*schema*/inbox as e on e.turn_id = any(array[j.turn_id]) and e.status = 'taken'
order by j.id, e.epoch, e.number;

-- name: lock_jobs
-- The jobs that turns end for and send to, held until the transaction ends; skips what others hold.
-- Index: the primary key, jobs_key.
select j.id
from /*schema*/jobs as j
where j.id = any(array(
    select i.id from unnest(%(id)s::uuid[]) as i (id)
    union
    select x.id
    from unnest(%(kind)s::text[], %(name)s::text[], %(key)s::text[]) as k (kind, name, key)
        join /*schema*/jobs as x on x.kind = any(array[k.kind]) and x.name = any(array[k.name])
            and x.key = any(array[k.key])))
order by j.id
for no key update skip locked;

-- name: known_jobs
-- The jobs of keys that are there. Index: jobs_key.
select x.id, k.position
from unnest(%(kind)s::text[], %(name)s::text[], %(key)s::text[], %(position)s::integer[])
    as k (kind, name, key, position)
    join /*schema*/jobs as x on x.kind = any(array[k.kind]) and x.name = any(array[k.name]) and x.key = any(array[k.key]);

-- name: commit_jobs
-- Write the accepted ends of turns to their jobs, which are held, and insert the next turns.
-- A turn that ends its job while events wait begins the next incarnation with these; they are numbered anew by
-- `renew_inboxes`. Locks what it writes.
-- Index: the primary key of jobs, inbox_turn, timers_due.
with at as materialized (select /*schema*/clock_now() as now),
input as materialized (
    select i.*
    from unnest(
        %(job_id)s::uuid[], %(turn)s::uuid[], %(status)s::text[], %(reason)s::text[], %(writes_state)s::boolean[],
        %(state)s::text[], %(state_version)s::integer[], %(runs)s::integer[], %(executes)s::integer[],
        %(error)s::text[], %(writes_schedule)s::boolean[], %(schedule_delay)s::double precision[],
        %(schedule_at)s::timestamptz[], %(events)s::text[], %(window)s::double precision[],
        %(max_wait)s::double precision[], %(max_events)s::bigint[], %(next_id)s::uuid[], %(task_name)s::text[],
        %(task_version)s::integer[], %(queue)s::text[], %(priority)s::smallint[], %(max_attempts)s::integer[],
        %(timeout)s::double precision[]
    ) as i (
        job_id, turn, status, reason, writes_state, state, state_version, runs, executes, error, writes_schedule,
        schedule_delay, schedule_at, events, window_seconds, max_wait, max_events, next_id, task_name, task_version,
        queue, priority, max_attempts, timeout
    )
        join /*schema*/jobs as j on j.id = any(array[i.job_id]) and j.turn_id = any(array[i.turn])
),
deleted as (
    delete from /*schema*/inbox as e
    using input as i
    where i.events = 'consumed'
        and e.event_id is null
        and e.turn_id = any(array[i.turn])
        and e.status = 'taken'
    returning e.number
),
dropped as (
    delete from /*schema*/timers as t
    using input as i
    where i.status = 'terminated' and t.job_id = any(array[i.job_id])
    returning t.id
),
marked as (
    update /*schema*/inbox as e
    set status = case i.events when 'consumed' then 'consumed' when 'dead' then 'dead' else 'pending' end,
        turn_id = case i.events when 'kept' then null else e.turn_id end
    from input as i
    where e.turn_id = any(array[i.turn])
        and e.status = 'taken'
        and (i.events <> 'consumed' or e.event_id is not null)
    returning e.job_id, i.events, e.received_at
),
returned as materialized (
    select m.job_id, count(*) as count, min(m.received_at) as first_at, max(m.received_at) as last_at
    from marked as m
    where m.events = 'kept'
    group by m.job_id
),
died as materialized (
    select m.job_id, count(*) as count
    from marked as m
    where m.events = 'dead'
    group by m.job_id
),
planned as materialized (
    select i.job_id,
        (i.status = 'terminated' and j.pending_count + coalesce(r.count, 0) = 0)
            or (j.kind = 'timer' and f.due_at is null) as is_end,
        i.status = 'terminated' and j.pending_count + coalesce(r.count, 0) > 0 as is_renewed,
        case when j.kind = 'timer' and f.due_at is null then 'terminated'
            when i.status = 'terminated' and j.pending_count + coalesce(r.count, 0) > 0 then 'active'
            when i.status = 'active' and j.status = 'paused' then 'paused'
            when i.status = 'failed' and j.is_triggered then 'active'
            else i.status end as status,
        case
            when j.kind = 'timer' then f.due_at
            when i.status = 'terminated' then null
            when not i.writes_schedule then j.scheduled_at
            when i.schedule_at is not null then i.schedule_at
            when i.schedule_delay is not null then at.now + i.schedule_delay * interval '1 second' end as scheduled_at,
        j.is_triggered and i.status <> 'terminated' as is_triggered,
        j.pending_count + coalesce(r.count, 0) as pending_count,
        least(j.pending_first_at, r.first_at) as pending_first_at,
        greatest(j.pending_last_at, r.last_at) as pending_last_at,
        i.window_seconds, i.max_wait, i.max_events, f.queue, f.priority
    from input as i
        join /*schema*/jobs as j on j.id = any(array[i.job_id])
        left join returned as r on r.job_id = i.job_id
        left join lateral (
            select t.due_at, t.queue, t.priority
            from /*schema*/timers as t
            where j.kind = 'timer' and t.job_id = i.job_id and not t.is_failed
            order by t.due_at, t.id
            limit 1
        ) as f on true
        cross join at
),
next as materialized (
    select p.*,
        case
            when p.is_end then null
            when p.is_triggered then at.now
            when p.status = 'active' then least(p.scheduled_at, /*schema*/events_due_at(
                p.pending_count, p.pending_first_at, p.pending_last_at, p.window_seconds, p.max_wait, p.max_events))
        end as due_at
    from planned as p cross join at
),
written as (
    update /*schema*/jobs as j
    set status = n.status,
        reason = case when not n.is_renewed then i.reason end,
        epoch = j.epoch + case when n.is_end or n.is_renewed then 1 else 0 end,
        state = case when n.is_renewed then null when i.writes_state then i.state else j.state end,
        state_version = case when n.is_renewed or i.writes_state then i.state_version else j.state_version end,
        turn_id = case when n.due_at is not null then i.next_id end,
        turn_cause = null,
        turn_slot = null,
        turn_began_at = null,
        is_triggered = n.is_triggered and not n.is_end,
        scheduled_at = case when not n.is_end then n.scheduled_at end,
        run_count = case when n.is_renewed then 0 else j.run_count + i.runs end,
        execute_count = case when n.is_renewed then 0 else j.execute_count + i.executes end,
        event_count = case when n.is_renewed then n.pending_count else j.event_count end,
        pending_count = case when n.is_end then 0 else n.pending_count end,
        pending_first_at = case when not n.is_end then n.pending_first_at end,
        pending_last_at = case when not n.is_end then n.pending_last_at end,
        error = case when not n.is_renewed then coalesce(i.error, case when i.runs = 0 then j.error end) end,
        created_at = case when n.is_renewed then at.now else j.created_at end,
        updated_at = at.now,
        ended_at = case when n.is_end then at.now end,
        dead_count = j.dead_count + coalesce(d.count, 0)
    from next as n
        join input as i on i.job_id = n.job_id
        left join died as d on d.job_id = n.job_id
        cross join at
    where j.id = any(array[n.job_id])
    returning j.id
),
due as materialized (
    select t.queue, t.due_at
    from (
        select array_agg(i.next_id) as ids, array_agg(i.job_id) as job_ids, array_agg(i.task_name) as names,
            array_agg(i.task_version) as versions, array_agg(coalesce(n.queue, i.queue)) as queues,
            array_agg(coalesce(n.priority, i.priority)) as priorities,
            array_agg(i.max_attempts) as max_attempts, array_agg(i.timeout) as timeouts,
            array_agg(n.due_at) as due_ats
        from next as n join input as i on i.job_id = n.job_id
        where n.due_at is not null
    ) as a
        cross join at
        cross join lateral /*schema*/insert_turns(
            a.ids, a.job_ids, a.names, a.versions, a.queues, a.priorities, a.max_attempts, a.timeouts, a.due_ats, at.now
        ) as t
)
select array(select distinct d.queue from due as d where d.due_at <= (select now from at)),
    (select count(*) from written),
    (select extract(epoch from min(d.due_at) - (select now from at))::double precision
        from due as d where d.due_at > (select now from at)),
    array(select n.job_id from next as n where n.is_renewed);

-- name: renew_inboxes
-- Number the pending events of jobs anew, whose rows are held, and whose incarnations have just begun with these.
-- Locks what it writes. Index: inbox_pending, the primary keys.
update /*schema*/inbox as i
set epoch = p.to_epoch, number = p.to_number
from (
    select e.job_id, e.epoch, e.number, j.epoch as to_epoch,
        row_number() over (partition by e.job_id order by e.epoch, e.number) as to_number
    from unnest(%(job_id)s::uuid[]) as k (job_id)
        join /*schema*/jobs as j on j.id = any(array[k.job_id])
        join /*schema*/inbox as e on e.job_id = any(array[k.job_id]) and e.status = 'pending'
) as p
where i.job_id = any(array[p.job_id])
    and i.epoch = any(array[p.epoch])
    and i.number = any(array[p.number])
returning i.job_id;

-- name: append_events
-- See the function. Index: jobs_key, the primary keys, inbox_event.
select a.nth, a.job_id, a.number, a.is_new, a.is_duplicate, a.pending_count, a.pending_first_at, a.pending_last_at,
    a.due_at, a.scheduled_at, a.ready_queue
from /*schema*/append_events(
    %(waits)s::boolean,
    %(kind)s::text[], %(name)s::text[], %(key)s::text[], %(job_id)s::uuid[], %(event_id)s::text[], %(payload)s::text[],
    %(state_version)s::integer[], %(window)s::double precision[], %(max_wait)s::double precision[],
    %(max_events)s::bigint[], %(dedupe_window)s::double precision[], %(turn_id)s::uuid[], %(task_name)s::text[],
    %(task_version)s::integer[], %(queue)s::text[], %(priority)s::smallint[], %(max_attempts)s::integer[],
    %(timeout)s::double precision[]
) as a
order by a.nth;

-- name: forget_events
-- Delete consumed events whose ids have been remembered long enough. Skips what is locked. Index: inbox_consumed.
delete from /*schema*/inbox as i
where i.ctid = any(array(
    select e.ctid
    from /*schema*/inbox as e
    where e.status = 'consumed' and e.expires_at <= /*schema*/clock_now()
    order by e.expires_at
    limit %(limit)s::bigint
    for update skip locked
))
returning i.number;
