-- What pools have done, for their reports: a row for each attempt that ended and for each execution that did, which
-- upkeep sums up once a minute. Rows are only ever added and deleted: none is updated by two ends at once.

create table /*schema*/pool_counts (
    pool text not null,
    task_name text not null,
    at timestamptz not null,
    is_summed boolean not null,
    completed bigint not null,
    failed bigint not null,
    cancelled bigint not null,
    attempts bigint not null,
    failures bigint not null,
    retries bigint not null,
    starts bigint not null,
    start_lag double precision not null,
    longest_start_lag double precision not null
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
create index pool_counts_at on /*schema*/pool_counts (pool, is_summed, at);

-- When each pool was last summed up and told of. Apart from `pools`, whose rows claims hold.
create table /*schema*/pool_reports (
    pool text primary key,
    reported_at timestamptz not null
);
create index pool_reports_at on /*schema*/pool_reports (reported_at);
insert into /*schema*/pool_reports (pool, reported_at) select p.name, /*schema*/clock_now() from /*schema*/pools as p;

-- An attempt that was given back, by a release or from an executor that died, has not ended: nothing is written of it.
-- durable.memory.pool_counts counts the same.
create function /*schema*/count_pooled() returns trigger
language plpgsql
as $$
declare
    was_running boolean := old.status = 'running';
    is_first boolean := was_running and old.phase = 'run' and old.attempts = 1 and old.iteration = 0;
    is_retry boolean := was_running and new.status = 'ready' and new.attempts = old.attempts;
    is_failure boolean := is_retry or was_running and new.status in ('failed', 'timed_out', 'finalize_failed');
    lag double precision := case
        when is_first then greatest(extract(epoch from old.started_at - old.due_at), 0) else 0 end;
begin
    insert into /*schema*/pool_counts (
        pool, task_name, at, is_summed, completed, failed, cancelled, attempts, failures, retries, starts, start_lag,
        longest_start_lag
    )
    values (
        new.queue, new.task_name, new.updated_at, false, (new.status = 'completed')::integer,
        (new.status in ('failed', 'timed_out', 'finalize_failed'))::integer, (new.status = 'cancelled')::integer,
        (was_running and new.status <> 'cancelled')::integer, is_failure::integer, is_retry::integer,
        is_first::integer, lag, lag
    );
    return null;
end
$$;

-- Executions outside pools pay for the test of the condition alone.
create trigger count_pooled after update of status on /*schema*/executions for each row
    when (
        new.is_pooled
        and old.finished_at is null
        and (new.finished_at is not null
            or old.status = 'running' and new.status <> 'running' and not (
                new.status = 'ready' and new.attempts < old.attempts
                and new.iteration = old.iteration and new.phase = old.phase)))
    execute function /*schema*/count_pooled();
