"""The timer as the storages keep it: one row until it has fired, under a job."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

__all__ = [
    "PARALLEL",
    "REMEMBERED",
    "TIMERS",
    "Anchor",
    "NewTimer",
    "StoredTimer",
    "TimerEnd",
    "TimerFilter",
    "TimerSet",
]

TIMERS: Final = "timers"
"""The name of the jobs that owners of timers have; the owner is the key."""

PARALLEL: Final = "parallel"
"""The name of the jobs of timers that wait for no other one; the timer's id is the key."""

REMEMBERED: Final = 3600.0
"""Seconds for which a call of set_timer may be repeated, although the timer is gone."""


class Anchor(StrEnum):
    """What the interval of a recurring timer counts from."""

    COMPLETION = "completion"
    SCHEDULE = "schedule"
    """A grid that begins when the timer is set; moments that have passed are left out."""


class NewTimer(NamedTuple):
    """What set_timer stores."""

    id: str
    job_id: str
    """The id of its job if this timer makes it."""
    owner: str
    name: str | None
    """A slot of the owner's: setting it again replaces what is there."""
    task_name: str
    input: str
    """The stored call of the task."""
    queue: str
    """Where it is claimed once it is its job's next."""
    priority: int
    timeout: float | None
    """Seconds for one start; None: no limit."""
    delay: float
    """Seconds until it is due."""
    run_at: datetime | None
    """The same as a moment; wins over delay. In the past it means now."""
    interval: float | None
    """Seconds, a whole number of microseconds; None: it fires once."""
    anchor: Anchor
    retry_interval: float
    """Seconds from a failure to the next start."""
    is_sequential: bool
    """One after the other with its owner's others, in one job; False: in a job of its own."""

    @property
    def job_name(self) -> str:
        return TIMERS if self.is_sequential else PARALLEL

    @property
    def job_key(self) -> str:
        return self.owner if self.is_sequential else self.id


class StoredTimer(NamedTuple):
    """The row. Columns of the table, in order."""

    id: str
    job_id: str
    owner: str
    name: str | None
    task_name: str
    input: str
    queue: str
    priority: int
    timeout: float | None
    due_at: datetime
    interval: float | None
    anchor: Anchor
    retry_interval: float
    attempt: int
    """Starts since it was set or last succeeded; one that a crash or a stopping executor cut short counts too."""
    error: str | None
    """Of the last start that failed; None after a success."""
    created_at: datetime
    updated_at: datetime
    is_sequential: bool
    is_failed: bool
    """For good: it is not started again, and kept to be looked at until it is cancelled or replaced."""


class TimerSet(NamedTuple):
    timer: StoredTimer
    ready_queue: str | None
    """The queue in which a turn became claimable at once through it."""


class TimerEnd(NamedTuple):
    """How the start of a timer ended; written only if the timer is still there."""

    id: str
    error: str | None
    """None: it succeeded, and is gone or due again after its interval."""
    delay: float
    """Seconds until it is tried again; after an error only."""
    attempt: int
    """What its attempt is from now on, after an error."""
    is_final: bool = False
    """It failed for good: it is not started again, whatever its interval."""


class TimerFilter(NamedTuple):
    """Which timers are meant: one by its id, or those of an owner, or the one in a slot of an owner's."""

    id: str | None = None
    owner: str | None = None
    name: str | None = None
