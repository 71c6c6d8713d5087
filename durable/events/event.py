"""The event as a subscriber is given it, and the names there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from durable.errors import ErrorInfo

__all__ = ["EventName", "LifecycleEvent"]


class EventName(StrEnum):
    """Every name an event may have. An event tells of a commit that there is anyway; none is written for its sake, but
    the reports of pools."""

    EXECUTION_COMPLETED = "execution.completed"
    EXECUTION_FAILED = "execution.failed"
    """An attempt failed; `will_retry` says whether another follows."""
    EXECUTION_TIMED_OUT = "execution.timed_out"
    """The last attempt took too long, or nothing woke a sleeping task in time."""
    EXECUTION_RETRY_EXHAUSTED = "execution.retry_exhausted"
    """Follows the last failure of an execution whose policy would have tried again."""
    EXECUTION_RECOVERED = "execution.recovered"
    """Its executor let the lease run out; it runs again."""
    EXECUTION_CANCELLED = "execution.cancelled"
    JOB_STARTED = "job.started"
    JOB_EXECUTED = "job.executed"
    JOB_FAILED = "job.failed"
    JOB_RETRY_EXHAUSTED = "job.retry_exhausted"
    JOB_TERMINATED = "job.terminated"
    DEBOUNCE_STARTED = "debounce.started"
    DEBOUNCE_FLUSHED = "debounce.flushed"
    TASK_SCHEDULED = "task.scheduled"
    POOL_REPORT = "pool.report"
    """A minute of a pool is over; what waits and runs in it, and what ended in that time."""


@dataclass(frozen=True, slots=True)
class LifecycleEvent:
    """Something that has happened and is stored. It may be delivered twice, with the same id."""

    id: str
    """Time-ordered UUID; what is delivered twice has the same one."""
    name: str
    """One of EventName, as text: a newer deployment may have written one that this one does not know."""
    at: datetime
    """When it was committed, by the storage's clock."""
    subject: str
    """The id of the execution or job it is about, or `pool:` and a pool's name. Events of one subject arrive in the
    order in which they happened."""
    kind: str
    task: str
    """The name of the task, job or pool."""
    key: str | None
    """The key of a job; None for an execution."""
    data: Mapping[str, Any]
    """Facts without payload, such as attempt, will_retry and duration_ms. JSON values."""
    error: ErrorInfo | None
    """The real error, without its traceback unless payloads were asked for."""
    payload: Mapping[str, Any] | None
    """Input and output as JSON values; None unless the subscriber asked for payloads."""

    def to_json(self) -> dict[str, Any]:
        """The event as JSON values, as endpoints are sent it; what is None is left out."""
        fields: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "at": self.at.isoformat(),
            "subject": self.subject,
            "kind": self.kind,
            "task": self.task,
            "key": self.key,
            "data": dict(self.data),
            "error": None if self.error is None else _error_fields(self.error),
            "payload": None if self.payload is None else dict(self.payload),
        }
        return {name: value for name, value in fields.items() if value is not None}


def _error_fields(error: ErrorInfo) -> dict[str, Any]:
    fields = {"type": error.type, "message": error.message, "traceback": error.traceback}
    return {name: value for name, value in fields.items() if value is not None}
