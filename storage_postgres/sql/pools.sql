-- name: ensure_pools
-- Store pools that are not there; a stored one keeps what it was configured to. The first report is that of the minute after this.
-- Locks nothing, but waits for a transaction that is inserting the same name. Index: the primary key of pools.
with stored as (
    insert into /*schema*/pools (
        name, max_parallelism, max_per_key, keep_order, rate_tokens, rate_period, is_paused, updated_at
    )
    select i.name, i.max_parallelism, i.max_per_key, i.keep_order, i.rate_tokens, i.rate_period, i.is_paused,
        at.now
    from unnest(
        %(name)s::text[], %(max_parallelism)s::integer[], %(max_per_key)s::integer[], %(keep_order)s::boolean[],
        %(rate_tokens)s::integer[], %(rate_period)s::double precision[], %(is_paused)s::boolean[]
    ) as i (name, max_parallelism, max_per_key, keep_order, rate_tokens, rate_period, is_paused)
        cross join (select /*schema*/clock_now() as now) as at
    order by i.name
    on conflict do nothing
    returning name, updated_at
)
insert into /*schema*/pool_reports (pool, reported_at)
select s.name, s.updated_at
from stored as s
order by s.name
on conflict do nothing
returning pool;

-- name: configure_pool
-- Change the named fields of a pool for everybody. What started under a rate before counts in a new one.
-- Locks the pool: waits for the claim that holds it. Index: the primary key of pools.
update /*schema*/pools as p
set max_parallelism = case
        when 'max_parallelism' = any(%(fields)s::text[]) then %(max_parallelism)s::integer else p.max_parallelism end,
    max_per_key = case
        when 'max_per_key' = any(%(fields)s::text[]) then %(max_per_key)s::integer else p.max_per_key end,
    keep_order = case
        when 'keep_order' = any(%(fields)s::text[]) then %(keep_order)s::boolean else p.keep_order end,
    rate_tokens = case
        when 'rate_tokens' = any(%(fields)s::text[]) then %(rate_tokens)s::integer else p.rate_tokens end,
    rate_period = case
        when 'rate_period' = any(%(fields)s::text[]) then %(rate_period)s::double precision else p.rate_period end,
    is_paused = case
        when 'is_paused' = any(%(fields)s::text[]) then %(is_paused)s::boolean else p.is_paused end,
    updated_at = at.now
from (select /*schema*/clock_now() as now) as at
where p.name = %(name)s::text
returning p.name, p.max_parallelism, p.max_per_key, p.keep_order, p.rate_tokens, p.rate_period, p.is_paused;

-- name: pools
-- Pools by name; null means all. Index: the primary key of pools.
select p.name, p.max_parallelism, p.max_per_key, p.keep_order, p.rate_tokens, p.rate_period, p.is_paused
from /*schema*/pools as p
where %(names)s::text[] is null or p.name = any(%(names)s::text[])
order by p.name;

-- name: claim_pooled
-- Give ready executions of pools to one executor, within the limits of each pool; see the function `claim_pools`.
-- Locks each pool with work and what it takes, skips what is locked. Index: executions_pooled, executions_keyed,
-- executions_keyed_again, executions_pool_running, and those of lanes and marks.
select c.id, c.fence, c.kind, c.task_name, c.task_version, c.phase, c.input, c.attempts, c.deliveries, c.iteration,
    c.max_attempts, c.timeout, c.retry, c.run_output, c.error, c.root_id, c.parent_id, c.child_index, c.is_finalize,
    c.depth, c.queue, c.priority, date_part('epoch', c.started_at - c.created_at) as age,
    c.children_count, c.on_complete, c.message_count, c.active_children_count,
    case when c.kind = 'workflow' then c.created_at end as created_at, c.reason is not null as is_suspect,
    case when c.id is null then c.delay end as wait
from /*schema*/claim_pools(
    %(pools)s::text[], %(task_names)s::text[], %(record_version)s::smallint, %(executor_id)s::text,
    %(lease)s::double precision, %(limit)s::bigint
) as c
order by c.id is null, c.priority desc, c.due_at, c.id;

-- name: mark_busy_keys
-- Have a claim look again at the keys of a pool that may be held back by what is running or waits for its retry: their
-- limit has changed. In a statement after the change, to see what the last claim before it has taken. Locks nothing.
-- Index: executions_pool_running, executions_keyed_again.
insert into /*schema*/pool_marks (pool, serial_key, due_at)
select distinct %(name)s::text, b.serial_key, /*schema*/clock_now()
from (
    select e.serial_key
    from /*schema*/executions as e
    where e.status = 'running' and e.is_pooled and e.queue = %(name)s::text and e.serial_key is not null
    union all
    select e.serial_key
    from /*schema*/executions as e
    where e.status = 'ready' and e.serial_key is not null and e.started_at is not null and e.queue = %(name)s::text
) as b
returning serial_key;
