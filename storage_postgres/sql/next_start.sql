-- name: next_start
-- The seconds until a claim finds something that comes due; see the verb. One probe of the index for each level and
-- queue, as `claim` makes them, and for each pool that is open those that `claim_pools` makes. What would be found is
-- bounded by two moments, so nothing is read that the claims of that time do not read as well.
-- A lane of a pool is a key with due work: it counts where all that is due counts, and else its mark has counted before.
-- Locks nothing. Index: executions_ready, executions_pooled, pool_marks_due, pool_lanes_turn.
with at as materialized (
    select s.now,
        -- Never later than now: a clock that was set back must not hide what is to come.
        case when %(after)s::timestamptz is null then '-infinity' else least(%(after)s::timestamptz, s.now) end
            as begins_at,
        s.now + %(within)s::double precision * interval '1 second' as ends_at
    from (select /*schema*/clock_now() as now) as s
),
open_pools as materialized (
    select p.name
    from /*schema*/pools as p
    where p.name = any(%(pools)s::text[]) and not p.is_paused and p.max_parallelism is distinct from 0
),
starts as (
    select due.due_at
    from unnest(%(queues)s::text[], %(priorities)s::smallint[]) as lane (queue, priority)
    cross join lateral (
        select e.due_at
        from /*schema*/executions as e
        where e.status = 'ready'
            and not e.is_pooled
            and e.queue = lane.queue
            and e.priority = lane.priority
            and e.due_at > (select begins_at from at)
            and e.due_at <= (select ends_at from at)
            and e.task_name = any(%(task_names)s::text[])
            and e.record_version <= %(record_version)s::smallint
        order by e.due_at, e.id
        limit 1
    ) as due
    union all
    select due.due_at
    from open_pools as p
    cross join generate_series(-4, 4) as level (priority)
    cross join lateral (
        select e.due_at
        from /*schema*/executions as e
        where e.status = 'ready' and e.is_pooled and e.serial_key is null
            and e.queue = p.name
            and e.priority = level.priority
            and e.due_at > (select begins_at from at)
            and e.due_at <= (select ends_at from at)
            and e.task_name = any(%(task_names)s::text[])
            and e.record_version <= %(record_version)s::smallint
        order by e.due_at, e.id
        limit 1
    ) as due
    union all
    select due.due_at
    from open_pools as p
    cross join lateral (
        select m.due_at
        from /*schema*/pool_marks as m
        where m.pool = p.name
            and m.due_at > (select begins_at from at)
            and m.due_at <= (select ends_at from at)
        order by m.due_at
        limit 1
    ) as due
    union all
    select at.now
    from at
    cross join open_pools as p
    where %(after)s::timestamptz is null
        and exists (select 1 from /*schema*/pool_lanes as l where l.pool = p.name)
)
select (select now from at), case when min(s.due_at) is not null
    then greatest(extract(epoch from min(s.due_at) - (select now from at)), 0)::double precision end
from starts as s;
