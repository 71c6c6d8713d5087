-- name: keep_wakeup
-- Keep a wake-up until it has met its sleeping task; the first of an id stays. Locks nothing.
-- Index: the primary key of wakeups.
insert into /*schema*/wakeups (task_name, sleeping_id, output, error, created_at)
values (
    %(task_name)s::text, %(sleeping_id)s::text, %(output)s::text, %(error)s::text, /*schema*/clock_now()
)
on conflict do nothing
returning sleeping_id;

-- name: apply_wakeups
-- Bring kept wake-ups and waiting executions together, oldest first; a null name means any. A wake-up whose execution
-- has already finished is dropped. Locks executions that it ends and their parents, skips what is locked; for a name given it waits
-- for the parent, because that is one row above one row. Index: the primary key of wakeups, executions_sleeping.
with at as materialized (select /*schema*/clock_now() as now),
met as materialized (
    select w.task_name, w.sleeping_id, w.output, w.error, e.id, e.status,
        case when e.status = 'waiting' then e.parent_id end as parent_id
    from /*schema*/wakeups as w
        join /*schema*/executions as e
            on e.task_name = any(array[w.task_name]) and e.sleeping_id = any(array[w.sleeping_id])
    where (%(task_name)s::text is null or (w.task_name = %(task_name)s::text and w.sleeping_id = %(sleeping_id)s::text))
    order by w.created_at
    limit %(limit)s::bigint
    for no key update of e skip locked
),
awaited as materialized (
    select p.id
    from /*schema*/executions as p
    where %(task_name)s::text is not null
        and p.id = any(array(select met.parent_id from met where met.parent_id is not null))
    for no key update
),
free as materialized (
    select p.id
    from /*schema*/executions as p
    where %(task_name)s::text is null
        and p.id = any(array(select met.parent_id from met where met.parent_id is not null))
    for no key update skip locked
),
possible as materialized (
    select met.task_name, met.sleeping_id, met.output, met.error, met.id, met.status
    from met
    where not exists (
        select 1
        from /*schema*/executions as p
        where p.id = any(array[met.parent_id])
            and p.id not in (select awaited.id from awaited union all select free.id from free)
    )
),
dropped as (
    delete from /*schema*/wakeups as w
    using possible as m
    where w.task_name = m.task_name and w.sleeping_id = m.sleeping_id
),
woken as (
    update /*schema*/executions as e
    set status = case when m.error is null then 'completed' else 'failed' end,
        fence = e.fence + 1,
        output = case when m.error is null then coalesce(m.output, 'null') end,
        error = m.error,
        finished_at = at.now,
        close_status = 'closed',
        closed_at = at.now,
        updated_at = at.now
    from possible as m cross join at
    where e.id = any(array[m.id])
        and e.status = 'waiting'
        and m.status = 'waiting'
    returning e.id, e.parent_id, e.status, e.on_complete
),
ended as (
    select woken.parent_id, (woken.status <> 'completed')::int as failed from woken
),
/*include tell_parents*/
select array(select woken.id::text from woken),
    array(
        select r.queue from resumed as r where r.status = 'ready'
        union
        select woken.on_complete::json ->> 'queue' from woken
        where woken.on_complete is not null and /*schema*/is_payload(woken.on_complete)
    );

-- name: expire_waits
-- End what waited past its deadline. Locks what it takes and their parents, skips what is locked: an execution whose
-- parent is locked is left for the next call. Index: executions_wait.
with at as materialized (select /*schema*/clock_now() as now),
late as materialized (
    select e.ctid as row_id, e.parent_id
    from /*schema*/executions as e
    where e.status = 'waiting'
        and e.wait_expires_at <= (select now from at)
    order by e.wait_expires_at
    limit %(limit)s::bigint
    for no key update skip locked
),
parents as materialized (
    select p.id
    from /*schema*/executions as p
    where p.id = any(array(select late.parent_id from late where late.parent_id is not null))
    for no key update skip locked
),
woken as (
    update /*schema*/executions as e
    set status = 'timed_out',
        fence = e.fence + 1,
        error = %(expired_error)s::text,
        reason = 'expired',
        finished_at = at.now,
        close_status = 'closed',
        closed_at = at.now,
        updated_at = at.now
    from at
    where e.ctid = any(array(
        select late.row_id
        from late
        where not exists (
            select 1
            from /*schema*/executions as p
            where p.id = any(array[late.parent_id]) and p.id not in (select parents.id from parents)
        )
    ))
    returning e.id, e.parent_id, e.status, e.on_complete
),
ended as (
    select woken.parent_id, (woken.status <> 'completed')::int as failed from woken
),
/*include tell_parents*/
select array(select woken.id::text from woken),
    array(
        select r.queue from resumed as r where r.status = 'ready'
        union
        select woken.on_complete::json ->> 'queue' from woken
        where woken.on_complete is not null and /*schema*/is_payload(woken.on_complete)
    );
