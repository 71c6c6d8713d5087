"""How a turn may end, as data: all that passes between the kinds, which run user code, and the rooms, which write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from durable.errors import ErrorInfo
from durable.execution import NewExecution
from durable.job import JobCommit
from durable.workflow_rows import Suspension

__all__ = [
    "Blocked",
    "Completed",
    "Continued",
    "FinalizeSpawned",
    "JobTurned",
    "Joined",
    "Outcome",
    "Repeated",
    "Spawned",
    "Stopped",
    "Suspended",
]


class Completed(NamedTuple):
    """The execution has its result."""

    output: str


class Repeated(NamedTuple):
    """A loop takes another turn."""

    delay: float
    """Seconds from the write of this turn."""


class Continued(NamedTuple):
    """The task takes another turn with another input."""

    stored_input: str


class Joined(NamedTuple):
    """The execution completes with what `call` returns, in one transaction with what it writes."""

    call: Callable[[], Awaitable[str]]


class Spawned(NamedTuple):
    """Children run next; the execution goes on when all of them have finished."""

    run_output: str | None
    children: tuple[NewExecution, ...]


class FinalizeSpawned(NamedTuple):
    """The finalize execution runs next; its end becomes that of the parent."""

    finalize: NewExecution


class JobTurned(NamedTuple):
    """A turn of a keyed job was accepted."""

    commit: JobCommit
    event_count: int = 0
    """The events that it has handled; that is the result of its execution."""


class Suspended(NamedTuple):
    """A workflow waits, or continues as new; the storage decides which if something has come meanwhile."""

    suspension: Suspension


class Stopped(NamedTuple):
    """A workflow has ended as it was asked to, or because its time was over."""

    is_timeout: bool
    reason: str
    notes: tuple[str, ...] = ()
    """What failed while its work was undone, kept with its error."""


class Blocked(NamedTuple):
    """A workflow, or a turn of a job, cannot go on with the code that is here, or the storage refuses what it writes;
    it is kept, and tried again from time to time."""

    error: ErrorInfo
    reason: str = "step_mismatch"


Outcome = (
    Blocked | Stopped | Suspended | Completed | Continued | FinalizeSpawned | JobTurned | Joined | Repeated | Spawned
)
"""A turn that raises instead has failed; the retry policy then decides."""
