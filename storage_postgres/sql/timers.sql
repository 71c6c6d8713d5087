-- fragment: timer_columns
-- The columns of a timer in the order of durable.timer.StoredTimer.
t.id, t.job_id, t.owner, t.name, t.task_name, t.input, t.queue, t.priority, t.timeout, t.due_at, t.interval_seconds,
t.anchor, t.retry_interval, t.attempt, t.error, t.created_at, t.updated_at,
t.is_sequential, t.is_failed

-- name: set_timer
-- See the function. Waits for the owner and for the row of the job, and locks them. Index: jobs_key, the primary keys,
-- inbox_event, timers_name, timers_due.
select /*include timer_columns*/, s.ready_queue
from /*schema*/set_timer(
    %(id)s::uuid, %(job_id)s::uuid, %(kind)s::text, %(job_name)s::text, %(key)s::text, %(owner)s::text,
    %(name)s::text, %(task_name)s::text, %(input)s::text, %(queue)s::text, %(priority)s::smallint, %(timeout)s::double precision,
    %(delay)s::double precision, %(run_at)s::timestamptz, %(interval)s::double precision, %(anchor)s::text,
    %(retry_interval)s::double precision, %(is_sequential)s::boolean, %(remember)s::double precision,
    %(turn_id)s::uuid, %(turn_name)s::text, %(turn_version)s::integer,
    %(turn_attempts)s::integer, %(turn_timeout)s::double precision
) as s cross join lateral (select (s.timer).*) as t;

-- name: cancel_timers
-- See the function. Waits for the owner and for the rows of the jobs, and locks them. Index: the primary keys,
-- timers_owner, timers_name, timers_due.
select /*schema*/cancel_timers(%(id)s::uuid, %(owner)s::text, %(name)s::text);

-- name: get_timer
-- One timer.
-- Index: the primary key.
select /*include timer_columns*/
from /*schema*/timers as t
where t.id = %(id)s::uuid;

-- name: list_timers
-- A page of an owner's timers in order of time. Index: timers_owner, timers_name.
select /*include timer_columns*/
from /*schema*/timers as t
where t.owner = %(owner)s::text
    and (%(name)s::text is null or t.name = %(name)s::text)
    and (%(after_id)s::uuid is null or (t.due_at, t.id) > (%(after_at)s::timestamptz, %(after_id)s::uuid))
order by t.due_at, t.id
limit %(limit)s::bigint;

-- name: take_timers
-- Start the first due timer of each of some taken turns, whose jobs are held. Locks what it writes.
-- Index: the primary keys, timers_due.
with at as materialized (select /*schema*/clock_now() as now)
update /*schema*/timers as t
set attempt = t.attempt + 1, updated_at = at.now
from at
    cross join unnest(%(job_id)s::uuid[]) as i (job_id)
    cross join lateral (
        select f.id
        from /*schema*/timers as f
        where f.job_id = i.job_id and not f.is_failed and f.due_at <= at.now
        order by f.due_at, f.id
        limit 1
    ) as f
where t.id = any(array[f.id])
returning /*include timer_columns*/;

-- name: end_timers
-- Write how the starts of timers ended, whose jobs are held; one that was cancelled or replaced meanwhile is gone.
-- Locks what it writes. Index: the primary key.
with at as materialized (select /*schema*/clock_now() as now),
input as materialized (
    select i.id, i.error, i.delay, i.attempt, i.is_final
    from unnest(
        %(id)s::uuid[], %(error)s::text[], %(delay)s::double precision[], %(attempt)s::integer[],
        %(is_final)s::boolean[]
    ) as i (id, error, delay, attempt, is_final)
),
fired as (
    delete from /*schema*/timers as t
    using input as i
    where t.id = any(array[i.id]) and i.error is null and t.interval_seconds is null
    returning t.id
),
kept as (
    update /*schema*/timers as t
    set due_at = case
            when i.is_final then t.due_at
            when i.error is not null then at.now + i.delay * interval '1 second'
            when t.anchor = 'completion' then at.now + t.interval_seconds * interval '1 second'
            else t.created_at + interval '1 second' * t.interval_seconds * (1 + floor(
                extract(epoch from at.now - t.created_at) / t.interval_seconds::numeric))::double precision end,
        attempt = case when i.error is null then 0 else i.attempt end,
        error = i.error,
        is_failed = i.is_final,
        updated_at = at.now
    from input as i cross join at
    where t.id = any(array[i.id]) and (i.error is not null or t.interval_seconds is not null)
    returning t.id
)
select (select count(*) from fired) + (select count(*) from kept);
