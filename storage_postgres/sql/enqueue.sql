-- name: enqueue
-- Insert new executions, in the order of the arrays. A row whose id, idempotency key or sleeping id is there is left out of
-- the answer; `existing_rows` then tells what is there. Locks nothing, but waits for a transaction that is inserting the
-- same key, as long as `may_wait` says. Index: the unique ones, which find what is there.
with at as materialized (select /*schema*/clock_now() as now, /*include may_wait*/),
input as (
    select *
    from unnest(
        %(id)s::uuid[], %(root_id)s::uuid[], %(parent_id)s::uuid[], %(child_index)s::integer[],
        %(is_finalize)s::boolean[], %(depth)s::integer[], %(kind)s::text[], %(task_name)s::text[],
        %(task_version)s::integer[], %(queue)s::text[], %(priority)s::smallint[], %(input)s::text[],
        %(idempotency_key)s::text[], %(idempotency_hash)s::text[], %(sleeping_id)s::text[], %(retry)s::text[],
        %(max_attempts)s::integer[], %(max_deliveries)s::integer[], %(timeout)s::double precision[],
        %(delay)s::double precision[], %(run_at)s::timestamptz[], %(is_pooled)s::boolean[], %(serial_key)s::text[],
        %(on_complete)s::text[], %(outlives_parent)s::boolean[]
    ) as i (
        id, root_id, parent_id, child_index, is_finalize, depth, kind, task_name, task_version, queue, priority,
        input, idempotency_key, idempotency_hash, sleeping_id, retry, max_attempts, max_deliveries, timeout, delay,
        run_at, is_pooled, serial_key, on_complete, outlives_parent
    )
)
insert into /*schema*/executions (
    id, root_id, parent_id, child_index, is_finalize, depth, kind, task_name, task_version, queue, priority,
    input, idempotency_key, idempotency_hash, sleeping_id, retry, max_attempts, max_deliveries, timeout, delay,
    record_version, status, created_at, due_at, wait_expires_at, started_at, updated_at, is_pooled, serial_key,
    on_complete, outlives_parent
)
select i.id, i.root_id, i.parent_id, i.child_index, i.is_finalize, i.depth, i.kind, i.task_name, i.task_version,
    i.queue, i.priority, i.input, i.idempotency_key, i.idempotency_hash, i.sleeping_id, i.retry, i.max_attempts,
    i.max_deliveries, i.timeout, i.delay, %(record_version)s::smallint,
    case when i.kind = 'sleeping' then 'waiting' else 'ready' end,
    at.now,
    greatest(coalesce(i.run_at, at.now + i.delay * interval '1 second'), at.now),
    case when i.kind = 'sleeping' then at.now + (i.delay + i.timeout) * interval '1 second' end,
    case when i.kind = 'sleeping' then at.now end,
    at.now, i.is_pooled, i.serial_key, i.on_complete, i.outlives_parent
from input as i cross join at
on conflict do nothing
returning id;

-- name: enqueue_alike
-- As `enqueue`, of roots that differ in their input alone, as those of one `enqueue_many` do: two arrays to read and not 25
-- take a quarter of the time. Gives how many these are, and fails where one of the ids is there: to look for them first,
-- as `on conflict` does, takes a fifth of the time. What all of them share is worked out once, the rules of its domains
-- included. Locks nothing, but may wait as `enqueue` does. Index: the primary key.
with at as materialized (
    select x.now,
        greatest(coalesce(%(run_at)s::timestamptz, x.now + %(delay)s::double precision * interval '1 second'), x.now)
            as due_at,
        %(kind)s::text::/*schema*/execution_kind as kind, 'ready'::/*schema*/execution_status as status,
        'run'::/*schema*/execution_phase as phase, 'idle'::/*schema*/execution_close_status as close_status,
        %(priority)s::smallint::/*schema*/execution_priority as priority
    from (select /*schema*/clock_now() as now offset 0) as x
),
inserted as (
    insert into /*schema*/executions (
        id, root_id, created_at, due_at, updated_at, delay, task_version, max_attempts, max_deliveries, priority,
        record_version, is_pooled, status, kind, phase, close_status, queue, task_name, input, timeout, serial_key,
        retry, on_complete
    )
    select i.id, i.id, at.now, at.due_at, at.now, %(delay)s::double precision, %(task_version)s::integer,
        %(max_attempts)s::integer, %(max_deliveries)s::integer, at.priority, %(record_version)s::smallint,
        %(is_pooled)s::boolean, at.status, at.kind, at.phase, at.close_status, %(queue)s::text, %(task_name)s::text,
        i.input, %(timeout)s::double precision, %(serial_key)s::text, %(retry)s::text, %(on_complete)s::text
    from unnest(%(id)s::uuid[], %(input)s::text[]) as i (id, input) cross join at
    returning 1
)
select count(*) from inserted;

