"""What operators do to jobs in memory: trigger, end, clear, pause, resume, redrive."""

from __future__ import annotations

from collections.abc import Sequence

from durable.execution import Status
from durable.job import ENDED, Cleared, Job, JobKey, JobKind, JobStatus, NewTurn, Triggered, TurnCause, is_held
from durable.memory.jobs_append import incarnation
from durable.memory.jobs_inbox import counted, drop_events, events_of, give_back, taken_by
from durable.memory.jobs_turns import (
    due_turn,
    end_turn,
    hold_turn,
    insert_turn,
    is_untried,
    job_under,
    live_turn,
    put_job,
)
from durable.memory.outbox import emit
from durable.memory.store import EventStatus, Transaction
from durable.memory.timer_rows import timers_of
from durable.notice import NewNotice

__all__ = [
    "clear_job",
    "drop_timers",
    "end_job",
    "ended",
    "living_job",
    "pause_job",
    "redrive_job",
    "resume_job",
    "tombstone",
    "trigger_job",
]


def living_job(tx: Transaction, key: JobKey) -> Job | None:
    job = job_under(tx, key)
    return job if job is not None and job.status not in ENDED else None


# --- trigger and redrive -----------------------------------------------------------------------------------------


def trigger_job(tx: Transaction, key: JobKey, *, turn: NewTurn, only_pending: bool) -> Triggered:
    job = living_job(tx, key)
    taken_count = _between_attempts(tx, job) if job is not None else 0
    if job is None or (only_pending and not job.pending_count and not taken_count):
        return Triggered(job, False, None)
    if taken_count:
        return _behind_events(tx, job, taken_count, is_for_events=only_pending)
    job = job._replace(is_triggered=True, status=_active_again(job))
    live = live_turn(tx, job)
    if live is None:
        job, ready_queue = insert_turn(tx, job, turn, tx.now)
        return Triggered(put_job(tx, job), False, ready_queue)
    if live.status is Status.RUNNING:
        # One that was claimed and has not been taken runs for this trigger.
        return Triggered(put_job(tx, job), job.turn_cause is not None, None)
    tx.put(live._replace(due_at=tx.now, attempts=0, error=None, updated_at=tx.now))
    job = job._replace(turn_cause=None)
    return Triggered(put_job(tx, job), False, live.queue)


def _behind_events(tx: Transaction, job: Job, taken_count: int, *, is_for_events: bool) -> Triggered:
    """What a trigger does to a turn that has taken events and waits for an attempt: that stays the same turn."""
    turn = live_turn(tx, job)
    assert turn is not None
    # A backoff is cut short only by who asks for these events; a turn that did not fail has none.
    is_due = is_for_events or turn.attempts == 0
    queue = due_turn(tx, turn, tx.now) if is_due else None
    job = put_job(tx, job._replace(is_triggered=job.is_triggered or not is_for_events))
    return Triggered(job, not is_for_events, queue, taken_count if is_for_events else 0)


def _active_again(job: Job) -> JobStatus:
    return JobStatus.ACTIVE if job.status is JobStatus.FAILED else job.status


def _between_attempts(tx: Transaction, job: Job) -> int:
    """How many events wait for the next attempt of the turn that has taken them."""
    turn = live_turn(tx, job)
    return len(taken_by(tx, job, turn.id)) if turn is not None and turn.status is Status.READY else 0


def redrive_job(tx: Transaction, key: JobKey, *, turn: NewTurn) -> Triggered:
    job = job_under(tx, key)
    dead = events_of(tx, job.id, EventStatus.DEAD) if job is not None else []
    if job is None or not (dead or job.status is JobStatus.FAILED):
        return Triggered(None, False, None)
    if job.status in ENDED:
        job = incarnation(tx, key, job.id, job)._replace(state_version=job.state_version)
    # The events of a Task are due by themselves, and a trigger would run something else before them.
    is_triggered = job.is_triggered or job.kind is not JobKind.TASK
    job = give_back(tx, job._replace(status=_active_again(job), is_triggered=is_triggered), dead)
    live = live_turn(tx, job)
    if live is None:
        job, ready_queue = insert_turn(tx, job, turn, tx.now)
        return Triggered(put_job(tx, job), False, ready_queue)
    if not is_untried(job, live):
        return Triggered(put_job(tx, job), job.turn_cause is not None, None)
    return Triggered(put_job(tx, job), False, due_turn(tx, live, tx.now))


