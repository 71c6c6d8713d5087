"""What the calls on keyed jobs give back: small, immutable, typed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

from durable.errors import ErrorInfo

__all__ = [
    "AddResult",
    "ClearResult",
    "ContinuousStatus",
    "DebounceStatus",
    "FlushResult",
    "JobSummary",
    "PauseResult",
    "RedriveResult",
    "SendResult",
    "ShownStatus",
    "StartResult",
    "TaskJobStatus",
    "TaskState",
    "TerminateResult",
    "TriggerResult",
]

S = TypeVar("S")


class ShownStatus(StrEnum):
    """What a job is called at the moment; derived from what is stored."""

    NOT_FOUND = "not_found"
    RUNNING = "running"
    """Of a Continuous: it lives, and its next run is planned or on its way."""
    PAUSED = "paused"
    FAILED = "failed"
    """Retries are used up; trigger or terminate it."""
    TERMINATED = "terminated"
    DEBOUNCING = "debouncing"
    """Of a Debounce: events wait for their flush, or are being flushed, or wait for another try at it."""
    ACTIVE = "active"
    """Of a Task: a turn runs, or is due now or later."""
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class StartResult:
    """What a start came to."""

    instance_id: str
    created: bool
    """False: the key lives already, and the state given was not used."""
    status: ShownStatus


@dataclass(frozen=True, slots=True)
class TriggerResult:
    """What a trigger met."""

    instance_id: str
    triggered: bool
    """False: the key does not live."""
    queued: bool = False
    """A turn runs, or waits with an event that it handles first: one more follows, however many triggers came."""


@dataclass(frozen=True, slots=True)
class TerminateResult:
    """Whether there was a job to end."""

    instance_id: str
    terminated: bool
    reason: str | None = None
    """The reason given, or `not_found`."""


@dataclass(frozen=True, slots=True)
class PauseResult:
    """How a pause or a resume left the job."""

    instance_id: str
    changed: bool
    """False: the key does not live, or was paused or running before."""
    status: ShownStatus


@dataclass(frozen=True, slots=True)
class RedriveResult:
    """Whether there was something to run again."""

    instance_id: str
    redriven: bool
    """False: nothing had failed for good."""


@dataclass(frozen=True, slots=True)
class _Attempted:
    attempt: int = 0
    """Starts of the turn that runs or is retried; 0 between turns."""
    next_run_at: datetime | None = None
    """When the next turn is due, also that of a retry; None while one runs, and where nothing is planned."""
    is_turn_running: bool = False
    last_error: ErrorInfo | None = None
    """The error of the attempt before, or of the last turn that failed for good; None after a good one."""
    dead_letters: int = 0
    """Events whose turn failed for good; they are kept for `redrive`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuousStatus(_Attempted):
    """How a Continuous stands."""

    status: ShownStatus
    run_count: int = 0
    reason: str | None = None
    """Why it was terminated, if somebody said so."""


@dataclass(frozen=True, slots=True)
class AddResult:
    """What became of an event for a Debounce, and of the batch that it joined."""

    instance_id: str
    event_count: int
    """Events of the open batch, this one included."""
    will_flush_at: datetime | None
    """None while a flush runs or is retried: the open batch gets its moment when that is over."""
    created: bool
    """This event opened the batch."""
    duplicate: bool = False
    """An event of that id was accepted before; this one changed nothing."""


@dataclass(frozen=True, slots=True)
class FlushResult:
    """What a flush that was asked for came to."""

    instance_id: str
    flushed: bool
    """The handler has returned; with wait=False this is not known, and False."""
    requested: bool
    """A flush was asked for. False: there was nothing to flush."""
    event_count: int
    """The events that were flushed; with wait=False those that would be as things stand."""
    reason: str
    """`manual`, or `empty`."""


@dataclass(frozen=True, slots=True)
class ClearResult:
    """What a clear has thrown away."""

    instance_id: str
    cleared: bool
    discarded_events: int
    in_flight: bool = False
    """A flush had taken its events before, or is to take some again; it goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DebounceStatus(_Attempted):
    """How a Debounce stands."""

    status: ShownStatus
    event_count: int = 0
    """Events that wait for a flush: the open batch, and batches that are redriven."""
    in_flight_count: int = 0
    """Events of the flush that runs, or waits for its retry; `event_count` is without them."""
    started_at: datetime | None = None
    """When the first of them came."""
    will_flush_at: datetime | None = None
    reason: str | None = None
    """Why it was terminated, if its handler said so."""


@dataclass(frozen=True, slots=True)
class SendResult:
    """What became of an event for a Task job."""

    instance_id: str
    created: bool
    scheduled_at: datetime | None
    """What is planned, as the event found it."""
    duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskJobStatus(_Attempted):
    """How a Task job stands."""

    status: ShownStatus
    scheduled_at: datetime | None = None
    created_at: datetime | None = None
    event_count: int = 0
    """Events accepted."""
    pending_count: int = 0
    """Events that wait for their turn."""
    execute_count: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class TaskState(Generic[S]):
    """The state of a Task job: `exists` tells one without a state yet from none at all."""

    exists: bool
    state: S | None
    scheduled_at: datetime | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobSummary:
    """One line of a list."""

    kind: str
    name: str
    key: str
    instance_id: str
    status: ShownStatus
    next_run_at: datetime | None
    run_count: int
    pending_count: int
    created_at: datetime
    updated_at: datetime
    dead_letters: int = 0
    """Events whose turn failed for good; they are kept for `redrive`."""
