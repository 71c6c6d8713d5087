-- fragment: turn_taken
-- How many events the live turn of the job `j` has taken. Index: inbox_turn.
(select count(*) from /*schema*/inbox as i where i.turn_id = any(array[j.turn_id]) and i.status = 'taken')

-- name: get_jobs
-- Jobs by key, with their live turns. Index: jobs_key, the primary key of executions, inbox_turn.
select /*include job_columns*/, e.status, e.due_at, e.attempts, e.error, /*include turn_taken*/
from unnest(%(kind)s::text[], %(name)s::text[], %(key)s::text[]) as k (kind, name, key)
    join /*schema*/jobs as j on j.kind = any(array[k.kind]) and j.name = any(array[k.name]) and j.key = any(array[k.key])
    left join /*schema*/executions as e on e.id = any(array[j.turn_id]);

-- fragment: job_filter
-- What a list shows of the jobs `j`.
case when %(kind)s::text is null then j.kind <> 'timer' else j.kind = %(kind)s::text end
    and (%(name)s::text is null or j.name = %(name)s::text)
    and (%(key_prefix)s::text is null or starts_with(j.key, %(key_prefix)s::text))
    and (%(kinds)s::text[] is null or j.kind = any(%(kinds)s::text[]))
    and (%(has_turn)s::boolean is null or (j.turn_id is not null) = %(has_turn)s::boolean)
    and (%(has_dead)s::boolean is null or (j.dead_count > 0) = %(has_dead)s::boolean)
    and case when %(statuses)s::text[] is null then j.status not in ('terminated', 'cleared')
        else j.status = any(%(statuses)s::text[]) end

-- fragment: job_page
-- Where a page of the jobs `j` begins. Bounds, not conditions that may be absent: only so does the scan begin there too.
(j.kind, j.name, j.key) > (
        coalesce(%(after_kind)s::text, %(kind)s::text, ''),
        coalesce(%(after_name)s::text, case when %(kind)s::text is not null then %(name)s::text end, ''),
        coalesce(%(after_key)s::text, ''))
    and j.kind <= coalesce(%(kind)s::text, 'task')

-- name: list_jobs
-- A page of jobs by kind, name and key. Index: jobs_key; jobs_unusual where only unusual statuses are asked for; the
-- primary key of executions, inbox_turn.
select /*include job_columns*/, e.status, e.due_at, e.attempts, e.error, /*include turn_taken*/
from (
    select /*include job_columns*/
    from /*schema*/jobs as j
    where /*include job_filter*/
        and /*include job_page*/
    order by j.kind, j.name, j.key
    limit %(limit)s::bigint
) as j
    left join /*schema*/executions as e on e.id = any(array[j.turn_id])
order by j.kind, j.name, j.key;

-- name: list_dead_jobs
-- The same of jobs with dead events. A statement of its own, so that its condition is known whatever the parameters are.
-- Index: jobs_dead, the primary key of executions, inbox_turn.
select /*include job_columns*/, e.status, e.due_at, e.attempts, e.error, /*include turn_taken*/
from (
    select /*include job_columns*/
    from /*schema*/jobs as j
    where j.dead_count > 0
        and /*include job_filter*/
        and /*include job_page*/
    order by j.kind, j.name, j.key
    limit %(limit)s::bigint
) as j
    left join /*schema*/executions as e on e.id = any(array[j.turn_id])
order by j.kind, j.name, j.key;

-- name: count_jobs
-- How many jobs a list would show. Index: as list_jobs.
select count(*)
from /*schema*/jobs as j
where /*include job_filter*/;

-- name: count_dead_jobs
-- The same of jobs with dead events. Index: jobs_dead.
select count(*)
from /*schema*/jobs as j
where j.dead_count > 0
    and /*include job_filter*/;

-- name: pending_events
-- The events of a job that no turn has consumed. Index: jobs_key, the primary key of inbox.
select i.number, i.event_id, i.payload, i.received_at, i.turn_id
from /*schema*/jobs as j
    join /*schema*/inbox as i on i.job_id = j.id and i.status in ('pending', 'taken')
where j.kind = %(kind)s::text
    and j.name = %(name)s::text
    and j.key = %(key)s::text
order by i.epoch, i.number;

-- name: event_end
-- What became of an event. Index: jobs_key, inbox_event.
select i.number, i.turn_id, i.status in ('consumed', 'dead')
from /*schema*/jobs as j
    join /*schema*/inbox as i on i.job_id = j.id
where j.kind = %(kind)s::text
    and j.name = %(name)s::text
    and j.key = %(key)s::text
    and i.event_id = %(event_id)s::text;
