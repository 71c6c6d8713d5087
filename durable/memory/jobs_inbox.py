"""The inbox of a job in memory: which events wait, when they are due, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterable

from durable.job import Job, StoredEvent, TurnPolicy
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
    "waiting_batch",
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
    return tuple(
        StoredEvent(
            event.number, event.event_id, event.payload, event.received_at,
            event.turn_id if event.status is EventStatus.TAKEN else None,
        )
        for event in events
    )  # fmt: skip


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


def mark_events(tx: Transaction, job: Job, turn_id: str, policy: TurnPolicy) -> Job:
    """Give pending events to a turn: with a window the first batch that was taken before, or else the first events."""
    found = events_of(tx, job.id, EventStatus.PENDING)
    batch_id = waiting_batch(tx, job) if policy.window is not None else None
    batch = [event for event in found if event.batch_id == batch_id]
    marked = found[: policy.max_events] if batch_id is None else batch
    taken = [
        event._replace(status=EventStatus.TAKEN, turn_id=turn_id, batch_id=event.batch_id or turn_id)
        for event in marked
    ]
    put_events(tx, job.id, taken)
    return counted(tx, job)


def waiting_batch(tx: Transaction, job: Job) -> str | None:
    """The first batch that was taken before and waits again. Such stand before all else, as turns take the first."""
    first = next(iter(events_of(tx, job.id, EventStatus.PENDING)), None)
    return first.batch_id if first is not None else None


def give_back(tx: Transaction, job: Job, events: Iterable[InboxEvent]) -> Job:
    """Make events pending again, in their old place."""
    put_events(tx, job.id, [event._replace(status=EventStatus.PENDING, turn_id=None) for event in events])
    return counted(tx, job)


def counted(tx: Transaction, job: Job) -> Job:
    """The job with the counts of the events that are pending now and dead, and the times of the pending ones."""
    received = [event.received_at for event in events_of(tx, job.id, EventStatus.PENDING)]
    return job._replace(
        pending_count=len(received),
        pending_first_at=received[0] if received else None,
        pending_last_at=received[-1] if received else None,
        dead_count=len(events_of(tx, job.id, EventStatus.DEAD)),
    )
