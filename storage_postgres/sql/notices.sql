-- name: emit
-- Store notices as they stand. One that its subscriber has already is left as it is. Locks nothing, but waits for a
-- transaction that is storing the same notice. Index: the primary key of outbox.
insert into /*schema*/outbox (subscriber, id, name, at, subject, kind, task_name, key, data, error, payload)
select n.subscriber, n.id, n.name, at.now, n.subject, n.kind, n.task_name, n.key, n.data, n.error, n.payload
from unnest(
    %(subscriber)s::text[], %(id)s::uuid[], %(name)s::text[], %(subject)s::text[], %(kind)s::text[],
    %(task_name)s::text[], %(key)s::text[], %(data)s::text[], %(error)s::text[], %(payload)s::text[]
) as n (subscriber, id, name, subject, kind, task_name, key, data, error, payload)
    cross join (select /*schema*/clock_now() as now) as at
on conflict do nothing
returning id;

-- name: look_for_notices
-- Whether a subscriber has any, and whether this holder has the right to deliver, so that an idle look writes nothing.
-- Index: outbox_order, the primary key of deliveries.
select exists (select 1 from /*schema*/outbox as o where o.subscriber = %(subscriber)s::text),
    exists (
        select 1
        from /*schema*/deliveries as d
        where d.subscriber = %(subscriber)s::text and d.holder = %(holder)s::text
    );

-- name: hold_delivery
-- Take or keep the right to deliver to a subscriber: free, ours, or let go by its lease; and not put off. The notices
-- are read by a later statement, which sees all that the holder before has deleted. Locks the row of the subscriber.
-- Index: the primary key of deliveries.
insert into /*schema*/deliveries as d (subscriber, holder, lease_expires_at, due_at)
select %(subscriber)s::text, %(holder)s::text, at.now + %(lease)s::double precision * interval '1 second', at.now
from (select /*schema*/clock_now() as now) as at
on conflict (subscriber) do update
set holder = excluded.holder,
    lease_expires_at = excluded.lease_expires_at
where d.due_at <= excluded.due_at
    and (d.holder is null or d.holder = excluded.holder or d.lease_expires_at <= excluded.due_at)
returning d.failure_count;

-- name: first_notices
-- The oldest notices of a subscriber. Index: outbox_order.
select o.id, o.name, o.at, o.subject, o.kind, o.task_name, o.key, o.data, o.error, o.payload
from /*schema*/outbox as o
where o.subscriber = %(subscriber)s::text
order by o.at, o.id
limit %(limit)s::bigint;

-- name: let_delivery_go
-- Give the right to deliver back. Locks the row of the subscriber. Index: the primary key of deliveries.
update /*schema*/deliveries as d
set holder = null
where d.subscriber = %(subscriber)s::text
    and d.holder = %(holder)s::text
returning d.subscriber;

-- name: renew_delivery
-- Extend the right to deliver. Locks the row of the subscriber. Index: the primary key of deliveries.
update /*schema*/deliveries as d
set lease_expires_at = /*schema*/clock_now() + %(lease)s::double precision * interval '1 second'
where d.subscriber = %(subscriber)s::text
    and d.holder = %(holder)s::text
returning d.subscriber;

-- name: delivered
-- Delete notices and forget failures; whoever holds the right now, what has been delivered is so. Locks what it deletes,
-- and the row of the subscriber. Index: the primary keys.
with gone as (
    delete from /*schema*/outbox as o
    where o.subscriber = %(subscriber)s::text
        and o.id = any(%(id)s::uuid[])
)
update /*schema*/deliveries as d
set failure_count = 0
where d.subscriber = %(subscriber)s::text
    and d.holder = %(holder)s::text
    and d.failure_count > 0
returning d.subscriber;

-- name: put_off_delivery
-- Give the right to deliver back after a failure. Locks the row of the subscriber.
-- Index: the primary key of deliveries.
update /*schema*/deliveries as d
set holder = null,
    due_at = /*schema*/clock_now() + %(delay)s::double precision * interval '1 second',
    failure_count = d.failure_count + 1
where d.subscriber = %(subscriber)s::text
    and d.holder = %(holder)s::text
returning d.subscriber;

-- name: undelivered
-- How many notices wait for each subscriber. Reads the index outbox_order whole: it is asked by people, now and then.
select o.subscriber, count(*) from /*schema*/outbox as o group by o.subscriber;

-- name: discard_notices
-- Delete all notices of a subscriber, and the right to deliver them. Locks what it deletes. Index: the primary keys.
with gone as (
    delete from /*schema*/outbox as o where o.subscriber = %(subscriber)s::text returning 1
),
freed as (
    delete from /*schema*/deliveries as d where d.subscriber = %(subscriber)s::text
)
select count(*) from gone;
