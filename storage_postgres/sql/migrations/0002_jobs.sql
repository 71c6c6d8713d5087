-- Keyed jobs: a row for each kind, name and key, and its inbox. Columns stand in the order of durable.job.Job, and each
-- CHECK repeats one of its enums; tests hold both equal. The turns of a job are executions whose root is the job.

create table /*schema*/jobs (
    id uuid primary key,
    kind text not null,
    name text not null,
    key text not null,
    epoch bigint not null default 1,
    status text not null default 'active',
    reason text,
    state text,
    state_version integer not null default 1,
    turn_id uuid,
    turn_cause text,
    turn_slot timestamptz,
    turn_began_at timestamptz,
    is_triggered boolean not null default false,
    scheduled_at timestamptz,
    run_count bigint not null default 0,
    execute_count bigint not null default 0,
    event_count bigint not null default 0,
    pending_count bigint not null default 0,
    pending_first_at timestamptz,
    pending_last_at timestamptz,
    error text,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    ended_at timestamptz,
    constraint jobs_kind check (kind in ('continuous', 'debounce', 'task')),
    constraint jobs_status check (status in ('active', 'paused', 'failed', 'terminated', 'cleared')),
    constraint jobs_turn_cause check (turn_cause in ('schedule', 'trigger', 'events', 'nothing')),
    constraint jobs_pending check (
        pending_count >= 0
        and (pending_count > 0) = (pending_first_at is not null)
        and (pending_count > 0) = (pending_last_at is not null)),
    -- What is due has a turn: no live job can be forgotten.
    constraint jobs_live check (
        turn_id is not null
        or status <> 'active'
        or (pending_count = 0 and scheduled_at is null and not is_triggered)),
    constraint jobs_ended check ((ended_at is not null) = (status in ('terminated', 'cleared'))),
    constraint jobs_over check (ended_at is null or (turn_id is null and pending_count = 0 and not is_triggered))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.1);
-- fillfactor: no indexed column of a live job ever changes, so its versions stay on their page and touch no index.

create unique index jobs_key on /*schema*/jobs (kind, name, key);
create index jobs_unusual on /*schema*/jobs (kind, name, key) where status <> 'active';
create index jobs_ended on /*schema*/jobs (ended_at) where ended_at is not null;

create table /*schema*/inbox (
    job_id uuid not null,
    epoch bigint not null,
    number bigint not null,
    event_id text,
    payload text not null,
    received_at timestamptz not null,
    expires_at timestamptz not null,
    status text not null default 'pending',
    turn_id uuid,
    primary key (job_id, epoch, number),
    constraint inbox_status check (status in ('pending', 'taken', 'consumed', 'dead'))
);
-- The number is given under the lock of the job's row, so numbers are in the order of commits, without gaps, in each
-- incarnation. Rows of earlier ones are there when a turn ended its job: remembered ids, and dead events.

create unique index inbox_event on /*schema*/inbox (job_id, event_id) where event_id is not null;
create index inbox_pending on /*schema*/inbox (job_id, epoch, number) where status = 'pending';
create index inbox_turn on /*schema*/inbox (turn_id, epoch, number) where status = 'taken';
create index inbox_dead on /*schema*/inbox (job_id, epoch, number) where status = 'dead';
create index inbox_consumed on /*schema*/inbox (expires_at) where status = 'consumed';

-- When the pending events of a job make a turn due; null without any. Beside it the same rule in durable.memory.
create function /*schema*/events_due_at(
    pending_count bigint, first_at timestamptz, last_at timestamptz,
    window_seconds double precision, max_wait double precision, max_events bigint
) returns timestamptz
language sql immutable
as $$
    select case
        when pending_count = 0 then null
        when window_seconds is null or pending_count >= max_events then first_at
        when max_wait is null then first_at + window_seconds * interval '1 second'
        else least(last_at + window_seconds * interval '1 second', first_at + max_wait * interval '1 second') end