-- name: enqueue_lone
-- As `enqueue_alike`, of a single row: a root whose id alone may be there already, and then it fails. Takes the server a fifth
-- less than `enqueue_one`, which looks into every unique index before it inserts. Locks nothing, but may wait as `enqueue`
-- does. Index: the primary key.
insert into /*schema*/executions (
    id, root_id, created_at, due_at, updated_at, delay, task_version, max_attempts, max_deliveries, priority,
    record_version, is_pooled, status, kind, queue, task_name, input, timeout, serial_key, retry, on_complete
)
select %(id)s::uuid, %(id)s::uuid, at.now,
    greatest(coalesce(%(run_at)s::timestamptz, at.now + %(delay)s::double precision * interval '1 second'), at.now),
    at.now, %(delay)s::double precision, %(task_version)s::integer, %(max_attempts)s::integer,
    %(max_deliveries)s::integer, %(priority)s::smallint, %(record_version)s::smallint, %(is_pooled)s::boolean, 'ready',
    %(kind)s::text, %(queue)s::text, %(task_name)s::text, %(input)s::text, %(timeout)s::double precision,
    %(serial_key)s::text, %(retry)s::text, %(on_complete)s::text
from (select /*schema*/clock_now() as now offset 0) as at
returning 1;

-- name: enqueue_one
-- As `enqueue`, of a single row: to set up 25 arrays takes the server longer than to insert it. Locks nothing, but may wait
-- as `enqueue` does. Index: the unique ones.
insert into /*schema*/executions (
    id, root_id, parent_id, child_index, is_finalize, depth, kind, task_name, task_version, queue, priority,
    input, idempotency_key, idempotency_hash, sleeping_id, retry, max_attempts, max_deliveries, timeout, delay,
    record_version, status, created_at, due_at, wait_expires_at, started_at, updated_at, is_pooled, serial_key,
    on_complete, outlives_parent
)
select %(id)s::uuid, %(root_id)s::uuid, %(parent_id)s::uuid, %(child_index)s::integer, %(is_finalize)s::boolean,
    %(depth)s::integer, %(kind)s::text, %(task_name)s::text, %(task_version)s::integer, %(queue)s::text,
    %(priority)s::smallint, %(input)s::text, %(idempotency_key)s::text, %(idempotency_hash)s::text,
    %(sleeping_id)s::text, %(retry)s::text, %(max_attempts)s::integer, %(max_deliveries)s::integer,
    %(timeout)s::double precision, %(delay)s::double precision, %(record_version)s::smallint,
    case when %(kind)s::text = 'sleeping' then 'waiting' else 'ready' end,
    at.now,
    greatest(coalesce(%(run_at)s::timestamptz, at.now + %(delay)s::double precision * interval '1 second'), at.now),
    case when %(kind)s::text = 'sleeping' then at.now
        + (%(delay)s::double precision + %(timeout)s::double precision) * interval '1 second' end,
    case when %(kind)s::text = 'sleeping' then at.now end,
    at.now, %(is_pooled)s::boolean, %(serial_key)s::text, %(on_complete)s::text, %(outlives_parent)s::boolean
from (select /*schema*/clock_now() as now offset 0) as at
on conflict do nothing
returning id;

-- name: enqueue_started
-- As `enqueue_one`, of a root without a key that the executor of the same process starts at once: as it would stand after
-- its claim, so that there is one commit and not two. Fails where its id is there. Locks nothing. Index: the primary key.
insert into /*schema*/executions (
    id, root_id, kind, task_name, task_version, queue, priority, input, retry, max_attempts, max_deliveries, timeout,
    on_complete, record_version, status, fence, attempts, deliveries, executor_id, lease_expires_at,
    created_at, due_at, started_at, updated_at
)
select %(id)s::uuid, %(id)s::uuid, %(kind)s::text, %(task_name)s::text, %(task_version)s::integer, %(queue)s::text,
    %(priority)s::smallint, %(input)s::text, %(retry)s::text, %(max_attempts)s::integer, %(max_deliveries)s::integer,
    %(timeout)s::double precision, %(on_complete)s::text, %(record_version)s::smallint, 'running', 1, 1, 1,
    %(executor_id)s::text, at.now + %(lease)s::double precision * interval '1 second', at.now, at.now, at.now, at.now
from (select /*schema*/clock_now() as now offset 0) as at
returning case when kind = 'workflow' then created_at end;

-- name: existing_rows
-- What stands in the way of the rows that `enqueue` left out: one answer for each, by its position.
-- Index: the primary key, executions_idempotency, executions_sleeping.
select i.position, e.id,
    case
        when e.id = i.id then true
        when e.rank = 3 then false
        else e.idempotency_hash is not distinct from i.idempotency_hash
    end as is_same
from unnest(
    %(position)s::integer[], %(id)s::uuid[], %(task_name)s::text[], %(idempotency_key)s::text[],
    %(idempotency_hash)s::text[], %(sleeping_id)s::text[]
) as i (position, id, task_name, idempotency_key, idempotency_hash, sleeping_id)
cross join lateral (
    select x.id, x.idempotency_hash, x.rank
    from (
        select a.id, a.idempotency_hash, 1 as rank
        from /*schema*/executions as a where a.id = i.id
        union all
        select b.id, b.idempotency_hash, 2
        from /*schema*/executions as b
        where b.task_name = i.task_name and b.idempotency_key = i.idempotency_key
        union all
        select c.id, c.idempotency_hash, 3
        from /*schema*/executions as c
        where c.task_name = i.task_name and c.sleeping_id = i.sleeping_id
    ) as x
    order by x.rank
    limit 1
) as e;
