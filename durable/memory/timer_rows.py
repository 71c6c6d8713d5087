"""The timers of a job in memory: the first of them, and what becomes of one that a turn starts."""

from __future__ import annotations

from datetime import datetime, timedelta

from durable.job import Job
from durable.memory.store import Transaction
from durable.timer import Anchor, StoredTimer, TimerEnd

__all__ = ["end_timer", "first_timer", "start_timer", "timers_of"]


def timers_of(tx: Transaction, job_id: str) -> list[StoredTimer]:
    """Those that wait, in order of time; then those that failed for good."""
    return [timer for is_failed in (False, True) for timer in tx.timers.find("of_job", (job_id, is_failed))]


def first_timer(tx: Transaction, job_id: str) -> StoredTimer | None:
    return next(tx.timers.find("of_job", (job_id, False)), None)


def start_timer(tx: Transaction, job: Job) -> StoredTimer | None:
    """The first that is due, with this start counted."""
    first = first_timer(tx, job.id)
    if first is None or first.due_at > tx.now:
        return None
    started = first._replace(attempt=first.attempt + 1, updated_at=tx.now)
    tx.timers.put(started.id, started)
    return started


def end_timer(tx: Transaction, end: TimerEnd) -> None:
    timer = tx.timers.get(end.id)
    if timer is None:
        return  # cancelled or replaced while it ran
    if end.error is None and timer.interval is None:
        tx.timers.remove(timer.id)
        return
    ended = timer._replace(
        due_at=timer.due_at if end.is_final else _due_again(timer, end, tx.now),
        attempt=0 if end.error is None else end.attempt,
        error=end.error,
        is_failed=end.is_final,
        updated_at=tx.now,
    )
    tx.timers.put(timer.id, ended)


def _due_again(timer: StoredTimer, end: TimerEnd, now: datetime) -> datetime:
    if end.error is not None:
        return now + timedelta(seconds=end.delay)
    assert timer.interval is not None
    interval = timedelta(seconds=timer.interval)
    if timer.anchor is Anchor.COMPLETION:
        return now + interval
    return timer.created_at + interval * ((now - timer.created_at) // interval + 1)