$$;

-- Insert the executions of turns, unless their moment is null.
create function /*schema*/insert_turns(
    ids uuid[], job_ids uuid[], names text[], versions integer[], queues text[], priorities smallint[],
    max_attempts integer[], timeouts double precision[], due_ats timestamptz[], now timestamptz
) returns table (queue text, due_at timestamptz)
language sql volatile
as $$
    insert into /*schema*/executions (
        id, root_id, kind, task_name, task_version, queue, priority, input, max_attempts, max_deliveries, timeout,
        status, created_at, due_at, updated_at
    )
    select t.id, t.job_id, 'turn', t.name, t.version, t.queue, t.priority, '{}', t.max_attempts, 2147483647, t.timeout,
        'ready', now, greatest(t.due_at, now), now
    from unnest(ids, job_ids, names, versions, queues, priorities, max_attempts, timeouts, due_ats)
        as t (id, job_id, name, version, queue, priority, max_attempts, timeout, due_at)
    where t.due_at is not null
    returning queue, due_at
$$;

-- Append events to inboxes, in one round trip. A function, because each statement in it sees what others committed while
-- the one before waited for the rows of the jobs: as one statement it would miss a turn inserted meanwhile.
-- Waits for the rows of the jobs: first those it must insert, in the order of keys, then those it updates, by id.
-- Without `_waits` it waits for nobody: it leaves out the events of jobs that are held, and of those that are not there,
-- since an insert would wait for another one of the same key.
create function /*schema*/append_events(
    _waits boolean, _kind text[], _name text[], _key text[], _job_id uuid[], _event_id text[], _payload text[], _version integer[],
    _window double precision[], _max_wait double precision[], _max_events bigint[], _dedupe double precision[],
    _turn_id uuid[], _task_name text[], _task_version integer[], _queue text[], _priority smallint[],
    _max_attempts integer[], _timeout double precision[]
) returns table (
    nth bigint, job_id uuid, number bigint, is_new boolean, is_duplicate boolean, pending_count bigint,
    pending_first_at timestamptz, pending_last_at timestamptz, due_at timestamptz, scheduled_at timestamptz,
    ready_queue text
)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    at timestamptz := /*schema*/clock_now();
    made uuid[] := '{}';
    held uuid[];
    j /*schema*/jobs;
    known bigint;
    turn_due timestamptz;
    turn_status text;
    wanted timestamptz;
    is_untried boolean;
