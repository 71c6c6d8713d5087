-- The record of everything that runs. Columns stand in the order of durable.execution.Execution, and each domain
-- repeats one of its enums; tests hold both equal.

create function /*schema*/clock_now() returns timestamptz
language sql volatile
as 'select pg_catalog.clock_timestamp()';
-- The only clock that decides anything. Tests replace it.

create function /*schema*/wait_at_most(milliseconds text) returns text
language sql volatile
as $$ select set_config('lock_timeout', coalesce(milliseconds, current_setting('lock_timeout')), true) $$;
-- For the rest of the transaction; null leaves it as it is.

-- The words of a column are a domain and not a CHECK of the table: a session reads it once, and not with each statement.
create domain /*schema*/execution_status as text constraint executions_status check (value in (
    'ready', 'running', 'waiting', 'waiting_for_children', 'waiting_for_finalize',
    'completed', 'failed', 'timed_out', 'finalize_failed', 'cancelled'));
create domain /*schema*/execution_kind as text constraint executions_kind check (value in (
    'task', 'parent', 'sequence', 'loop', 'sleeping', 'turn', 'callback', 'workflow'));
create domain /*schema*/execution_phase as text constraint executions_phase check (value in (
    'run', 'children', 'finalize'));
create domain /*schema*/execution_close_status as text constraint executions_close_status check (value in (
    'idle', 'ready', 'closing', 'closed'));
create domain /*schema*/execution_priority as smallint constraint executions_priority check (value between -4 and 4);

-- Columns that are never null and of fixed width come first: the server finds those without walking the row, and looks at
-- each indexed one of both versions in every update.
create table /*schema*/executions (
    id uuid primary key,
    root_id uuid not null,
    created_at timestamptz not null,
    due_at timestamptz not null,
    updated_at timestamptz not null,
    fence bigint not null default 0,
    settled_fence bigint not null default 0,
    delay double precision not null default 0,
    depth integer not null default 0,
    task_version integer not null default 1,
    max_attempts integer not null,
    max_deliveries integer not null,
    attempts integer not null default 0,
    deliveries integer not null default 0,
    iteration integer not null default 0,
    children_count integer not null default 0,
    active_children_count integer not null default 0,
    message_count integer not null default 0,
    priority /*schema*/execution_priority not null default 0,
    record_version smallint not null default 1,
    is_finalize boolean not null default false,
    is_pooled boolean not null default false,
    needs_cancel boolean not null default false,
    outlives_parent boolean not null default false,
    status /*schema*/execution_status not null,
    kind /*schema*/execution_kind not null,
    phase /*schema*/execution_phase not null default 'run',
    close_status /*schema*/execution_close_status not null default 'idle',
    queue text not null,
    task_name text not null,
    input text not null,
    is_counted boolean not null default false,
    lease_expires_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    closed_at timestamptz,
    wait_expires_at timestamptz,
    waiting_for_children_at timestamptz,
    waiting_for_finalize_at timestamptz,
    close_lease_expires_at timestamptz,
    timeout double precision,
    parent_id uuid,
    child_index integer,
    wake_at_children integer,
    executor_id text,
    output text,
    serial_key text,
    idempotency_key text,
    idempotency_hash text,
    sleeping_id text,
    retry text,
    run_output text,
    error text,
    reason text,
    progress text,
    on_complete text,
    cancel_requested text,
    -- The server keeps a table's rules as text, and reads them anew for every statement that writes it, as it does with
    -- the conditions of triggers: 4 us for a thousand characters. So here are the rules whose breach would do harm
    -- unseen, in the words that are shortest to it; what else must hold `defects` looks for.
    constraint executions_consistent check (
        (lease_expires_at is not null) = (status = 'running')
        and (finished_at is null or lease_expires_at is null)
        -- A ready record can be claimed, so that no claim fails on its account, and it has a start left.
        and (status <> 'ready' or finished_at is null and attempts < max_attempts and deliveries < max_deliveries)
        and active_children_count >= 0
        and (serial_key is null or is_pooled))
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
