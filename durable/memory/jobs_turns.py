"""The turns of jobs in memory: inserted when something is due, moved while untried, and taken once claimed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from durable.execution import Execution, Kind, NewExecution, Status
from durable.job import (
    Job,
    JobKey,
    JobKind,
    JobStatus,
    NewTurn,
    TakenTurn,
    TurnCause,
    TurnPolicy,
    TurnToTake,
    events_due_at,
    is_held,
)
from durable.memory.cancel import cancel_record
from durable.memory.claim import held_record
from durable.memory.jobs_inbox import give_back, mark_events, stored, taken_by, waiting_batch
from durable.memory.records import first_record
from durable.memory.store import Transaction
from durable.memory.timer_rows import start_timer
from durable.stored_errors import cancelled

__all__ = [
    "due_turn",
    "end_turn",
    "hold_turn",
    "insert_turn",
    "is_untried",
    "job_of",
    "job_under",
    "live_turn",
    "put_job",
    "take_turns",
]

_DELIVERIES: Final = 2147483647
"""A turn is poisoned by no number of lost leases: its attempts are limited, and the job's state is not lost."""


def put_job(tx: Transaction, job: Job) -> Job:
    job = job._replace(updated_at=tx.now)
    tx.jobs.put(job.id, job)
    tx.job_ids.put(job.job_key, job.id)
    return job


def job_under(tx: Transaction, key: JobKey) -> Job | None:
    """The job of that key, ended or not."""
    id_ = tx.job_ids.get(key)
    return tx.jobs.get(id_) if id_ is not None else None


def job_of(tx: Transaction, turn: Execution) -> Job | None:
    """The job whose live turn this is."""
    job = tx.jobs.get(turn.root_id)
    return job if job is not None and job.turn_id == turn.id else None


def live_turn(tx: Transaction, job: Job) -> Execution | None:
    return tx.executions.get(job.turn_id) if job.turn_id is not None else None


def is_untried(job: Job, turn: Execution) -> bool:
    """It waits for its first attempt, and has taken nothing yet."""
    return turn.status is Status.READY and turn.attempts == 0 and job.turn_cause is None


def insert_turn(tx: Transaction, job: Job, turn: NewTurn, due_at: datetime) -> tuple[Job, str | None]:
    """The job with its new live turn, and the queue if that is due already."""
    row = NewExecution(
        **turn._asdict(),
        root_id=job.id,
        parent_id=None,
        child_index=None,
        is_finalize=False,
        depth=0,
        kind=Kind.TURN,
        input="{}",
        idempotency_key=None,
        idempotency_hash=None,
        sleeping_id=None,
        retry=None,
        max_deliveries=_DELIVERIES,
        delay=0.0,
        run_at=due_at,
    )
    tx.put(first_record(row, tx.now))
    job = job._replace(turn_id=turn.id, turn_cause=None, turn_slot=None, turn_began_at=None)
    return job, turn.queue if due_at <= tx.now else None


def due_turn(tx: Transaction, turn: Execution, due_at: datetime) -> str | None:
    """Move a ready turn that has not been tried; gives the queue if it is due then."""
    tx.put(turn._replace(due_at=max(due_at, tx.now), updated_at=tx.now))
    return turn.queue if due_at <= tx.now else None


def end_turn(tx: Transaction, job: Job, *, reason: str, message: str) -> Job:
    """The job without its live turn, which is cancelled, running or not; `message` is for its error."""
    turn = live_turn(tx, job)
    if turn is not None:
        cancel_record(tx, turn, reason=reason, error=cancelled(message))
    return job._replace(turn_id=None, turn_cause=None, turn_slot=None, turn_began_at=None)


def hold_turn(tx: Transaction, job: Job, turn: Execution) -> Job:
    """The job without its live turn, because it is paused: what that took and was for is there for the next."""
    was_triggered = job.turn_cause in (TurnCause.TRIGGER, TurnCause.NOTHING)
    job = job._replace(
        error=turn.error or job.error,
        scheduled_at=job.scheduled_at or job.turn_slot,
        is_triggered=job.is_triggered or was_triggered,
    )
    return end_turn(tx, give_back(tx, job, taken_by(tx, job, turn.id)), reason="paused", message="the job was paused")


def take_turns(tx: Transaction, turns: Sequence[TurnToTake]) -> list[TakenTurn]:
    found = [_take(tx, turn) for turn in turns]
    return [taken for taken in found if taken is not None]


def _take(tx: Transaction, turn: TurnToTake) -> TakenTurn | None:
    record = held_record(tx, turn.turn_id, turn.fence)
    job = job_of(tx, record) if record is not None else None
    if record is None or job is None:
        return None
    if is_held(job):
        held = put_job(tx, hold_turn(tx, job, record))
        return TakenTurn(turn.turn_id, held._replace(turn_cause=TurnCause.NOTHING), (), tx.now, None)
    if job.status is JobStatus.PAUSED and job.is_triggered and _gives_way(job):
        job = job._replace(turn_cause=None)
    due_at = None
    if job.turn_cause is None:
        cause = _cause(tx, job, turn.policy)
        if cause is TurnCause.NOTHING:
            job = job._replace(turn_cause=cause)
            due_at = min((at for at in (job.scheduled_at, events_due_at(job, turn.policy)) if at), default=None)
        else:
            job = _begun(tx, job, turn, cause)
            if turn.policy.window is not None and waiting_batch(tx, job) is not None:
                job = job._replace(is_triggered=True)  # until none waits that was taken before
            job = put_job(tx, job)
    is_of_timers = job.kind is JobKind.TIMER and job.turn_cause is not TurnCause.NOTHING
    timer = start_timer(tx, job) if is_of_timers else None
    events = taken_by(tx, job, turn.turn_id)
    batch_id = events[0].batch_id if events else None
    return TakenTurn(turn.turn_id, job, stored(events), tx.now, due_at, timer, batch_id)


def _gives_way(job: Job) -> bool:
    """Of a paused job: its turn is held but for a trigger that came later, for which it runs then."""
    return job.kind is JobKind.CONTINUOUS and job.turn_cause is not TurnCause.TRIGGER


def _cause(tx: Transaction, job: Job, policy: TurnPolicy) -> TurnCause:
    if job.is_triggered:
        return TurnCause.TRIGGER
    events_at, scheduled_at = events_due_at(job, policy), job.scheduled_at
    if scheduled_at is not None and scheduled_at <= tx.now and (events_at is None or scheduled_at <= events_at):
        return TurnCause.SCHEDULE
    return TurnCause.EVENTS if events_at is not None and events_at <= tx.now else TurnCause.NOTHING


def _begun(tx: Transaction, job: Job, turn: TurnToTake, cause: TurnCause) -> Job:
    job = job._replace(turn_cause=cause, turn_began_at=tx.now)
    if cause is TurnCause.SCHEDULE:
        return job._replace(turn_slot=job.scheduled_at, scheduled_at=None)
    if cause is TurnCause.TRIGGER:
        job = job._replace(is_triggered=False)
        if turn.policy.window is None:
            return job
    return mark_events(tx, job, turn.turn_id, turn.policy)
