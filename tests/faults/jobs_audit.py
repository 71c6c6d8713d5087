"""What the database itself writes down during a jobs run, and what must hold of its tables at every moment."""

from __future__ import annotations

from tests.faults.server import Database

__all__ = ["begin_audit", "behind", "still_open", "unscheduled"]

_AUDIT = """
create table /*schema*/job_audit (
    seq bigint generated always as identity, job_id uuid, instance text, epoch_before bigint, epoch bigint,
    status text, reason text, turn_before uuid, runs_before bigint, runs bigint, executes bigint, event_count bigint,
    state text, at timestamptz not null default clock_timestamp());
create function /*schema*/note_job() returns trigger language plpgsql as $$
begin
    insert into /*schema*/job_audit (
        job_id, instance, epoch_before, epoch, status, reason, turn_before, runs_before, runs, executes, event_count,
        state)
    values (new.id, new.kind || ':' || new.name || ':' || new.key, old.epoch, new.epoch, new.status, new.reason,
        old.turn_id, old.run_count, new.run_count, new.execute_count, new.event_count, new.state);
    return null;
end $$;
create trigger job_audit after update on /*schema*/jobs for each row
when (old.run_count is distinct from new.run_count or old.epoch <> new.epoch or old.status <> new.status
    or old.state is distinct from new.state)
execute function /*schema*/note_job();

create table /*schema*/inbox_audit (
    seq bigint generated always as identity, job_id uuid, epoch bigint, number bigint, event_id text,
    status_before text, status text, at timestamptz not null default clock_timestamp());
create index on /*schema*/inbox_audit (job_id, number, epoch) where status_before is null;
create function /*schema*/note_event() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into /*schema*/inbox_audit (job_id, epoch, number, event_id, status)
        values (new.job_id, new.epoch, new.number, new.event_id, new.status);
        return null;
    end if;
    insert into /*schema*/inbox_audit (job_id, epoch, number, event_id, status_before, status)
    values (old.job_id, old.epoch, old.number, old.event_id, old.status,
        case when tg_op = 'DELETE' then 'deleted' else new.status end);
    return null;
end $$;
create trigger inbox_audit after insert or delete or update of status on /*schema*/inbox for each row
execute function /*schema*/note_event();
"""

_UNSCHEDULED = """
select 'job', j.kind || ':' || j.name || ':' || j.key, v.what
from /*schema*/jobs as j
    left join /*schema*/executions as e on e.id = j.turn_id
    cross join lateral (
        select case
            when j.turn_id is not null and e.id is null then 'its turn is not there'
            when j.turn_id is not null and (e.kind <> 'turn' or e.root_id <> j.id) then 'its turn is of another'
            when j.turn_id is not null and e.finished_at is not null then 'its turn has ended'
            when j.status = 'active' and j.kind = 'continuous' and j.turn_id is null then 'it lives without a turn'
            when j.status = 'active' and j.pending_count > 0 and j.turn_id is null then 'its events have no turn'
            when j.status = 'active' and j.scheduled_at is not null and j.turn_id is null then 'its plan has no turn'
            when j.status = 'active' and j.is_triggered and j.turn_id is null then 'its trigger has no turn'
            when j.ended_at is not null and j.turn_id is not null then 'it has ended and has a turn'
            when e.status = 'ready' and e.due_at is null then 'its turn has no time'
            when j.status = 'active' and e.status = 'ready' and j.turn_cause is null and e.attempts = 0
                and j.scheduled_at > now() and e.due_at > j.scheduled_at then 'its turn is due after its plan'
            when j.pending_count <> (
                select count(*) from /*schema*/inbox as i where i.job_id = j.id and i.status = 'pending'
            ) then 'its count of pending events is wrong'
            when exists (
                select 1 from /*schema*/inbox as i
                where i.job_id = j.id and i.status = 'taken' and i.turn_id is distinct from j.turn_id
            ) then 'a turn that has ended holds its events'
        end as what
    ) as v
where v.what is not null
union all
select 'turn', e.id::text, 'no job names this unfinished turn'
from /*schema*/executions as e
where e.kind = 'turn' and e.finished_at is null
    and not exists (select 1 from /*schema*/jobs as j where j.id = e.root_id and j.turn_id = e.id)
"""

_OPEN = """
select 'execution ' || e.task_name || ' ' || e.status || ' due ' || coalesce(e.due_at::text, 'never')
from /*schema*/executions as e where e.finished_at is null
union all
select 'event ' || i.event_id || ' ' || i.status from /*schema*/inbox as i where i.status <> 'consumed'
union all
select 'job ' || j.kind || ':' || j.name || ':' || j.key || ' ' || j.status from /*schema*/jobs as j
where (j.is_triggered and j.status <> 'paused') or j.pending_count > 0 or j.turn_id is not null
"""


def behind(database: Database) -> int:
    """Turns that could run now for an event and do not: what the executors are behind their callers."""
    return int(
        database.value(
            "select count(*) from /*schema*/executions where kind = 'turn' and status = 'ready'"
            " and task_name not like 'continuous:%%' and due_at < clock_timestamp()"
        )
    )


def begin_audit(database: Database) -> None:
    """From now on every change of a job and of an event is written down."""
    database.rows(_AUDIT)


def unscheduled(database: Database) -> list[str]:
    """Jobs and turns that would be forgotten, in one snapshot: this holds after every commit."""
    return [f"unscheduled: {kind} {name}: {what}" for kind, name, what in database.rows(_UNSCHEDULED)]


def still_open(database: Database) -> list[str]:
    """What is left to be done once nothing ticks and nobody calls: executions, events and jobs."""
    return [f"open: {what}" for (what,) in database.rows(_OPEN)]
