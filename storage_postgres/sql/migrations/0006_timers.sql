-- Timers: rows under a job of kind `timer`, whose row is held for every change of them: that of their owner, or one of
-- their own where they wait for no other. One that was set is remembered, so that a call may be repeated after it has
-- fired. Columns stand in the order of durable.timer.StoredTimer.

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
    is_sequential boolean not null default true,
    is_failed boolean not null default false,
    constraint timers_anchor check (anchor in ('completion', 'schedule')),
    constraint timers_interval check (interval_seconds > 0),
    constraint timers_attempt check (attempt >= 0)
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.1);

create index timers_due on /*schema*/timers (job_id, is_failed, due_at, id);
create unique index timers_name on /*schema*/timers (owner, name) where name is not null;
create index timers_owner on /*schema*/timers (owner, due_at, id);

-- Note on a job whose row is held when its first timer is due, and move its turn there unless that has been tried; gives
-- the queue in which the turn became due now. A turn that has nothing to wait for any more goes without a trace, and a
-- job without timers and turn ends.
create function /*schema*/plan_timers(_job_id uuid, _at timestamptz) returns text
language plpgsql volatile
as $$
declare
    first /*schema*/timers;
    moved text;
begin
    select t.* into first
    from /*schema*/timers as t
    where t.job_id = _job_id and not t.is_failed
    order by t.due_at, t.id
    limit 1;
    if first.id is null then
        with removed as (
            delete from /*schema*/executions as e
            using /*schema*/jobs as j
            where j.id = _job_id and e.id = j.turn_id and j.turn_cause is null
                and e.status = 'ready' and e.attempts = 0
            returning e.id
        ),
        next as materialized (
            select j.turn_id is null or exists (select 1 from removed) as is_end
            from /*schema*/jobs as j
            where j.id = _job_id
        )
        update /*schema*/jobs as j
        set turn_id = case when not n.is_end then j.turn_id end,
            status = case when n.is_end then 'terminated' else j.status end,
            epoch = j.epoch + case when n.is_end then 1 else 0 end,
            ended_at = case when n.is_end then _at end,
            is_triggered = j.is_triggered and not n.is_end,
            reason = case when not n.is_end then j.reason end,
            scheduled_at = null, updated_at = _at
        from next as n
        where j.id = _job_id and j.ended_at is null;
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

-- Set a timer, in one round trip: its job if there is none, the timer in place of the one of its name, whatever job that
-- has, and the turn for it. A function, because each statement in it sees what others committed while the one before
-- waited. Who changes timers of several jobs holds the owner first, so no two of them wait for each other; turns wait for
-- no job. The id is remembered as that of an event would be: with it the call changes nothing, fired or not.
create function /*schema*/set_timer(
    _id uuid, _job_id uuid, _kind text, _job_name text, _key text, _owner text, _name text, _task_name text,
    _input text, _queue text, _priority smallint, _timeout double precision, _delay double precision,
    _run_at timestamptz, _interval double precision, _anchor text, _retry_interval double precision,
    _is_sequential boolean, _remember double precision,
    _turn_id uuid, _turn_name text, _turn_version integer, _turn_attempts integer, _turn_timeout double precision
) returns table (timer /*schema*/timers, ready_queue text)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
    now_at timestamptz := /*schema*/clock_now();
    j /*schema*/jobs;
    replaced uuid;
