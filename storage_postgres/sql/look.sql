-- name: now
-- The only clock that decides anything.
select /*schema*/clock_now();

-- name: get
-- Records by id. Index: the primary key.
select e.* from /*schema*/executions as e where e.id = any(%(ids)s::uuid[]);

-- name: get_sleeping
-- The record that sleeps, or slept, under a unique id. Index: executions_sleeping.
select e.*
from /*schema*/executions as e
where e.task_name = %(task_name)s::text
    and e.sleeping_id = %(sleeping_id)s::text;

-- name: finished
-- The ends of those that have finished. Index: the primary key.
select e.id, e.status, e.output, e.error
from /*schema*/executions as e
where e.id = any(%(ids)s::uuid[])
    and e.finished_at is not null;

-- name: existing
-- Those of the ids that are stored. Index: the primary key.
select e.id from /*schema*/executions as e where e.id = any(%(ids)s::uuid[]);

-- name: search
-- Newest first, by the time in the id. Index: the primary key, backwards.
select e.*
from /*schema*/executions as e
where (%(statuses)s::text[] is null or e.status = any(%(statuses)s::text[]))
    and (%(task_name)s::text is null or e.task_name = %(task_name)s::text)
    and (%(queue)s::text is null or e.queue = %(queue)s::text)
    and (%(root_id)s::uuid is null or e.root_id = %(root_id)s::uuid)
    and (%(parent_id)s::uuid is null or e.parent_id = %(parent_id)s::uuid)
    and (not %(roots_only)s::boolean or e.parent_id is null)
    and (%(before)s::uuid is null or e.id < %(before)s::uuid)
order by e.id desc
limit %(limit)s::bigint;

-- name: counts
-- Unfinished executions by queue and status, from the partial indexes where those serve.
select e.queue, e.status, count(*)
from /*schema*/executions as e
where e.finished_at is null
group by e.queue, e.status;
