-- Lifecycle events that wait for their subscribers: one row for each event and subscriber, deleted when delivered.
-- Without a subscriber nothing is ever written here.

create table /*schema*/outbox (
    subscriber text not null,
    id uuid not null,
    name text not null,
    at timestamptz not null,
    subject text not null,
    kind text not null,
    task_name text not null,
    key text,
    data text not null,
    error text,
    payload text,
    primary key (subscriber, id)
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_insert_scale_factor = 0.05);
-- The oldest rows go first, so their dead entries stand where every look begins: they are to be cleared away soon.

create index outbox_order on /*schema*/outbox (subscriber, at, id);

-- Who delivers to a subscriber. One row for each, so that its events are delivered in order.
create table /*schema*/deliveries (
    subscriber text primary key,
    holder text,
    lease_expires_at timestamptz not null,
    due_at timestamptz not null,
    failure_count integer not null default 0
);
