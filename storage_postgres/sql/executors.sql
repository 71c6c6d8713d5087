-- name: announce
-- Write what an executor says of itself, and forget those unseen for an hour. Locks what it writes.
-- Index: the primary key of executors; the table is small enough to be read whole.
with forgotten as (
    delete from /*schema*/executors where seen_at < /*schema*/clock_now() - interval '1 hour'
)
insert into /*schema*/executors (id, queues, task_names, running, concurrency, started_at, seen_at)
values (
    %(id)s::text, %(queues)s::text[], %(task_names)s::text[], %(running)s::integer, %(concurrency)s::integer,
    %(started_at)s::timestamptz, /*schema*/clock_now()
)
on conflict (id) do update
set queues = excluded.queues,
    task_names = excluded.task_names,
    running = excluded.running,
    concurrency = excluded.concurrency,
    seen_at = excluded.seen_at
returning id;

-- name: withdraw
-- Forget an executor. Locks its row. Index: the primary key of executors.
delete from /*schema*/executors where id = %(id)s::text returning id;

-- name: executors
-- What all executors last said.
select id, queues, task_names, running, concurrency, started_at, seen_at
from /*schema*/executors
order by started_at, id;

-- name: hint
-- Hints carry a topic and a queue, never data.
select pg_catalog.pg_notify(%(channel)s::text, payload) from unnest(%(payloads)s::text[]) as payload;
