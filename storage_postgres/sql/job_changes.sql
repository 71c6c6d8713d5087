-- name: turn_of
-- The status of the live turn of a job whose row is held. Index: the primary key.
select e.status from /*schema*/executions as e where e.id = %(id)s::uuid;

-- name: trigger_turn
-- Make a turn that waits due now, from its first attempt. Locks what it writes.
-- Index: the primary key.
update /*schema*/executions as e
set due_at = /*schema*/clock_now(), attempts = 0, error = null, updated_at = /*schema*/clock_now()
where e.id = %(id)s::uuid
    and e.status = 'ready'
returning e.queue;

-- name: bring_forward
-- Make a turn that has taken events and waits for an attempt due now; one that failed only if that is asked for. It stays
-- the turn that it is, with its cause and its attempts. Locks what it writes. Index: the primary key.
update /*schema*/executions as e
set due_at = /*schema*/clock_now(), updated_at = /*schema*/clock_now()
where e.id = %(id)s::uuid
    and e.status = 'ready'
    and (%(always)s::boolean or e.attempts = 0)
returning e.queue;

-- name: trigger_job
-- Note a trigger, or another reason to run now, on a job whose row is held, and give it a turn if it has none.
-- Locks what it writes.
-- Index: the primary key.
with at as materialized (select /*schema*/clock_now() as now),
triggered as (
    update /*schema*/jobs as j
    set is_triggered = j.is_triggered or %(is_trigger)s::boolean,
        status = case when j.status = 'failed' then 'active' else j.status end,
        turn_cause = case when %(is_running)s::boolean then j.turn_cause end,
        turn_id = coalesce(j.turn_id, %(turn_id)s::uuid),
        updated_at = at.now
    from at
    where j.id = %(id)s::uuid
    returning /*include job_columns*/
),
inserted as materialized (
    select t.queue
    from triggered as j
        cross join at
        cross join lateral (select at.now as due_at) as n
        cross join lateral /*include one_turn*/ as t
    where j.turn_id = %(turn_id)s::uuid
)
select /*include job_columns*/, (select i.queue from inserted as i)
from triggered as j;

-- name: cancel_turn
-- End the live turn of a job whose row is held; its late end is then refused. Locks what it writes.
-- Index: the primary key.
update /*schema*/executions as e
set status = 'cancelled',
    fence = e.fence + 1,
    error = %(error)s::text,
    reason = %(reason)s::text,
    needs_cancel = e.status = 'running',
    lease_expires_at = null,
    finished_at = at.now,
    close_status = 'closed',
    closed_at = at.now,
    updated_at = at.now
from (select /*schema*/clock_now() as now) as at
where e.id = %(id)s::uuid
    and e.finished_at is null
returning e.id;

-- name: end_job
-- End a job whose row is held: a tombstone with its state, and without timers. Locks what it writes.
-- Index: the primary key, timers_due.
with dropped as (
    delete from /*schema*/timers as t where t.job_id = %(id)s::uuid
)
update /*schema*/jobs as j
set status = %(status)s::text, reason = %(reason)s::text, epoch = j.epoch + 1, turn_id = null, turn_cause = null,
    turn_slot = null, turn_began_at = null, is_triggered = false, scheduled_at = null, pending_count = 0, pending_first_at = null,
    pending_last_at = null, dead_count = 0, ended_at = /*schema*/clock_now(), updated_at = /*schema*/clock_now()
where j.id = %(id)s::uuid
returning j.id;

-- name: empty_inbox
-- Delete the events of a job whose row is held: all but those that were handled, whose ids are remembered, or only those
-- that no turn has ever taken. Locks what it writes. Index: the primary key.
delete from /*schema*/inbox as i
where i.job_id = %(id)s::uuid
    and case when %(is_all)s::boolean then i.status <> 'consumed' else i.status = 'pending' and i.batch_id is null end
returning i.number;

-- name: count_pending
-- Note how many events of a job wait, whose row is held. Locks what it writes. Index: inbox_pending, the primary key.
update /*schema*/jobs as j
set pending_count = k.count, pending_first_at = k.first_at, pending_last_at = k.last_at,
    updated_at = /*schema*/clock_now()
from (
    select count(*) as count, min(i.received_at) as first_at, max(i.received_at) as last_at
    from /*schema*/inbox as i
    where i.job_id = %(id)s::uuid and i.status = 'pending'
) as k
where j.id = %(id)s::uuid
returning j.id;

-- name: idle_job
-- Note that a job whose row is held, and whose turn has been cancelled, has nothing to do. Locks what it writes.
-- Index: the primary key.
update /*schema*/jobs as j
set turn_id = null, turn_cause = null, turn_slot = null, turn_began_at = null, is_triggered = false, scheduled_at = null,
    pending_count = 0, pending_first_at = null, pending_last_at = null, updated_at = /*schema*/clock_now()
