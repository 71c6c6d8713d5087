-- What pools have done, for their reports. Ends add rows to `pool_ends`, and nobody updates one, so no two ends ever wait
-- for each other; once a minute upkeep sums them up in `pool_counts`.

create table /*schema*/pool_ends (
    pool text not null,
    task_name text not null,
    at timestamptz not null,
    status text not null,
    was_running boolean not null,
    is_retry boolean not null,
    ends bigint not null,
    starts bigint not null,
    start_lag double precision not null,
    longest_start_lag double precision not null
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
create index pool_ends_at on /*schema*/pool_ends (pool, at);

create table /*schema*/pool_counts (
    pool text not null,
    task_name text not null,
    at timestamptz not null,
    completed bigint not null,
    failed bigint not null,
    cancelled bigint not null,
    attempts bigint not null,
    failures bigint not null,
    retries bigint not null,
    starts bigint not null,
    start_lag double precision not null,
    longest_start_lag double precision not null
);
create index pool_counts_at on /*schema*/pool_counts (pool, at);

-- When each pool was last summed up and told of. Apart from `pools`, whose rows claims hold.
create table /*schema*/pool_reports (
    pool text primary key,
    reported_at timestamptz not null
);
create index pool_reports_at on /*schema*/pool_reports (reported_at);
insert into /*schema*/pool_reports (pool, reported_at) select p.name, /*schema*/clock_now() from /*schema*/pools as p;

-- Seconds from due to started of an attempt that was the first; null for any other.
create function /*schema*/first_lag(
    phase text, attempts integer, iteration integer, started_at timestamptz, due_at timestamptz
) returns double precision
language sql immutable
as $$
    select case when phase = 'run' and attempts = 1 and iteration = 0
        then greatest(extract(epoch from started_at - due_at), 0)::double precision end
$$;

-- Counts ends one by one, but for those that their own statement has counted and marked. An attempt that was given back has
-- not ended. What is made of the columns is said where they are read.
create function /*schema*/count_pooled() returns trigger
language plpgsql
as $$
declare
    lag constant double precision := case when old.status = 'running'
        then /*schema*/first_lag(old.phase, old.attempts, old.iteration, old.started_at, old.due_at) end;
    is_given_back constant boolean := new.status = 'ready' and new.attempts < old.attempts
        and new.iteration = old.iteration and new.phase = old.phase;
begin
    if old.finished_at is not null or new.finished_at is null and (old.status <> 'running' or is_given_back) then
        return null;
    end if;
    insert into /*schema*/pool_ends values (
        new.queue, new.task_name, new.updated_at, new.status, old.status = 'running',
        old.status = 'running' and new.status = 'ready' and new.attempts = old.attempts,
        1, (lag is not null)::integer, coalesce(lag, 0), coalesce(lag, 0)
    );
    return null;
end
$$;

-- Executions outside pools pay for the test of the condition alone.
create trigger count_pooled after update of status on /*schema*/executions for each row
    when (new.is_pooled and not new.is_counted and new.lease_expires_at is null)
    execute function /*schema*/count_pooled();
