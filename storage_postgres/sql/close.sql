-- name: claim_closes
-- Take finished executions whose children are still active. Locks what it takes, skips what is locked.
-- Index: executions_close.
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
    for no key update skip locked
))
returning e.id;

-- name: close_trees
-- Cancel the unfinished children of closing executions, one level, and name the workflows among them that have run, to
-- be asked by a statement that follows; close what has none left. Children that outlive their parent are left alone, and
-- named as spared.
-- Locks the children and the closing ones in one go, in the order of `tell_parents`.
-- Index: executions_children, one probe for each of the closing, which `offset 0` keeps; then the primary key.
with at as materialized (select /*schema*/clock_now() as now),
named as materialized (
    select p.id, p.close_status from /*schema*/executions as p where p.id = any(%(ids)s::uuid[])
),
related as materialized (
    select n.id from named as n where n.close_status = 'closing'
    union
    select c.id
    from named as n
        cross join lateral (
            select e.id
            from /*schema*/executions as e
            where e.parent_id = n.id and e.finished_at is null
            offset 0
        ) as c
    where n.close_status = 'closing'
),
held as materialized (
    select e.id, e.status, e.finished_at is null as is_open, e.finished_at is null and e.outlives_parent as is_spared,
        e.kind = 'workflow' and e.fence > 0 as is_asked,
        e.close_status = 'closing' and e.active_children_count = 0 as is_left_alone
    from /*schema*/executions as e
    where e.id = any(array(select r.id from related as r))
    order by e.depth desc, e.id
    for no key update
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
    where e.id = any(array(select h.id from held as h where h.is_open and not h.is_asked and not h.is_spared))
    returning e.id, e.parent_id
),
ended as (
    select c.parent_id, 1 as failed from cancelled as c
),
/*include tell_parents*/,
emptied as (
    update /*schema*/executions as p
    set close_status = 'closed',
        closed_at = at.now,
        close_lease_expires_at = null,
        updated_at = at.now
    from at
    where p.id = any(array(select h.id from held as h where h.is_left_alone))
)
select h.id, h.status, h.id in (select c.id from cancelled as c), h.is_spared
from held as h
where h.is_open;

-- name: wait_for_asked
-- Let closings wait for workflows among their children that were asked to end, and for children that outlive them: the
-- end of the last one closes its parent, and nothing is to be done before. The transaction has locked them. Index: the primary key.
update /*schema*/executions as p
set close_lease_expires_at = null,
    updated_at = /*schema*/clock_now()
where p.id = any(%(ids)s::uuid[])
    and p.close_status = 'closing'
    and p.active_children_count > 0
returning p.id;

-- name: recover_closes
-- Give back closings whose executor went away. Locks what it takes, skips what is locked. Index: executions_closing.
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
    for no key update skip locked
))
returning e.id;