where j.id = %(id)s::uuid
returning j.id;

-- name: pause_job
-- Pause a job whose row is held, and whose turn, unless an attempt at it runs, is to be cancelled: the job keeps the error
-- of the attempt before. Of a triggered run that runs the cause says meanwhile that no other attempt begins. Locks what it writes. Index: the primary key, see `tell_parents`.
update /*schema*/jobs as j
set status = 'paused',
    error = case when %(is_running)s::boolean then j.error else coalesce((
        select e.error from /*schema*/executions as e where e.id = any(array[j.turn_id])), j.error) end,
    turn_id = case when %(is_running)s::boolean then j.turn_id end,
    turn_cause = case
        when not %(is_running)s::boolean then null
        when j.kind = 'continuous' and j.turn_cause = 'trigger' then 'nothing'
        else j.turn_cause end,
    is_triggered = j.is_triggered
        or (not %(is_running)s::boolean and coalesce(j.turn_cause in ('trigger', 'nothing'), false)),
    scheduled_at = case when %(is_running)s::boolean then j.scheduled_at else coalesce(j.scheduled_at, j.turn_slot) end,
    turn_slot = case when %(is_running)s::boolean then j.turn_slot end,
    turn_began_at = case when %(is_running)s::boolean then j.turn_began_at end,
    updated_at = /*schema*/clock_now()
where j.id = %(id)s::uuid
returning /*include job_columns*/;

-- name: begin_again
-- Begin a new incarnation of an ended job whose row is held, without anything to do yet. Locks what it writes.
-- Index: the primary key.
update /*schema*/jobs as j
set status = 'active', reason = null, state = null, run_count = 0, execute_count = 0, event_count = 0, error = null,
    created_at = at.now, updated_at = at.now, ended_at = null
from (select /*schema*/clock_now() as now) as at
where j.id = %(id)s::uuid
    and j.ended_at is not null
returning /*include job_columns*/;

-- name: has_dead_events
-- Whether a job has events whose turn failed for good. Index: inbox_dead.
select exists (select 1 from /*schema*/inbox as i where i.job_id = %(id)s::uuid and i.status = 'dead');

-- name: taken_count
-- How many events the live turn of a job has taken. Index: inbox_turn.
select count(*) from /*schema*/inbox as i where i.turn_id = %(turn)s::uuid and i.status = 'taken';

-- name: return_events
-- Make events of a job whose row is held pending again, with their old numbers: those of one turn, or dead ones.
-- Locks what it writes.
-- Index: inbox_turn, inbox_dead; the counts: inbox_pending.
with returned as (
    update /*schema*/inbox as i
    set status = 'pending', turn_id = null
    where (i.turn_id = %(turn)s::uuid and i.status = 'taken')
        or (%(is_dead)s::boolean and i.job_id = %(id)s::uuid and i.status = 'dead')
    returning i.received_at
),
kept as (
    select r.received_at from returned as r
    union all
    select i.received_at from /*schema*/inbox as i where i.job_id = %(id)s::uuid and i.status = 'pending'
)
update /*schema*/jobs as j
set pending_count = k.count, pending_first_at = k.first_at, pending_last_at = k.last_at,
    dead_count = case when %(is_dead)s::boolean then 0 else j.dead_count end
from (select count(*) as count, min(received_at) as first_at, max(received_at) as last_at from kept) as k
where j.id = %(id)s::uuid
    and exists (select 1 from returned)
returning j.pending_count;

-- name: resume_job
-- Let a paused job whose row is held go on: with its turn, or with one due at the planned moment. Locks what it writes.
-- Index: the primary key.
with at as materialized (select /*schema*/clock_now() as now),
resumed as (
    update /*schema*/jobs as j
    set status = 'active',
        turn_cause = case j.turn_cause when 'nothing' then 'trigger' else j.turn_cause end,
        turn_id = case when j.turn_id is null
                and (%(always)s::boolean or j.scheduled_at is not null or j.pending_count > 0 or j.is_triggered)
            then %(turn_id)s::uuid else j.turn_id end,
        updated_at = at.now
    from at
    where j.id = %(id)s::uuid
    returning /*include job_columns*/
),
inserted as materialized (
    select t.queue
    from resumed as j
        cross join at
        cross join lateral (
            select case when j.pending_count > 0 or j.is_triggered then at.now
                else coalesce(j.scheduled_at, at.now) end as due_at
        ) as n
        cross join lateral /*include one_turn*/ as t
    where j.turn_id = %(turn_id)s::uuid
)
select /*include job_columns*/, (select i.queue from inserted as i)
from resumed as j;
