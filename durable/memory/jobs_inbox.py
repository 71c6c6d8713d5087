"""The inbox of a job in memory: which events wait, when they are due, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterable

from durable.job import Job, StoredEvent
from durable.memory.store import EventStatus, InboxEvent, Transaction

__all__ = [
    "counted",
    "drop_events",
    "events_of",
    "give_back",
    "known_event",
    "mark_events",
    "put_events",
    "stored",
    "taken_by",
]


def events_of(tx: Transaction, job_id: str, *statuses: EventStatus) -> list[InboxEvent]:
    """By incarnation and number; without statuses, all."""
    found = [event for status in statuses or EventStatus for event in tx.events.find("of_job", (job_id, status))]
    return found if len(statuses) == 1 else sorted(found, key=lambda event: event[:2])


def known_event(tx: Transaction, job_id: str, event_id: str) -> InboxEvent | None:
    """The event of that id, in whatever incarnation."""
    return next(tx.events.find("of_id", (job_id, event_id)), None)


def taken_by(tx: Transaction, job: Job, turn_id: str) -> list[InboxEvent]:
    return [event for event in events_of(tx, job.id, EventStatus.TAKEN) if event.turn_id == turn_id]


def stored(events: Iterable[InboxEvent]) -> tuple[StoredEvent, ...]:
    return tuple(StoredEvent(event.number, event.event_id, event.payload, event.received_at) for event in events)


def put_events(tx: Transaction, job_id: str, events: Iterable[InboxEvent]) -> None:
    """Store events, in place of those with the same numbers of the same incarnation."""
    for event in events:
        tx.events.put((job_id, event.epoch, event.number), event)


def drop_events(tx: Transaction, job_id: str, events: Iterable[InboxEvent]) -> int:
    """Delete events; gives how many."""
    gone = list(events)
    for event in gone:
        tx.events.remove((job_id, event.epoch, event.number))
    return len(gone)


def mark_events(tx: Transaction, job: Job, turn_id: str, limit: int | None) -> Job:
    """Give the first pending events to a turn, `limit` of them at most."""
    marked = events_of(tx, job.id, EventStatus.PENDING)[:limit]
    put_events(tx, job.id, [event._replace(status=EventStatus.TAKEN, turn_id=turn_id) for event in marked])
    return counted(tx, job)


def give_back(tx: Transaction, job: Job, events: Iterable[InboxEvent]) -> Job:
    """Make events pending again, in their old place."""
    put_events(tx, job.id, [event._replace(status=EventStatus.PENDING, turn_id=None) for event in events])
    return counted(tx, job)


def counted(tx: Transaction, job: Job) -> Job:
    """The job with the count and the times of the events that are pending now."""
    received = [event.received_at for event in events_of(tx, job.id, EventStatus.PENDING)]
    return job._replace(
        pending_count=len(received),
        pending_first_at=received[0] if received else None,
        pending_last_at=received[-1] if received else None,
    )