begin
    perform pg_advisory_xact_lock(hashtextextended(_owner, 9));
    -- Again, where a job that had ended was deleted between the two statements.
    while j.id is null loop
        insert into /*schema*/jobs (id, kind, name, key, created_at, updated_at)
        values (_job_id, _kind, _job_name, _key, now_at, now_at)
        on conflict do nothing;
        select e.* into j
        from /*schema*/jobs as e
        where e.kind = _kind and e.name = _job_name and e.key = _key
        for no key update;
    end loop;
    select t.* into timer from /*schema*/timers as t where t.id = _id;
    if found then
        return next;
        return;
    end if;
    timer.id := _id;
    timer.job_id := j.id;
    timer.owner := _owner;
    timer.name := _name;
    timer.task_name := _task_name;
    timer.input := _input;
    timer.queue := _queue;
    timer.priority := _priority;
    timer.timeout := _timeout;
    timer.due_at := coalesce(_run_at, now_at + _delay * interval '1 second');
    timer.interval_seconds := _interval;
    timer.anchor := _anchor;
    timer.retry_interval := _retry_interval;
    timer.attempt := 0;
    timer.created_at := now_at;
    timer.updated_at := now_at;
    timer.is_sequential := _is_sequential;
    timer.is_failed := false;
    if exists (select 1 from /*schema*/inbox as i where i.job_id = j.id and i.event_id = _id::text) then
        return next;
        return;
    end if;
    insert into /*schema*/inbox (job_id, epoch, number, event_id, payload, received_at, expires_at, status)
    values (j.id, j.epoch, j.event_count + 1, _id::text, 'null', now_at, now_at + _remember * interval '1 second', 'consumed');
    update /*schema*/jobs as e
    set event_count = e.event_count + 1,
        status = case when e.ended_at is null then e.status else 'active' end,
        reason = case when e.ended_at is null then e.reason end,
        run_count = case when e.ended_at is null then e.run_count else 0 end,
        error = case when e.ended_at is null then e.error end,
        scheduled_at = case when e.ended_at is null then e.scheduled_at end,
        created_at = case when e.ended_at is null then e.created_at else now_at end,
        ended_at = null
    where e.id = j.id
    returning e.* into j;
    select t.job_id into replaced from /*schema*/timers as t where t.owner = _owner and t.name = _name;
    if found then
        perform 1 from /*schema*/jobs as e where e.id = replaced for no key update;
        delete from /*schema*/timers as t where t.owner = _owner and t.name = _name;
        if replaced <> j.id then
            perform /*schema*/plan_timers(replaced, now_at);
        end if;
    end if;
    insert into /*schema*/timers select (timer).*;
    if j.turn_id is null and j.status = 'active' then
        perform /*schema*/insert_turns(
            array[_turn_id], array[j.id], array[_turn_name], array[_turn_version], array[_queue], array[_priority],
            array[_turn_attempts], array[_turn_timeout], array[timer.due_at], now_at);
        update /*schema*/jobs as e set turn_id = _turn_id where e.id = j.id;
    end if;
    ready_queue := /*schema*/plan_timers(j.id, now_at);
    return next;
end
$$;

-- Delete a timer, or those of an owner, also while one of them runs; gives how many. Holds the owner for the second, and
-- the rows of the jobs in the order of their ids.
create function /*schema*/cancel_timers(_id uuid, _owner text, _name text) returns bigint
language plpgsql volatile
as $$
declare
    now_at timestamptz := /*schema*/clock_now();
    touched uuid[];
    job uuid;
    deleted bigint;
begin
    if _id is null then
        perform pg_advisory_xact_lock(hashtextextended(_owner, 9));
    end if;
    select array_agg(distinct t.job_id order by t.job_id) into touched
    from /*schema*/timers as t
    where case when _id is null then t.owner = _owner and (_name is null or t.name = _name) else t.id = _id end;
    perform 1 from /*schema*/jobs as j where j.id = any(touched) order by j.id for no key update;
    with gone as (
        delete from /*schema*/timers as t
        where case when _id is null then t.owner = _owner and (_name is null or t.name = _name) else t.id = _id end
        returning t.job_id
    )
    select count(*), array_agg(distinct g.job_id order by g.job_id) into deleted, touched from gone as g;
    foreach job in array coalesce(touched, '{}') loop
        perform /*schema*/plan_timers(job, now_at);
    end loop;
    return deleted;
end
$$;
