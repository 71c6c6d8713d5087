"""What can go wrong with keyed jobs; each error names the job as people write it."""

from __future__ import annotations

from typing import Any

from durable.errors import ConfigurationError, DurableError, ErrorInfo, InvalidInput

__all__ = [
    "DuplicateEventError",
    "HandlerMissing",
    "InstanceNotFound",
    "InvalidJobState",
    "JobError",
    "JobExecutionError",
    "JobNotFound",
    "JobValidationError",
    "StateVersionMismatch",
]


class JobError(DurableError):
    """Base of the errors of keyed jobs."""


class JobNotFound(JobError, ConfigurationError):
    """No job of that kind and name is declared on this app."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        super().__init__(f"no {kind} job named {name!r} is declared on this app; import the module that declares it")


class HandlerMissing(JobError, ConfigurationError):
    """A Task job has no handler for what was asked of it; nothing was stored."""

    def __init__(self, name: str, handler: str) -> None:
        self.name = name
        self.handler = handler
        super().__init__(
            f"Task job {name!r} has no {handler} handler; declare one with @job.{handler}, "
            "and import the module that does"
        )


class InstanceNotFound(JobError):
    """The job of a call with wait=True is gone, and what was waited for has not been done."""

    def __init__(self, instance_id: str, detail: str = "does not exist, or was ended") -> None:
        self.instance_id = instance_id
        super().__init__(f"job {instance_id} {detail}")


class InvalidJobState(JobError):
    """The job's status does not allow what was asked."""

    def __init__(self, instance_id: str, operation: str, *, expected: str, actual: str) -> None:
        self.instance_id = instance_id
        self.operation = operation
        self.expected = expected
        self.actual = actual
        super().__init__(f"job {instance_id} is {actual}; {operation} needs one that is {expected}")


class JobValidationError(JobError, InvalidInput):
    """A state or an event does not fit its declared type; nothing was stored."""

    def __init__(self, instance_id: str, detail: str) -> None:
        self.instance_id = instance_id
        self.task = instance_id
        self.detail = detail
        ValueError.__init__(self, f"job {instance_id}: {detail}")


class JobExecutionError(JobError):
    """Raised by a call with wait=True: the turn that it waited for failed for good, or was cancelled."""

    def __init__(self, instance_id: str, execution_id: str, error: ErrorInfo | None) -> None:
        self.instance_id = instance_id
        self.execution_id = execution_id
        self.error = error
        super().__init__(f"a turn of job {instance_id} failed: {error or 'it was cancelled'}")


class DuplicateEventError(JobError):
    """An event with the same id was accepted before, and its id is still remembered."""

    def __init__(self, instance_id: str, event_id: str) -> None:
        self.instance_id = instance_id
        self.event_id = event_id
        super().__init__(f"job {instance_id} has accepted event {event_id!r} before")


class StateVersionMismatch(JobError):
    """The stored state is of a version that this code cannot read: a newer one, or an older one without a `migrate`.

    The state stays as it is. In a turn it counts as no attempt: the turn is kept, and tried again from time to time.
    """

    def __init__(self, instance_id: str, *, stored_version: int, code_version: int, raw_state: Any = None) -> None:
        self.instance_id = instance_id
        self.stored_version = stored_version
        self.code_version = code_version
        self.raw_state = raw_state
        """The state as plain JSON, where somebody asked to read it."""
        what = (
            "newer code has stored it, and only that reads it"
            if stored_version > code_version
            else "declare a migrate= that reads it"
        )
        super().__init__(
            f"the state of job {instance_id} is of version {stored_version}, this code's is {code_version}: {what}"
        )
