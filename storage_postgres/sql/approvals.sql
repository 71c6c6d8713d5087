-- name: open_approval
-- Store an approval of a workflow that is there; one with its key gets the new token, and stays as it is. Locks what it
-- writes. Index: the primary key of executions, approvals_key.
insert into /*schema*/approvals as a (
    id, execution_id, key, name, token_hash, allowed, details, created_at, expires_at
)
select %(id)s::uuid, e.id, %(key)s::text, %(name)s::text, %(token_hash)s::text, %(allowed)s::text, %(details)s::text,
    at.now, at.now + %(expires_after)s::double precision * interval '1 second'
from /*schema*/executions as e
    cross join (select /*schema*/clock_now() as now) as at
where e.id = any(array[%(execution_id)s::uuid])
on conflict (execution_id, key) do update
set token_hash = excluded.token_hash
returning a.id::text;

-- name: get_approval
-- One approval by its id or its token, as it stands. Index: the primary keys, approvals_token.
select a.id, a.execution_id, e.task_name, a.name,
    case
        when a.status <> 'pending' then a.status
        when e.finished_at is not null then 'withdrawn'
        when a.expires_at <= /*schema*/clock_now() then 'expired'
        else 'pending' end,
    a.allowed, a.details, a.created_at, a.expires_at, a.decision_id, a.decided_by, a.comment, a.decided_at
from /*schema*/approvals as a
    join /*schema*/executions as e on e.id = any(array[a.execution_id])
where a.id = any(array[%(id)s::uuid])
union all
select a.id, a.execution_id, e.task_name, a.name,
    case
        when a.status <> 'pending' then a.status
        when e.finished_at is not null then 'withdrawn'
        when a.expires_at <= /*schema*/clock_now() then 'expired'
        else 'pending' end,
    a.allowed, a.details, a.created_at, a.expires_at, a.decision_id, a.decided_by, a.comment, a.decided_at
from /*schema*/approvals as a
    join /*schema*/executions as e on e.id = any(array[a.execution_id])
where a.token_hash = any(array[%(token_hash)s::text]);

-- fragment: approvals_with_status
-- Approvals as they stand. One probe of the executions for each, which `offset 0` keeps: a join may read both tables and
-- sort them.
select a.id, a.execution_id, e.task_name, a.name, s.status, a.allowed, a.details, a.created_at, a.expires_at,
    a.decision_id, a.decided_by, a.comment, a.decided_at
from /*schema*/approvals as a
    cross join lateral (
        select e.task_name, e.finished_at
        from /*schema*/executions as e
        where e.id = any(array[a.execution_id])
        offset 0
    ) as e
    cross join lateral (
        select case
            when a.status <> 'pending' then a.status
            when e.finished_at is not null then 'withdrawn'
            when a.expires_at <= /*schema*/clock_now() then 'expired'
            else 'pending' end as status
    ) as s
where a.id < coalesce(%(before)s::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    and (%(status)s::text is null or s.status = %(status)s::text)
    and (%(task_name)s::text is null or e.task_name = %(task_name)s::text)

-- name: list_approvals
-- A page of approvals, newest first. Index: the primary keys.
/*include approvals_with_status*/
order by a.id desc
limit %(limit)s::bigint;

-- name: list_approvals_kept_as
-- The same of a status that is kept as one: those who wait for a decision are few among many. Index: approvals_status,
-- the primary key of executions.
/*include approvals_with_status*/
    and a.status = %(kept_as)s::text
order by a.id desc
limit %(limit)s::bigint;

-- name: decide_approval
-- Write what has been decided of a pending approval, or that nobody has in time: that is as of the end of its time,
-- which the executor's clock may meet a little early. The transaction holds its workflow, as every other that decides.
-- Locks what it writes. Index: the primary key.
update /*schema*/approvals as a
set status = %(status)s::text,
    decision_id = %(decision_id)s::uuid,
    decided_by = %(by)s::text,
    comment = %(comment)s::text,
    decided_at = case
        when %(status)s::text = 'expired' then coalesce(a.expires_at, /*schema*/clock_now())
        else /*schema*/clock_now() end
where a.id = any(array[%(id)s::uuid])
    and a.status = 'pending'
returning a.decided_at;
