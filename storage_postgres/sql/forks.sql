-- name: hold_source
-- Keep a workflow from writing its history, and from being deleted, while that is copied. Locks it. Index: the primary key.
select e.id
from /*schema*/executions as e
where e.id = %(id)s::uuid
    and e.kind = 'workflow'
for share;

-- name: begin_fork
-- Let a workflow that was just made go on from where another is. Locks what it writes. Index: the primary key.
update /*schema*/executions as e
set fence = 1,
    iteration = s.iteration,
    run_output = s.run_output
from /*schema*/executions as s
where e.id = %(id)s::uuid
    and s.id = %(source)s::uuid
returning e.id;

-- name: copy_history
-- Give a workflow that was just made the history of another, up to a seq, with the messages that it names; without the
-- entries that are left out, and with the output and detail that some are to have instead. Locks nothing.
-- Index: the primary keys.
insert into /*schema*/history (execution_id, seq, kind, key, output, error, detail, at)
select %(id)s::uuid, h.seq, h.kind, h.key, coalesce(r.output, h.output, m.payload), h.error, coalesce(r.detail, h.detail),
    h.at
from /*schema*/history as h
    left join /*schema*/messages as m
        on m.execution_id = h.execution_id and m.number = (h.detail::json ->> 'number')::integer
    left join unnest(%(seq)s::integer[], %(output)s::text[], %(detail)s::text[]) as r (seq, output, detail)
        on r.seq = h.seq
where h.execution_id = %(source)s::uuid
    and (%(before)s::integer is null or h.seq < %(before)s::integer)
    and h.seq <> all(%(left_out)s::integer[])
returning seq;

-- name: copy_chunks
-- Give a workflow that was just made the streamed output of another, but for the pieces that entries from a seq on tell
-- of; null means none. The transaction holds the other. Locks nothing. Index: the primary keys.
with later as materialized (
    select coalesce(sum((h.detail::json ->> 'pieces')::integer), 0) as pieces
    from /*schema*/history as h
    where h.execution_id = %(source)s::uuid
        and h.seq >= %(before)s::integer
),
kept as materialized (
    select coalesce((
        select c.number
        from /*schema*/chunks as c
        where c.execution_id = %(source)s::uuid
        order by c.number desc
        limit 1), 0) - later.pieces as last
    from later
)
insert into /*schema*/chunks (execution_id, number, payload, at)
select %(id)s::uuid, c.number, c.payload, c.at
from /*schema*/chunks as c
where c.execution_id = %(source)s::uuid
    and c.number <= (select kept.last from kept)
returning number;

-- name: copy_values
-- Give a workflow that was just made the values that another has published before its run began, as the first entry of
-- its history tells; those of this run are published by a replay. Locks nothing. Index: the primary keys.
insert into /*schema*/published (execution_id, key, value, version, at)
select %(id)s::uuid, p.key, p.value, p.version, p.at
from /*schema*/published as p
where p.execution_id = %(source)s::uuid
    and p.at < (
        select (h.detail::json ->> 'at')::timestamptz
        from /*schema*/history as h
        where h.execution_id = %(source)s::uuid
        order by h.seq
        limit 1)
returning key;