# --- ends --------------------------------------------------------------------------------------------------------


def end_job(tx: Transaction, key: JobKey, *, reason: str | None, notices: Sequence[NewNotice]) -> Job | None:
    job = living_job(tx, key)
    if job is not None:
        without_turn = end_turn(tx, job, reason="job_ended", message=reason or "the job was ended")
        put_job(tx, ended(tx, without_turn, JobStatus.TERMINATED, reason))
        emit(tx, notices)
    return job


def ended(tx: Transaction, job: Job, status: JobStatus, reason: str | None) -> Job:
    """The tombstone of a job whose turn has ended, and with it its timers and its events, but for those handled."""
    drop_events(tx, job.id, events_of(tx, job.id, EventStatus.PENDING, EventStatus.TAKEN, EventStatus.DEAD))
    drop_timers(tx, job)
    return tombstone(tx, counted(tx, job), status, reason)


def drop_timers(tx: Transaction, job: Job) -> None:
    for timer in timers_of(tx, job.id):
        tx.timers.remove(timer.id)


def tombstone(tx: Transaction, job: Job, status: JobStatus, reason: str | None) -> Job:
    """The same of a job that has nothing more to do, with the ids that it remembers, and its dead events."""
    return job._replace(
        epoch=job.epoch + 1,
        status=status,
        reason=reason,
        turn_id=None,
        turn_cause=None,
        turn_slot=None,
        turn_began_at=None,
        is_triggered=False,
        scheduled_at=None,
        ended_at=tx.now,
    )


def clear_job(tx: Transaction, key: JobKey) -> Cleared | None:
    job = living_job(tx, key)
    if job is None:
        return None
    never_taken = [event for event in events_of(tx, job.id, EventStatus.PENDING) if event.batch_id is None]
    drop_events(tx, job.id, never_taken)
    left = counted(tx, job)
    goes_on = left.pending_count > 0 or (job.turn_id is not None and bool(taken_by(tx, job, job.turn_id)))
    if not goes_on:
        left = end_turn(tx, left, reason="job_cleared", message="the job was cleared")
        # One with dead events lives on: retention would delete them with a tombstone.
        left = _idle(left) if left.dead_count else ended(tx, left, JobStatus.CLEARED, None)
    put_job(tx, left)
    return Cleared(job, goes_on, len(never_taken))


def _idle(job: Job) -> Job:
    """A job without a turn that has nothing to run for either."""
    return job._replace(is_triggered=False, scheduled_at=None)


# --- pause -------------------------------------------------------------------------------------------------------


def pause_job(tx: Transaction, key: JobKey) -> Job | None:
    job = living_job(tx, key)
    if job is None or not (job.status is JobStatus.ACTIVE or is_held(job)):
        return job
    turn = live_turn(tx, job)
    if turn is not None and turn.status is Status.READY:
        job = hold_turn(tx, job, turn)
    elif job.kind is JobKind.CONTINUOUS and job.turn_cause is TurnCause.TRIGGER:
        job = job._replace(turn_cause=TurnCause.NOTHING)  # no other attempt, unless another trigger comes
    return put_job(tx, job._replace(status=JobStatus.PAUSED))


def resume_job(tx: Transaction, key: JobKey, *, turn: NewTurn) -> Job | None:
    job = living_job(tx, key)
    if job is None or job.status is not JobStatus.PAUSED:
        return job
    cause = TurnCause.TRIGGER if job.turn_cause is TurnCause.NOTHING else job.turn_cause
    job = job._replace(status=JobStatus.ACTIVE, turn_cause=cause)
    if job.turn_id is None:
        due_at = tx.now if job.is_triggered or job.pending_count else job.scheduled_at
        if due_at is None and job.kind is JobKind.CONTINUOUS:
            due_at = tx.now  # what it was planned for is not known, and it has no other reason to go on
        if due_at is not None:
            job, _ = insert_turn(tx, job, turn, due_at)
    return put_job(tx, job)
