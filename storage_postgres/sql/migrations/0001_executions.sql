-- The record of everything that runs. Columns stand in the order of durable.execution.Execution, and each CHECK
-- repeats one of its enums; tests hold both equal.

create function /*schema*/clock_now() returns timestamptz
language sql volatile
as 'select pg_catalog.clock_timestamp()';
-- The only clock that decides anything. Tests replace it.

create table /*schema*/executions (
    id uuid primary key,
    root_id uuid not null,
    parent_id uuid,
    child_index integer,
    is_finalize boolean not null default false,
    depth integer not null default 0,
    kind text not null,
    task_name text not null,
    task_version integer not null default 1,
    record_version smallint not null default 1,
    queue text not null,
    priority smallint not null default 0,
    input text not null,
    idempotency_key text,
    idempotency_hash text,
    sleeping_id text,
    retry text,
    max_attempts integer not null,
    max_deliveries integer not null,
    timeout double precision,
    delay double precision not null default 0,
    status text not null,
    phase text not null default 'run',
    fence bigint not null default 0,
    settled_fence bigint not null default 0,
    attempts integer not null default 0,
    deliveries integer not null default 0,
    iteration integer not null default 0,
    executor_id text,
    output text,
    run_output text,
    error text,
    reason text,
    progress text,
    needs_cancel boolean not null default false,
    children_count integer not null default 0,
    active_children_count integer not null default 0,
    close_status text not null default 'idle',
    created_at timestamptz not null,
    due_at timestamptz not null,
    started_at timestamptz,
    lease_expires_at timestamptz,
    wait_expires_at timestamptz,
    waiting_for_children_at timestamptz,
    waiting_for_finalize_at timestamptz,
    finished_at timestamptz,
    close_lease_expires_at timestamptz,
    closed_at timestamptz,
    updated_at timestamptz not null,
    is_pooled boolean not null default false,
    serial_key text,
    on_complete text,
    cancel_requested text,
    constraint executions_kind check (kind in ('task', 'parent', 'sequence', 'loop', 'sleeping', 'turn', 'callback')),
    constraint executions_status check (status in (
        'ready', 'running', 'waiting', 'waiting_for_children', 'waiting_for_finalize',
        'completed', 'failed', 'timed_out', 'finalize_failed', 'cancelled')),
    constraint executions_phase check (phase in ('run', 'children', 'finalize')),
    constraint executions_close_status check (close_status in ('idle', 'ready', 'closing', 'closed')),
    constraint executions_priority check (priority between -4 and 4),
    -- A ready record must have a start left, so that no claim can fail on its account.
    constraint executions_attempts check (
        attempts between 0 and max_attempts and (status <> 'ready' or attempts < max_attempts)),
    constraint executions_deliveries check (
        deliveries between 0 and max_deliveries and (status <> 'ready' or deliveries < max_deliveries)),
    constraint executions_children check (active_children_count >= 0 and children_count >= 0),
    constraint executions_finished check ((finished_at is not null) = (status in (
        'completed', 'failed', 'timed_out', 'finalize_failed', 'cancelled'))),
    constraint executions_lease check ((lease_expires_at is not null) = (status = 'running'))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.1);
-- fillfactor: every record is updated twice or more; room on the page keeps its versions together.

-- One partial index per live state, so a finished record costs none of them anything.
create index executions_ready on /*schema*/executions (queue, priority, due_at, id) where status = 'ready';
create index executions_lease on /*schema*/executions (lease_expires_at) where status = 'running';
create index executions_wait on /*schema*/executions (wait_expires_at) where status = 'waiting';
create index executions_cancel on /*schema*/executions (executor_id) where needs_cancel;
create index executions_close on /*schema*/executions (finished_at) where close_status = 'ready';
create index executions_closing on /*schema*/executions (close_lease_expires_at) where close_status = 'closing';
create index executions_children on /*schema*/executions (parent_id, child_index) where parent_id is not null;
create unique index executions_idempotency on /*schema*/executions (task_name, idempotency_key)
    where idempotency_key is not null;
create unique index executions_sleeping on /*schema*/executions (task_name, sleeping_id)
    where sleeping_id is not null;

-- Wake-ups that have not yet met their sleeping task. Waker and sleeper each write their own row first and look for
-- the other's in a later statement, so one of the two always finds the other, without a lock between them.
create table /*schema*/wakeups (
    task_name text not null,
    sleeping_id text not null,
    output text,
    error text,
    created_at timestamptz not null,
    primary key (task_name, sleeping_id)
);

-- What executors say of themselves, for people; nothing decides by it.
create table /*schema*/executors (
    id text primary key,
    queues text[] not null,
    task_names text[] not null,
    running integer not null,
    concurrency integer not null,
    started_at timestamptz not null,
    seen_at timestamptz not null
);

-- True for JSON text, and for text that a payload codec has wrapped.
create function /*schema*/is_payload(payload text) returns boolean
language plpgsql immutable
as $$
begin
    if payload like '~%' then
        return true;
    end if;
    perform payload::json;
    return true;
exception when others then
    return false;
end
$$;
