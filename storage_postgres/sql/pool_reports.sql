-- fragment: end_counts
-- What ends in a pool count as; durable.memory.pool_counts counts the same.
e.pool, e.task_name, e.at, case when e.status = 'completed' then e.ends else 0 end as completed,
    case when e.status in ('failed', 'timed_out', 'finalize_failed') then e.ends else 0 end as failed,
    case when e.status = 'cancelled' then e.ends else 0 end as cancelled,
    case when e.was_running and e.status <> 'cancelled' then e.ends else 0 end as attempts,
    case when e.is_retry or e.was_running and e.status in ('failed', 'timed_out', 'finalize_failed')
        then e.ends else 0 end as failures,
    case when e.is_retry then e.ends else 0 end as retries, e.starts, e.start_lag, e.longest_start_lag

-- name: pool_tallies
-- What waits and runs in pools just now, and what ended in the last `over` seconds, by task; up to three rows of each
-- task. Reads what is unfinished in these pools, and of what has ended the counts alone. `offset 0` keeps one probe of an
-- index for each pool, and the orders keep it to the index that has them. Index: executions_pooled, executions_keyed, executions_keyed_again, executions_pool_running,
-- pool_counts_at, pool_ends_at; the primary key of pools.
with at as materialized (
    select now, now - %(over)s::double precision * interval '1 second' as since
    from (select /*schema*/clock_now() as now) as clock
),
asked as materialized (
    select n.pool from unnest(%(pools)s::text[]) as n (pool)
    union
    select p.name from /*schema*/pools as p where %(pools)s::text[] is null
),
ended as materialized (
    select c.*
    from asked
        cross join lateral (
            select e.*
            from /*schema*/pool_counts as e
            where e.pool = asked.pool and e.at > (select since from at)
            order by e.at
            offset 0
        ) as c
    union all
    select c.*
    from asked
        cross join lateral (
            select /*include end_counts*/
            from /*schema*/pool_ends as e
            where e.pool = asked.pool and e.at > (select since from at)
            order by e.at
            offset 0
        ) as c
)
select a.pool, e.task_name, count(*) filter (where e.due_at <= at.now), count(*) filter (where e.due_at > at.now),
    0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::double precision,
    0::double precision
from asked as a
    cross join at
    cross join lateral (
        select r.task_name, r.due_at
        from /*schema*/executions as r
        where r.status = 'ready' and r.is_pooled and r.serial_key is null and r.queue = a.pool
        union all
        select r.task_name, r.due_at
        from /*schema*/executions as r
        where r.status = 'ready' and r.serial_key is not null and r.started_at is null and r.queue = a.pool
        union all
        select r.task_name, r.due_at
        from /*schema*/executions as r
        where r.status = 'ready' and r.serial_key is not null and r.started_at is not null and r.queue = a.pool
    ) as e
group by a.pool, e.task_name
union all
select a.pool, e.task_name, 0, 0, count(*), 0, 0, 0, 0, 0, 0, count(l.seconds), coalesce(sum(l.seconds), 0),
    coalesce(max(l.seconds), 0)
from asked as a
    cross join at
    cross join lateral (
        select r.task_name, r.phase, r.attempts, r.iteration, r.started_at, r.due_at
        from /*schema*/executions as r
        where r.status = 'running' and r.is_pooled and r.queue = a.pool
        order by r.serial_key
        offset 0
    ) as e
    cross join lateral (
        select case
            when e.phase = 'run' and e.attempts = 1 and e.iteration = 0 and e.started_at > at.since
            then greatest(extract(epoch from e.started_at - e.due_at), 0)::double precision end as seconds
    ) as l
group by a.pool, e.task_name
union all
select c.pool, c.task_name, 0, 0, 0, sum(c.completed)::bigint, sum(c.failed)::bigint, sum(c.cancelled)::bigint,
    sum(c.attempts)::bigint, sum(c.failures)::bigint, sum(c.retries)::bigint, sum(c.starts)::bigint, sum(c.start_lag),
    max(c.longest_start_lag)
from ended as c
group by c.pool, c.task_name;

-- name: take_pool_reports
-- Those of the pools that were not reported in this minute of the clock, and how many seconds that was ago. Whoever has
-- them has them alone until its transaction ends: skips what is locked. Index: the primary key of pool_reports.
with at as materialized (select /*schema*/clock_now() as now),
due as materialized (
    select r.pool, r.reported_at
    from /*schema*/pool_reports as r
    where r.pool = any(%(pools)s::text[])
        and r.reported_at < (select date_trunc('minute', now, 'UTC') from at)
    order by r.pool
    for update skip locked
)
update /*schema*/pool_reports as r
set reported_at = at.now
from due
    cross join at
where r.pool = due.pool
returning r.pool, extract(epoch from at.now - due.reported_at)::double precision;

-- name: sum_pool_counts
-- Sum the ends in pools up by task and minute, at most `limit` of a pool, and forget sums that no report asks for; gives
-- what was summed up. The caller holds the rows of `take_pool_reports`, so nobody else deletes: locks what it deletes.
-- Index: pool_ends_at, pool_counts_at.
with taken as (
    delete from /*schema*/pool_ends as e
    where e.ctid = any(array(
        select s.row_id
        from unnest(%(pools)s::text[]) as n (pool)
        cross join lateral (
            select d.ctid as row_id
            from /*schema*/pool_ends as d
            where d.pool = n.pool
            order by d.at
            limit %(limit)s::bigint
        ) as s
    ))
    returning e.*
),
counted as materialized (
    select /*include end_counts*/
    from taken as e
),
summed as (
    insert into /*schema*/pool_counts (
        pool, task_name, at, completed, failed, cancelled, attempts, failures, retries, starts, start_lag,
        longest_start_lag
    )
    select c.pool, c.task_name, max(c.at), sum(c.completed), sum(c.failed), sum(c.cancelled), sum(c.attempts),
        sum(c.failures), sum(c.retries), sum(c.starts), sum(c.start_lag), max(c.longest_start_lag)
    from counted as c
    group by c.pool, c.task_name, date_trunc('minute', c.at, 'UTC')
),
forgotten as (
    delete from /*schema*/pool_counts as c
    where c.ctid = any(array(
        select s.row_id
        from unnest(%(pools)s::text[]) as n (pool)
        cross join lateral (
            select d.ctid as row_id
            from /*schema*/pool_counts as d
            where d.pool = n.pool
                and d.at <= /*schema*/clock_now() - %(kept)s::double precision * interval '1 second'
            order by d.at
            limit %(limit)s::bigint
        ) as s
    ))
)
select c.pool, c.task_name, 0::bigint, 0::bigint, 0::bigint, sum(c.completed)::bigint, sum(c.failed)::bigint,
    sum(c.cancelled)::bigint, sum(c.attempts)::bigint, sum(c.failures)::bigint, sum(c.retries)::bigint,
    sum(c.starts)::bigint, sum(c.start_lag), max(c.longest_start_lag)
from counted as c
group by c.pool, c.task_name;
