"""What the end of a turn writes to its job in memory: state, counters, plan, events, and the next turn."""

from __future__ import annotations

from datetime import datetime, timedelta

from durable.execution import Execution
from durable.job import ENDED, EventsEnd, Job, JobCommit, JobKind, JobStatus, events_due_at
from durable.memory.jobs_append import incarnation
from durable.memory.jobs_inbox import counted, drop_events, events_of, give_back, put_events, taken_by
from durable.memory.jobs_operate import drop_timers, tombstone
from durable.memory.jobs_turns import insert_turn, job_of, put_job
from durable.memory.outbox import emit
from durable.memory.store import EventStatus, Transaction
from durable.memory.timer_rows import end_timer, first_timer

__all__ = ["commit_job"]


def commit_job(tx: Transaction, turn: Execution, commit: JobCommit) -> str | None:
    """Write the end of an accepted turn to its job; gives the queue in which the next turn is due at once."""
    job = job_of(tx, turn)
    assert job is not None, f"turn {turn.id} ran under its fence, and is the turn of no job"
    job = _end_events(tx, _written(tx, job, commit), turn.id, commit.events)
    job = job._replace(turn_id=None, turn_cause=None, turn_slot=None, turn_began_at=None)
    if commit.status in ENDED:
        drop_timers(tx, job)
        if job.pending_count:
            return _renewed(tx, job, commit)
        put_job(tx, tombstone(tx, job, commit.status, commit.reason))
        return None
    if commit.timer is not None:
        end_timer(tx, commit.timer)
    if job.kind is JobKind.TIMER:
        job, commit = _with_first_timer(tx, job, commit)
        if job.scheduled_at is None:
            put_job(tx, tombstone(tx, job, JobStatus.TERMINATED, commit.reason))
            return None
    due_at = _next_at(tx, job, commit)
    ready_queue = None
    if due_at is not None:
        job, ready_queue = insert_turn(tx, job, commit.next_turn, due_at)
    put_job(tx, job)
    return ready_queue


def _renewed(tx: Transaction, job: Job, commit: JobCommit) -> str | None:
    """Begin the next incarnation with the events that the ending turn did not see."""
    pending = events_of(tx, job.id, EventStatus.PENDING)
    drop_events(tx, job.id, pending)
    epoch = job.epoch + 1
    put_events(
        tx, job.id, [event._replace(epoch=epoch, number=number) for number, event in enumerate(pending, start=1)]
    )
    fresh = incarnation(tx, job.job_key, job.id, job._replace(epoch=epoch))
    fresh = counted(tx, fresh._replace(state_version=commit.state_version, event_count=len(pending)))
    due_at = events_due_at(fresh, commit.policy)
    assert due_at is not None
    fresh, ready_queue = insert_turn(tx, fresh, commit.next_turn, due_at)
    put_job(tx, fresh)
    emit(tx, commit.renewal)
    return ready_queue


def _written(tx: Transaction, job: Job, commit: JobCommit) -> Job:
    return job._replace(
        status=_status_after(job, commit),
        reason=commit.reason,
        state=commit.state if commit.writes_state else job.state,
        state_version=commit.state_version if commit.writes_state else job.state_version,
        run_count=job.run_count + commit.runs,
        execute_count=job.execute_count + commit.executes,
        error=job.error if commit.error is None and not commit.runs else commit.error,
        scheduled_at=_planned_at(tx, commit) if commit.writes_schedule else job.scheduled_at,
    )


def _status_after(job: Job, commit: JobCommit) -> JobStatus:
    if commit.status is JobStatus.ACTIVE and job.status is JobStatus.PAUSED:
        return JobStatus.PAUSED
    # A trigger that came while the turn ran does what one does that comes after it failed.
    return JobStatus.ACTIVE if commit.status is JobStatus.FAILED and job.is_triggered else commit.status


def _planned_at(tx: Transaction, commit: JobCommit) -> datetime | None:
    """A moment that has passed is kept as it is: a schedule counts on from it."""
    if commit.schedule_at is not None or commit.schedule_delay is None:
        return commit.schedule_at
    return tx.now + timedelta(seconds=commit.schedule_delay)


def _end_events(tx: Transaction, job: Job, turn_id: str, end: EventsEnd) -> Job:
    taken = taken_by(tx, job, turn_id)
    if end is EventsEnd.KEPT:
        return give_back(tx, job, taken)
    status = EventStatus.DEAD if end is EventsEnd.DEAD else EventStatus.CONSUMED
    is_kept = end is EventsEnd.DEAD
    drop_events(tx, job.id, [event for event in taken if event.event_id is None and not is_kept])
    put_events(tx, job.id, [event._replace(status=status) for event in taken if event.event_id is not None or is_kept])
    return counted(tx, job)


def _with_first_timer(tx: Transaction, job: Job, commit: JobCommit) -> tuple[Job, JobCommit]:
    """The job planned for the first of its timers, whose queue and priority its next turn has."""
    first = first_timer(tx, job.id)
    if first is None:
        return job._replace(scheduled_at=None), commit
    turn = commit.next_turn._replace(queue=first.queue, priority=first.priority)
    return job._replace(scheduled_at=first.due_at), commit._replace(next_turn=turn)


def _next_at(tx: Transaction, job: Job, commit: JobCommit) -> datetime | None:
    """When the next turn is due; None: nothing is."""
    if job.is_triggered:
        return tx.now
    if job.status is not JobStatus.ACTIVE:
        return None
    return min((at for at in (job.scheduled_at, events_due_at(job, commit.policy)) if at), default=None)
