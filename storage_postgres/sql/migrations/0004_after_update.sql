-- What follows from the write of a record, whichever statement writes it: the callback of one that has ended, and the
-- end of one that was cancelled while it ran and is not started again. On the table and not in the statements, because
-- none of these may forget it, and because a record without either costs each of them one test for null.

-- A record that is called back for gets an execution in the transaction of its end. Its id follows from the record's
-- and the fence of the end, so no end has two; durable.callbacks makes the same one.
create function /*schema*/call_back() returns trigger
language plpgsql
as $$
declare
    spec jsonb;
    digest text := encode(sha256(convert_to(new.id || ':' || new.fence, 'UTF8')), 'hex');
    callback_id uuid := overlay(new.id::text placing
        '-7' || substr(digest, 1, 3) || '-8' || substr(digest, 4, 3) || '-' || substr(digest, 7, 12) from 14);
begin
    if old.finished_at is not null or not /*schema*/is_payload(new.on_complete) then
        return null;
    end if;
    spec := new.on_complete;
    if spec -> 'when' <> 'null' and not spec -> 'when' ? new.status then
        return null;
    end if;
    insert into /*schema*/executions (
        id, root_id, kind, task_name, task_version, queue, priority, input, retry, max_attempts, max_deliveries,
        timeout, delay, status, created_at, due_at, updated_at, is_pooled, serial_key
    )
    values (
        callback_id, callback_id, 'callback', spec ->> 'task_name', (spec ->> 'task_version')::integer,
        spec ->> 'queue', (spec ->> 'priority')::smallint,
        json_build_object(
            'execution_id', new.id, 'task_name', new.task_name, 'status', new.status, 'reason', new.reason,
            'output', new.output, 'error', new.error, 'context', spec ->> 'context',
            'is_within', (spec ->> 'is_within')::boolean)::text,
        spec ->> 'retry', (spec ->> 'max_attempts')::integer, (spec ->> 'max_deliveries')::integer,
        (spec ->> 'timeout')::double precision, (spec ->> 'delay')::double precision, 'ready', new.finished_at,
        new.finished_at + (spec ->> 'delay')::double precision * interval '1 second', new.finished_at,
        (spec ->> 'is_pooled')::boolean, spec ->> 'serial_key'
    );
    return null;
end
$$;

create trigger call_back after update of finished_at on /*schema*/executions
for each row when (new.on_complete is not null and new.finished_at is not null)
execute function /*schema*/call_back();

-- A record that was asked to end after its attempt, and that a write has made ready or waiting, is cancelled in the
-- same transaction: nobody sees it in between. Its parent is told as by the fragment `tell_parents`, but locked after it
-- and not before; a ring of locks that this could close is broken by the server, and the statement is tried again.
create function /*schema*/cancel_requested() returns trigger
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
    set active_children_count = p.active_children_count - 1,
        status = case
            when p.active_children_count = 1 and p.status in ('waiting_for_children', 'waiting_for_finalize')
                then 'ready'
            else p.status end,
        due_at = case
            when p.active_children_count = 1 and p.status in ('waiting_for_children', 'waiting_for_finalize')
                then at
            else p.due_at end,
        close_status = case
            when p.active_children_count = 1 and p.close_status = 'closing' then 'closed' else p.close_status end,
        closed_at = case when p.active_children_count = 1 and p.close_status = 'closing' then at else p.closed_at end,
        close_lease_expires_at = case when p.active_children_count = 1 then null else p.close_lease_expires_at end,
        updated_at = at
    where p.id = new.parent_id;
    return null;
end
$$;

create trigger cancel_requested after update of status on /*schema*/executions
for each row when (new.cancel_requested is not null)
execute function /*schema*/cancel_requested();

-- Parents that wait: with the other partial indexes of live states, every unfinished record can be found.
create index executions_parents on /*schema*/executions (id)
    where status in ('waiting_for_children', 'waiting_for_finalize');
