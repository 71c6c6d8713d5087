-- name: retire
-- Delete trees whose every execution has been closed for so long. One page of the records in id order, which is
-- that of their creation, so that it costs no index of its own: nothing younger than the time is looked at, and few old
-- records outlive it. A turn is a tree of its own, but stays while its job names it, or an event that died in it. A page holds at most `limit` records, and takes trees until their children are more than that.
-- Locks the roots it takes, skips what is locked; nothing writes to a closed child. Index: the primary key,
-- executions_children, inbox_dead, the primary keys of what workflows keep.
with recursive at as materialized (
    select /*schema*/clock_now() - %(older_than)s::double precision * interval '1 second' as end_at
),
page as materialized (
    select e.id, e.root_id, e.kind, e.parent_id, e.close_status, e.closed_at, e.children_count
    from /*schema*/executions as e
    where e.id > %(after)s::uuid
        and e.id < (lpad(to_hex((extract(epoch from (select end_at from at)) * 1000)::bigint + 1), 12, '0')
            || repeat('0', 20))::uuid
    order by e.id
    limit %(limit)s::bigint
),
sized as materialized (
    select p.id, sum(p.children_count) over (order by p.id) - p.children_count as children_before
    from page as p
    where p.parent_id is null
        and p.close_status = 'closed'
        and p.closed_at <= (select end_at from at)
        and (p.kind <> 'turn' or (
            not exists (
                select 1 from /*schema*/jobs as j where j.id = any(array[p.root_id]) and j.turn_id = any(array[p.id]))
            and not exists (
                select 1
                from /*schema*/inbox as i
                where i.job_id = any(array[p.root_id]) and i.turn_id = any(array[p.id]) and i.status = 'dead')))
),
roots as materialized (
    select e.id
    from /*schema*/executions as e
    where e.id = any(array(select s.id from sized as s where s.children_before < %(limit)s::bigint))
        and e.close_status = 'closed'
    for update skip locked
),
tree as (
    select r.id as root_id, r.id, true as is_over
    from roots as r
    union all
    select t.root_id, c.id, c.close_status = 'closed' and c.closed_at <= (select end_at from at)
    from tree as t
        cross join lateral (
            select e.id, e.close_status, e.closed_at
            from /*schema*/executions as e
            where e.parent_id = t.id
            offset 0
        ) as c
),
deleted as (
    delete from /*schema*/executions as e
    where e.id = any(array(
        select t.id
        from tree as t
        where t.root_id not in (select k.root_id from tree as k where not k.is_over)
    ))
    returning e.id, e.kind
),
workflows as materialized (
    select d.id from deleted as d where d.kind = 'workflow'
),
entries_gone as (
    delete from /*schema*/history as h using workflows as w where h.execution_id = any(array[w.id])
),
messages_gone as (
    delete from /*schema*/messages as m using workflows as w where m.execution_id = any(array[w.id])
),
values_gone as (
    delete from /*schema*/published as p using workflows as w where p.execution_id = any(array[w.id])
),
chunks_gone as (
    delete from /*schema*/chunks as c using workflows as w where c.execution_id = any(array[w.id])
),
approvals_gone as (
    delete from /*schema*/approvals as a using workflows as w where a.execution_id = any(array[w.id])
)
select (select count(*) from deleted),
    case when (select count(*) from page) = %(limit)s::bigint
            or exists (select 1 from sized as s where s.children_before >= %(limit)s::bigint) then (
        select p.id
        from page as p
        where p.id < all(array(select s.id from sized as s where s.children_before >= %(limit)s::bigint))
        order by p.id desc
        limit 1
    ) end;

-- name: retire_jobs
-- Delete jobs that ended so long ago, with what is left of their inboxes and timers that failed. Locks what it takes, skips
-- what is locked: who uses the key again has the row first, or begins with a new one. Index: jobs_ended, the primary keys,
-- timers_due.
with gone as (
    delete from /*schema*/jobs as j
    where j.id = any(array(
        select e.id
        from /*schema*/jobs as e
        where e.ended_at <= /*schema*/clock_now() - %(older_than)s::double precision * interval '1 second'
        order by e.ended_at
        limit %(limit)s::bigint
        for update skip locked
    ))
    returning j.id
),
emptied as (
    delete from /*schema*/inbox as i where i.job_id = any(array(select gone.id from gone))
),
dropped as (
    delete from /*schema*/timers as t where t.job_id = any(array(select gone.id from gone))
)
select count(*) from gone;

-- name: retire_wakeups
-- Forget wake-ups that met nothing for so long. Locks what it takes, skips what is locked. Index: none; there are few.
delete from /*schema*/wakeups as w
where w.ctid = any(array(
    select k.ctid
    from /*schema*/wakeups as k
    where k.created_at <= /*schema*/clock_now() - %(older_than)s::double precision * interval '1 second'
    limit %(limit)s::bigint
    for update skip locked
))
returning w.sleeping_id;