begin
    -- Again, where a job that had ended was deleted between the two statements.
    while _waits loop
        with wanted_jobs as (
            select distinct on (i.kind, i.name, i.key) i.kind, i.name, i.key, i.job_id, i.version
            from unnest(_kind, _name, _key, _job_id, _version) as i (kind, name, key, job_id, version)
            order by i.kind, i.name, i.key
        ),
        inserted as (
            insert into /*schema*/jobs (id, kind, name, key, state_version, created_at, updated_at)
            select w.job_id, w.kind, w.name, w.key, w.version, at, at
            from wanted_jobs as w
            order by w.kind, w.name, w.key
            on conflict do nothing
            returning id
        )
        select made || coalesce(array_agg(inserted.id), '{}') into made from inserted;

        perform 1
        from /*schema*/jobs as e
        where e.id = any(array(
            select x.id
            from unnest(_kind, _name, _key) as i (kind, name, key)
                join /*schema*/jobs as x on x.kind = i.kind and x.name = i.name and x.key = i.key))
        order by e.id
        for no key update;

        exit when not exists (
            select 1
            from unnest(_kind, _name, _key) as i (kind, name, key)
                left join /*schema*/jobs as x on x.kind = i.kind and x.name = i.name and x.key = i.key
            where x.id is null
        );
    end loop;
    if not _waits then
        select coalesce(array_agg(l.id), '{}') into held
        from (
            select e.id
            from /*schema*/jobs as e
            where e.id = any(array(
                select x.id
                from unnest(_kind, _name, _key) as i (kind, name, key)
                    join /*schema*/jobs as x on x.kind = i.kind and x.name = i.name and x.key = i.key))
            order by e.id
            for no key update skip locked
        ) as l;
    end if;

    for place in 1 .. cardinality(_key) loop
        select * into j
        from /*schema*/jobs as e
        where e.kind = _kind[place] and e.name = _name[place] and e.key = _key[place];
        if _waits and not found then
            raise no_data_found;
        elsif not _waits and (not found or j.id <> all(held)) then
            continue;
        end if;
        nth := place;
        job_id := j.id;
        is_new := j.id = any(made);
        is_duplicate := false;
        ready_queue := null;
        due_at := null;
        if _event_id[place] is not null then
            delete from /*schema*/inbox as x
            where x.job_id = j.id and x.event_id = _event_id[place] and x.status = 'consumed' and x.expires_at <= at;
            select x.number into known
            from /*schema*/inbox as x
            where x.job_id = j.id and x.event_id = _event_id[place];
            is_duplicate := found;
        end if;
        if j.ended_at is not null and not is_duplicate then
            is_new := true;
            update /*schema*/jobs as e
            set status = 'active', reason = null, state = null, state_version = _version[place], run_count = 0,
                execute_count = 0, event_count = 0, error = null, scheduled_at = null, created_at = at, ended_at = null
            where e.id = j.id
            returning e.* into j;
        end if;
        turn_status := null;
        if j.turn_id is not null then
            select e.due_at, e.status, e.attempts = 0 and j.turn_cause is null
            into turn_due, turn_status, is_untried
            from /*schema*/executions as e
            where e.id = j.turn_id;
        end if;
        if is_duplicate then
            number := known;
        else
            made := array_remove(made, j.id);
            number := j.event_count + 1;
            insert into /*schema*/inbox (job_id, epoch, number, event_id, payload, received_at, expires_at)
            values (j.id, j.epoch, number, _event_id[place], _payload[place], at,
                at + _dedupe[place] * interval '1 second');
            j.event_count := number;
            j.pending_count := j.pending_count + 1;
            j.pending_first_at := coalesce(j.pending_first_at, at);
            j.pending_last_at := at;
            wanted := greatest(at, /*schema*/events_due_at(
                j.pending_count, j.pending_first_at, j.pending_last_at,
                _window[place], _max_wait[place], _max_events[place]));
            if j.turn_id is null and j.status = 'active' then
                j.turn_id := _turn_id[place];
                perform /*schema*/insert_turns(
                    array[j.turn_id], array[j.id], _task_name[place:place], _task_version[place:place],
                    _queue[place:place], _priority[place:place], _max_attempts[place:place], _timeout[place:place],
                    array[wanted], at);
                turn_due := wanted;
                turn_status := 'ready';
                is_untried := true;
                if wanted <= at then
                    ready_queue := _queue[place];
                end if;
            elsif turn_status = 'ready' and is_untried and turn_due > wanted then
                update /*schema*/executions as e
                set due_at = wanted, updated_at = at
                where e.id = j.turn_id and e.status = 'ready';
                if found then
                    turn_due := wanted;
                    if wanted <= at then
                        ready_queue := _queue[place];
                    end if;
                end if;
            end if;
            update /*schema*/jobs as e
            set event_count = j.event_count, pending_count = j.pending_count, pending_first_at = j.pending_first_at,
                pending_last_at = j.pending_last_at, turn_id = j.turn_id, updated_at = at
            where e.id = j.id;
        end if;
        pending_count := j.pending_count;
        pending_first_at := j.pending_first_at;
        pending_last_at := j.pending_last_at;
        scheduled_at := j.scheduled_at;
        if turn_status = 'ready' and is_untried then
            due_at := turn_due;
        end if;
        return next;
    end loop;
end
$$;
