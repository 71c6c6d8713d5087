-- Workflows: what has happened in them, what is sent to them, what they publish, and when a suspended one goes on.

-- The rows below belong to one execution each, and are written by who holds its row. They are inserted once and deleted
-- with it, a page of trees at a time, so vacuum is asked for by the share of rows that came or went, not by updates.
create table /*schema*/history (
    execution_id uuid not null,
    seq integer not null,
    kind text not null,
    key text not null,
    output text,
    error text,
    detail text,
    at timestamptz not null,
    primary key (execution_id, seq)
) with (
    autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.1);

-- Numbered by the receiver's message_count: in the order of commits, because whoever sends holds the receiver's row.
create table /*schema*/messages (
    execution_id uuid not null,
    number integer not null,
    kind text not null,
    name text not null,
    payload text not null,
    message_id text,
    at timestamptz not null,
    primary key (execution_id, number),
    constraint messages_kind check (kind in ('signal', 'update', 'cancel'))
) with (
    autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.1);
create unique index messages_message_id on /*schema*/messages (execution_id, message_id) where message_id is not null;

-- The one table of the four whose rows are updated; room on the page keeps their versions together.
create table /*schema*/published (
    execution_id uuid not null,
    key text not null,
    value text not null,
    version integer not null,
    at timestamptz not null,
    primary key (execution_id, key)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

create table /*schema*/chunks (
    execution_id uuid not null,
    number integer not null,
    payload text not null,
    at timestamptz not null,
    primary key (execution_id, number)
) with (
    autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.1);

-- Whether a parent goes on when so many of its children are left, and so many have failed
-- just now, of which a workflow that waits for children hears at once. One place for all that ends children; the planner puts
-- the expression in the place of the call.
create function /*schema*/goes_on(status text, wake_at_children integer, children_left integer, failed bigint)
returns boolean
language sql immutable
as $$
    select case
        when status in ('waiting_for_children', 'waiting_for_finalize') then children_left = 0
        else status in ('waiting', 'ready')
            and (children_left <= wake_at_children or failed > 0 and wake_at_children is not null) end
$$;

-- As before, with parents that are workflows.
create or replace function /*schema*/cancel_requested() returns trigger
language plpgsql
as $$
declare
    at timestamptz := new.updated_at;
begin
    if new.finished_at is not null or new.status = 'running' then
        return null;
    end if;
    update /*schema*/executions as e
    set status = 'cancelled',
        fence = e.fence + 1,
        error = new.cancel_requested,
        reason = new.cancel_requested::json ->> 'message',
        finished_at = at,
        close_status = case when e.active_children_count = 0 then 'closed' else 'ready' end,
        closed_at = case when e.active_children_count = 0 then at end,
        updated_at = at
    where e.id = new.id;
    update /*schema*/executions as p
    set (active_children_count, message_count, status, due_at, wake_at_children) = (
            select n.children,
                p.message_count + told.failed,
                case when n.goes_on then 'ready' else p.status end,
                case when n.goes_on then at else p.due_at end,
                case when n.goes_on is not true then p.wake_at_children end
            from (
                select p.active_children_count - 1 as children,
                    /*schema*/goes_on(p.status, p.wake_at_children, p.active_children_count - 1, told.failed) as goes_on
            ) as n
        ),
        close_status = case
            when p.active_children_count = 1 and p.close_status = 'closing' then 'closed' else p.close_status end,
        closed_at = case when p.active_children_count = 1 and p.close_status = 'closing' then at else p.closed_at end,
        close_lease_expires_at = case when p.active_children_count = 1 then null else p.close_lease_expires_at end,
        updated_at = at
    from (
        select (new.cancel_requested::json ->> 'message' is distinct from 'cancelled_by_parent')::int as failed
    ) as told
    where p.id = new.parent_id;
    return null;
end
$$;
