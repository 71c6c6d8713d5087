"""The rows in memory that the record does not have: events, wake-ups, deliveries, and what pools remember."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from durable.approval_rows import StoredApproval

__all__ = [
    "DeliveryRight",
    "EventKey",
    "EventStatus",
    "InboxEvent",
    "KeptApproval",
    "Starts",
    "Turn",
    "Wakeup",
]

EventKey = tuple[str, int, int]
"""The job's id, the incarnation, the number."""


class Wakeup(NamedTuple):
    """A wake-up that has not yet met its sleeping task."""

    output: str | None
    error: str | None
    created_at: datetime


class EventStatus(StrEnum):
    PENDING = "pending"
    TAKEN = "taken"
    CONSUMED = "consumed"
    """Kept for its id alone."""
    DEAD = "dead"


class InboxEvent(NamedTuple):
    """One event of a job. Consumed ones without an id are not kept."""

    epoch: int
    """The incarnation that accepted it; it may be one before the job's."""
    number: int
    event_id: str | None
    payload: str
    received_at: datetime
    expires_at: datetime
    status: EventStatus
    turn_id: str | None
    batch_id: str | None = None
    """The turn that took it first."""


class DeliveryRight(NamedTuple):
    """Who delivers to a subscriber just now, and from when on anybody may."""

    holder: str | None
    lease_expires_at: datetime
    due_at: datetime
    failure_count: int


class Starts(NamedTuple):
    """How many executions of a pool with a rate have started at once."""

    at: datetime
    number: int


class Turn(NamedTuple):
    """When a serial key was last served, and how often by then."""

    at: datetime
    served: int


class KeptApproval(NamedTuple):
    """An approval, with what is not shown of it. Its status is as stored, whatever time or an end has made of it."""

    key: str
    token_hash: str
    row: StoredApproval
