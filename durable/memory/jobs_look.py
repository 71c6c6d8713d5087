"""What can be read of jobs in memory, and the events that are forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, takewhile

from durable.job import ENDED, EventEnd, Job, JobFilter, JobKey, JobKind, JobView, StoredEvent
from durable.memory.jobs_inbox import drop_events, events_of, known_event, stored, taken_by
from durable.memory.jobs_turns import job_under, live_turn
from durable.memory.store import EventStatus, InboxEvent, Transaction

__all__ = ["count_jobs", "event_end", "forget_events", "get_jobs", "list_jobs", "pending_events"]


def get_jobs(tx: Transaction, keys: Sequence[JobKey]) -> list[JobView | None]:
    jobs = [job_under(tx, key) for key in keys]
    return [_view(tx, job) if job is not None else None for job in jobs]


def _view(tx: Transaction, job: Job) -> JobView:
    turn = live_turn(tx, job)
    if turn is None:
        return JobView(job, None, None, None, None, 0)
    taken_count = len(taken_by(tx, job, turn.id))
    return JobView(job, turn.status, turn.due_at, turn.attempts, turn.error, taken_count)


def list_jobs(tx: Transaction, where: JobFilter, *, limit: int, after: JobKey | None) -> list[JobView]:
    found = [job for job in tx.jobs.values() if _matches(job, where) and (after is None or job.job_key > after)]
    found.sort(key=lambda job: job.job_key)
    return [_view(tx, job) for job in found[: max(limit, 0)]]


def count_jobs(tx: Transaction, where: JobFilter) -> int:
    return sum(_matches(job, where) for job in tx.jobs.values())


def _matches(job: Job, where: JobFilter) -> bool:
    return (
        (job.kind is not JobKind.TIMER if where.kind is None else job.kind is where.kind)
        and (where.name is None or job.name == where.name)
        and (job.status not in ENDED if where.statuses is None else job.status in where.statuses)
        and (where.key_prefix is None or job.key.startswith(where.key_prefix))
        and (where.kinds is None or job.kind in where.kinds)
        and (where.has_turn is None or (job.turn_id is not None) is where.has_turn)
        and (where.has_dead is None or (job.dead_count > 0) is where.has_dead)
    )


def pending_events(tx: Transaction, key: JobKey) -> list[StoredEvent]:
    job = job_under(tx, key)
    return list(stored(events_of(tx, job.id, EventStatus.PENDING, EventStatus.TAKEN))) if job is not None else []


def event_end(tx: Transaction, key: JobKey, event_id: str) -> EventEnd | None:
    job = job_under(tx, key)
    event = known_event(tx, job.id, event_id) if job is not None else None
    if event is None:
        return None
    return EventEnd(event.number, event.turn_id, event.status in (EventStatus.CONSUMED, EventStatus.DEAD))


def forget_events(tx: Transaction, *, limit: int) -> int:
    late = list(islice(_late_events(tx), max(limit, 0)))
    for job_id, event in late:
        drop_events(tx, job_id, [event])
    return len(late)


def has_late_events(tx: Transaction) -> bool:
    """Whether forget_events has something to do."""
    return any(True for _ in _late_events(tx))


def _late_events(tx: Transaction) -> Iterator[tuple[str, InboxEvent]]:
    """Consumed ones whose ids need not be remembered any longer, with their jobs, in the order of that time."""
    consumed = tx.events.find_items("status", EventStatus.CONSUMED)
    return ((key[0], event) for key, event in takewhile(lambda item: item[1].expires_at <= tx.now, consumed))
