"""Start jobs, and append events to their inboxes, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from durable.job import ENDED, Appended, Job, JobKey, JobStatus, NewEvent, NewJob, Started, events_due_at
from durable.memory.jobs_inbox import counted, drop_events, known_event, put_events
from durable.memory.jobs_turns import due_turn, insert_turn, is_untried, job_under, live_turn, put_job
from durable.memory.outbox import emit
from durable.memory.store import EventStatus, InboxEvent, Transaction

__all__ = ["append_events", "append_free_events", "incarnation", "start_job"]


def start_job(tx: Transaction, new: NewJob) -> Started:
    job = job_under(tx, new.key)
    if job is not None and job.status not in ENDED:
        return Started(job, False)
    planned_at = new.run_at if new.run_at is not None else tx.now + timedelta(seconds=new.delay)
    scheduled_at = max(planned_at, tx.now)
    job = incarnation(tx, new.key, new.id, job)._replace(
        state=new.state, state_version=new.state_version, scheduled_at=scheduled_at
    )
    job, _ = insert_turn(tx, job, new.turn, scheduled_at)
    emit(tx, new.notices)
    return Started(put_job(tx, job), True)


def incarnation(tx: Transaction, key: JobKey, job_id: str, before: Job | None) -> Job:
    """A job without state, plan and events: the first of its key, or the next of one that has ended."""
    return Job(
        id=before.id if before is not None else job_id,
        kind=key.kind,
        name=key.name,
        key=key.key,
        epoch=before.epoch if before is not None else 1,
        status=JobStatus.ACTIVE,
        reason=None,
        state=None,
        state_version=1,
        turn_id=None,
        turn_cause=None,
        turn_slot=None,
        turn_began_at=None,
        is_triggered=False,
        scheduled_at=None,
        run_count=0,
        execute_count=0,
        event_count=0,
        pending_count=0,
        pending_first_at=None,
        pending_last_at=None,
        error=None,
        created_at=tx.now,
        updated_at=tx.now,
        ended_at=None,
        dead_count=before.dead_count if before is not None else 0,
    )


def append_events(tx: Transaction, events: Sequence[NewEvent]) -> list[Appended]:
    done = [_append(tx, event) for event in events]
    _tell(tx, events, done)
    return done


def _tell(tx: Transaction, events: Sequence[NewEvent], done: Sequence[Appended | None]) -> None:
    """Store the notices that what became of the events makes true."""
    pairs = zip(events, done, strict=True)
    emit(tx, [notice for event, each in pairs if each is not None and event.is_told(each) for notice in event.notices])


def append_free_events(tx: Transaction, events: Sequence[NewEvent]) -> list[Appended | None]:
    """Nobody holds a job in memory, so those are left out that are not there."""
    done = [None if job_under(tx, event.key) is None else _append(tx, event) for event in events]
    _tell(tx, events, done)
    return done


def _append(tx: Transaction, event: NewEvent) -> Appended:
    before = job_under(tx, event.key)
    if before is not None:
        repeated = _remembered(tx, before, event.event_id)
        if repeated is not None:
            return _appended(tx, before, repeated.number, is_duplicate=True)
    is_new_job = before is None or before.status in ENDED
    if before is None or is_new_job:
        job = incarnation(tx, event.key, event.job_id, before)._replace(state_version=event.state_version)
    else:
        job = before
    job = _received(tx, job, event)
    job, ready_queue = _make_due(tx, job, event)
    put_job(tx, job)
    return _appended(tx, job, job.event_count, is_new_job=is_new_job, ready_queue=ready_queue)


def _remembered(tx: Transaction, job: Job, event_id: str | None) -> InboxEvent | None:
    """The event of that id, unless it is over and its id need not be remembered any longer."""
    if event_id is None:
        return None
    found = known_event(tx, job.id, event_id)
    if found is not None and _is_forgotten(found, tx.now):
        drop_events(tx, job.id, [found])
        return None
    return found


def _is_forgotten(event: InboxEvent, now: datetime) -> bool:
    return event.status is EventStatus.CONSUMED and event.expires_at <= now


def _received(tx: Transaction, job: Job, event: NewEvent) -> Job:
    number = job.event_count + 1
    expires_at = tx.now + timedelta(seconds=event.dedupe_window)
    added = InboxEvent(job.epoch, number, event.event_id, event.payload, tx.now, expires_at, EventStatus.PENDING, None)
    put_events(tx, job.id, [added])
    return counted(tx, job._replace(event_count=number))


def _make_due(tx: Transaction, job: Job, event: NewEvent) -> tuple[Job, str | None]:
    """The job with a turn for its events: a new one, or the one that waits for a later moment."""
    due_at = events_due_at(job, event.policy)
    assert due_at is not None
    turn = live_turn(tx, job)
    if turn is None:
        return insert_turn(tx, job, event.turn, due_at) if job.status is JobStatus.ACTIVE else (job, None)
    if is_untried(job, turn) and turn.due_at > max(due_at, tx.now):
        return job, due_turn(tx, turn, due_at)
    return job, None


def _appended(
    tx: Transaction,
    job: Job,
    number: int,
    *,
    is_new_job: bool = False,
    is_duplicate: bool = False,
    ready_queue: str | None = None,
) -> Appended:
    turn = live_turn(tx, job)
    return Appended(
        job.id,
        number,
        is_new_job,
        is_duplicate,
        job.pending_count,
        job.pending_first_at,
        job.pending_last_at,
        turn.due_at if turn is not None and is_untried(job, turn) else None,
        job.scheduled_at,
        ready_queue,
    )
