-- name: claim_closes
-- Take finished executions whose children are still active. Index: executions_close.
with at as materialized (select /*schema*/clock_now() as now)
update /*schema*/executions as e
set close_status = 'closing',
    close_lease_expires_at = at.now + %(lease)s::double precision * interval '1 second',
    updated_at = at.now
from at
where e.ctid = any(array(
    select c.ctid
    from /*schema*/executions as c
    where c.close_status = 'ready'
    order by c.finished_at
    limit %(limit)s::bigint
    for update skip locked
))
returning e.id;

-- name: close_trees
-- Cancel the unfinished children of closing executions, one level; close those that have none left.
-- Locks children in id order, then the closing ones in id order. Index: executions_children.
with at as materialized (select /*schema*/clock_now() as now),
held as materialized (
    select e.id, e.parent_id, e.status
    from /*schema*/executions as e
    where e.parent_id = any(%(ids)s::uuid[])
        and e.finished_at is null
        and exists (
            select 1 from /*schema*/executions as p where p.id = e.parent_id and p.close_status = 'closing')
    order by e.id
    for update of e
),
cancelled as (
    update /*schema*/executions as e
    set status = 'cancelled',
        fence = e.fence + 1,
        error = %(error)s::text,
        reason = %(reason)s::text,
        needs_cancel = e.status = 'running',
        lease_expires_at = null,
        finished_at = at.now,
        close_status = case when e.active_children_count = 0 then 'closed' else 'ready' end,
        closed_at = case when e.active_children_count = 0 then at.now end,
        updated_at = at.now
    from at
    where e.id = any(array(select held.id from held))
        and e.finished_at is null
    returning e.id, e.parent_id
),
ended as (
    select c.parent_id from cancelled as c
),
/*include tell_parents*/,
emptied as (
    update /*schema*/executions as p
    set close_status = 'closed',
        closed_at = at.now,
        close_lease_expires_at = null,
        updated_at = at.now
    from at
    where p.id = any(%(ids)s::uuid[])
        and p.close_status = 'closing'
        and p.active_children_count = 0
)
select h.id, h.status, c.id is not null
from held as h left join cancelled as c on c.id = h.id;

-- name: recover_closes
-- Give back closings whose executor went away. Index: executions_closing.
update /*schema*/executions as e
set close_status = 'ready',
    close_lease_expires_at = null
where e.ctid = any(array(
    select c.ctid
    from /*schema*/executions as c
    where c.close_status = 'closing'
        and c.close_lease_expires_at <= (select /*schema*/clock_now())
    order by c.close_lease_expires_at
    limit %(limit)s::bigint
    for update skip locked
))
returning e.id;
