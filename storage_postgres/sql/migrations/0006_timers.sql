-- Timers: rows under the job of their owner, of kind `timer`, whose row is held for every change of them. Columns stand
-- in the order of durable.timer.StoredTimer.

alter table /*schema*/jobs drop constraint jobs_kind;
alter table /*schema*/jobs add constraint jobs_kind check (kind in ('continuous', 'debounce', 'task', 'timer'));

create table /*schema*/timers (
    id uuid primary key,
    job_id uuid not null,
    owner text not null,
    name text,
    task_name text not null,
    input text not null,
    queue text not null,
    priority smallint not null,
    timeout double precision,
    due_at timestamptz not null,
    interval_seconds double precision,
    anchor text not null,
    retry_interval double precision not null,
    attempt integer not null default 0,
    error text,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint timers_anchor check (anchor in ('completion', 'schedule')),
    constraint timers_interval check (interval_seconds > 0),
    constraint timers_attempt check (attempt >= 0)
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.1);

create index timers_due on /*schema*/timers (job_id, due_at, id);
create unique index timers_name on /*schema*/timers (job_id, name) where name is not null;

-- Note on a job whose row is held when its first timer is due, and move its turn there unless that has been tried; gives
-- the queue in which the turn became due now. A turn that has nothing to wait for any more goes without a trace.
create function /*schema*/plan_timers(_job_id uuid, _at timestamptz) returns text
language plpgsql volatile
as $$
declare
    first /*schema*/timers;
    moved text;
begin
    select t.* into first
    from /*schema*/timers as t
    where t.job_id = _job_id
    order by t.due_at, t.id
    limit 1;
    if first.id is null then
        with removed as (
            delete from /*schema*/executions as e
            using /*schema*/jobs as j
            where j.id = _job_id and e.id = j.turn_id and j.turn_cause is null
                and e.status = 'ready' and e.attempts = 0
            returning e.id
        )
        update /*schema*/jobs as j
        set turn_id = case when exists (select 1 from removed) then null else j.turn_id end,
            scheduled_at = null, updated_at = _at
        where j.id = _job_id;
        return null;
    end if;
    update /*schema*/executions as e
    set due_at = greatest(first.due_at, _at), queue = first.queue, priority = first.priority, updated_at = _at
    from /*schema*/jobs as j
    where j.id = _job_id and e.id = j.turn_id and j.turn_cause is null
        and e.status = 'ready' and e.attempts = 0
    returning e.queue into moved;
    update /*schema*/jobs as j set scheduled_at = first.due_at, updated_at = _at where j.id = _job_id;
    return case when first.due_at <= _at then moved end;
end
$$;

-- Set a timer, in one round trip: the job of its owner if there is none, the timer in place of the one of its name, and
-- the turn for it. A function, because each statement in it sees what others committed while the one before waited for
-- the row of the job. A timer of that id is left as it is: a call may be repeated.
create function /*schema*/set_timer(
    _id uuid, _job_id uuid, _kind text, _job_name text, _owner text, _name text, _task_name text, _input text,
    _queue text, _priority smallint, _timeout double precision, _delay double precision, _run_at timestamptz,
    _interval double precision, _anchor text, _retry_interval double precision,
    _turn_id uuid, _turn_name text, _turn_version integer, _turn_attempts integer, _turn_timeout double precision
) returns table (timer /*schema*/timers, ready_queue text)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    now_at timestamptz := /*schema*/clock_now();
    due timestamptz;
    queue_told text;
    j /*schema*/jobs;
begin
    insert into /*schema*/jobs (id, kind, name, key, created_at, updated_at)
    values (_job_id, _kind, _job_name, _owner, now_at, now_at)
    on conflict do nothing;
    select e.* into strict j
    from /*schema*/jobs as e
    where e.kind = _kind and e.name = _job_name and e.key = _owner
    for no key update;
    if exists (select 1 from /*schema*/timers as t where t.id = _id) then
        return query select t, null::text from /*schema*/timers as t where t.id = _id;
        return;
    end if;
    if j.ended_at is not null then
        update /*schema*/jobs as e
        set status = 'active', reason = null, run_count = 0, error = null, scheduled_at = null, created_at = now_at,
            ended_at = null
        where e.id = j.id
        returning e.* into j;
    end if;
    delete from /*schema*/timers as t where t.job_id = j.id and t.name = _name;
    due := coalesce(_run_at, now_at + _delay * interval '1 second');
    insert into /*schema*/timers (
        id, job_id, owner, name, task_name, input, queue, priority, timeout, due_at, interval_seconds, anchor,
        retry_interval, created_at, updated_at
    )
    values (_id, j.id, _owner, _name, _task_name, _input, _queue, _priority, _timeout, due, _interval, _anchor,
        _retry_interval, now_at, now_at);
    if j.turn_id is null and j.status = 'active' then
        perform /*schema*/insert_turns(
            array[_turn_id], array[j.id], array[_turn_name], array[_turn_version], array[_queue], array[_priority],
            array[_turn_attempts], array[_turn_timeout], array[due], now_at);
        update /*schema*/jobs as e set turn_id = _turn_id where e.id = j.id;
    end if;
    queue_told := /*schema*/plan_timers(j.id, now_at);
    return query select t, queue_told from /*schema*/timers as t where t.id = _id;
end
$$;

-- Delete a timer, or those of an owner, also while one of them runs; gives how many.
create function /*schema*/cancel_timers(_kind text, _job_name text, _id uuid, _owner text, _name text) returns bigint
language plpgsql volatile
as $$
declare
    job uuid;
    deleted bigint;
begin
    if _id is not null then
        select t.job_id into job from /*schema*/timers as t where t.id = _id;
    else
        select j.id into job
        from /*schema*/jobs as j
        where j.kind = _kind and j.name = _job_name and j.key = _owner;
    end if;
    perform 1 from /*schema*/jobs as j where j.id = job for no key update;
    delete from /*schema*/timers as t
    where t.job_id = job and (_id is null or t.id = _id) and (_name is null or t.name = _name);
    get diagnostics deleted = row_count;
    if deleted > 0 then
        perform /*schema*/plan_timers(job, /*schema*/clock_now());
    end if;
    return deleted;
end
$$;
