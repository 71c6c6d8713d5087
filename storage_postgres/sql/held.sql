-- fragment: may_wait
-- For how long the statement, and the rest of its transaction, wait for rows that other transactions hold: so many
-- milliseconds, or as long as the connection says where that is null. To be read before anything is locked.
/*schema*/wait_at_most(%(lock_timeout)s::text)

-- name: held_rows
-- Those of some executions that another transaction holds. Locks the others for its own moment. Index: the primary key.
with free as materialized (
    select e.id
    from /*schema*/executions as e
    where e.id = any(%(ids)s::uuid[])
    for no key update skip locked
)
select e.id
from /*schema*/executions as e
where e.id = any(%(ids)s::uuid[])
    and e.id not in (select f.id from free as f);

-- name: leased
-- Those of some turns that still have their fence and a lease. Index: the primary key.
select e.id
from unnest(%(id)s::uuid[], %(fence)s::bigint[]) as i (id, fence)
    join /*schema*/executions as e on e.id = any(array[i.id]) and e.fence = any(array[i.fence])
where e.lease_expires_at is not null;
