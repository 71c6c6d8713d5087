"""Every error that durable raises, and the stored form of an error.

DurableError
├── ConfigurationError            a definition, an option or a set-up is wrong; also a ValueError
│   ├── AlreadyRegistered         two definitions share a name
│   ├── UnknownTask               a name that this app has not registered
│   └── NotOpen                   used before it was opened, after it was closed, or in a forked child
├── InvalidInput                  an argument does not fit the task's annotations; also a ValueError
├── SerializationError            a value cannot be stored as JSON; names the path
│   └── PayloadTooLarge
├── IdempotencyConflict           the key exists with another payload
├── SleepingIdConflict            the unique id of a sleeping task is taken
├── ExecutionNotFound
├── ExecutionError                raised by Handle.result() for an execution that did not complete
│   ├── ExecutionFailed
│   ├── ExecutionTimedOut
│   └── ExecutionCancelled
├── StepFailed                    raised in a workflow by a step that has used up its attempts
├── ChildFailed                   raised in a workflow by a child that did not complete
├── ChildLimitExceeded            a workflow wants more children at once, or a deeper tree, than there may be
├── MapFailed                     raised in a workflow by a map of which too many children failed
├── UpdateRefused                 a workflow did not accept an update, which has changed nothing
├── UpdateFailed                  the handler of an update raised, or was stopped with its workflow
├── UpdateTimeout                 no answer to an update yet; also a TimeoutError
├── StepMismatch                  a workflow's history is not what its code does; the workflow is kept
├── HistoryTooLong                a workflow has done too much in one go; it should continue as new
├── ApprovalError
│   ├── ApprovalNotFound          no approval has this token
│   ├── ApprovalClosed            decided before, expired, or its workflow has ended
│   └── ApprovalNotAllowed        who decides is not among those who may
├── ResultTimeout                 the wait ended before the execution did; also a TimeoutError
├── StillRunning                  a test moved its clock, and handlers or due work did not come to an end
├── TransitionRefused             the state machine does not know this pair of state and event
├── NonRetryable                  raised by user code: fail now, whatever the retry policy says
├── RetryAfter                    raised by user code: fail this attempt and try again after a delay
├── DeliveryFailed                a subscriber did not take an event: logged, and tried again
├── StorageError
│   ├── StorageUnavailable        connection, restart, read-only turn: may be tried again
│   │   └── RowsHeld              another transaction holds a row for longer than was to be waited
│   ├── SchemaNotInstalled, SchemaTooOld, SchemaTooNew
│   └── PermissionDenied
└── EmbeddedError                 the embedded Postgres could not be found, made or started

WorkflowTrapWarning is a warning: nobody raises it.
LeaseLost and Continue derive from BaseException: user code that catches Exception must not swallow them.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from durable.lengths import CENTURY_SECONDS, Duration, length_of

__all__ = [
    "AlreadyRegistered",
    "ApprovalClosed",
    "ApprovalError",
    "ApprovalNotAllowed",
    "ApprovalNotFound",
    "ChildFailed",
    "ChildLimitExceeded",
    "ConfigurationError",
    "Continue",
    "DeliveryFailed",
    "DurableError",
    "EmbeddedError",
    "ErrorInfo",
    "ExecutionCancelled",
    "ExecutionError",
    "ExecutionFailed",
    "ExecutionNotFound",
    "ExecutionTimedOut",
    "HistoryTooLong",
    "IdempotencyConflict",
    "InvalidInput",
    "LeaseLost",
    "MapFailed",
    "NonRetryable",
    "NotOpen",
    "PayloadTooLarge",
    "PermissionDenied",
    "ResultTimeout",
    "RetryAfter",
    "RowsHeld",
    "SchemaNotInstalled",
    "SchemaTooNew",
    "SchemaTooOld",
    "SerializationError",
    "SleepingIdConflict",
    "StepFailed",
    "StepMismatch",
    "StillRunning",
    "StorageError",
    "StorageUnavailable",
    "TransactionEnded",
    "TransitionRefused",
    "UnknownTask",
    "UpdateFailed",
    "UpdateRefused",
    "UpdateTimeout",
    "WorkflowTrapWarning",
]


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as a record keeps it: data only, never re-created as an exception class by name."""

    type: str
    """The class name, or one of the reasons durable gives itself: timed_out, cancelled, lease_expired, poisoned."""
    message: str
    is_retryable: bool = True
    traceback: str | None = None

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class DurableError(Exception):
    """Base of every error of durable that user code may catch."""


class ConfigurationError(DurableError, ValueError):
    """A definition, an option or the set-up is wrong; nothing was stored."""


class AlreadyRegistered(ConfigurationError):
    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"a task named {name!r} is already registered on this app; give one of them name=…")


class UnknownTask(ConfigurationError):
    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no task named {name!r} is registered on this app; import the module that declares it")


class NotOpen(ConfigurationError):
    """The app, client or executor is not open here."""


class InvalidInput(DurableError, ValueError):
    """An argument does not fit the task's annotations; nothing was stored."""

    def __init__(self, task: str, detail: str) -> None:
        self.task = task
        self.detail = detail
        super().__init__(f"invalid input to task {task!r}: {detail}")

    def within(self, place: str) -> InvalidInput:
        """The same of one of several inputs."""
        return InvalidInput(self.task, f"{place}: {self.detail}")


class SerializationError(DurableError, ValueError):
    """A value cannot be stored as JSON; `path` names the place inside the value."""

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"{path} {why}")

    def within(self, place: str) -> SerializationError:
        """The same of one of several inputs; the path then begins with its place."""
        return SerializationError(place + self.path.removeprefix("input"), self.why)


class PayloadTooLarge(SerializationError):
    def __init__(self, path: str, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(path, f"takes {size} bytes as JSON, the limit is {limit}; store it elsewhere and pass its key")

    def within(self, place: str) -> PayloadTooLarge:
        return PayloadTooLarge(place + self.path.removeprefix("input"), self.size, self.limit)


class IdempotencyConflict(DurableError):
    def __init__(self, task: str, key: str, execution_id: str) -> None:
        self.task = task
        self.key = key
        self.execution_id = execution_id
        super().__init__(
            f"idempotency key {key!r} of task {task!r} already belongs to execution {execution_id} with another input"
        )


class SleepingIdConflict(DurableError):
    def __init__(self, task: str, sleeping_id: str) -> None:
        self.task = task
        self.sleeping_id = sleeping_id
        super().__init__(f"sleeping task {task!r} already has an execution under the unique id {sleeping_id!r}")


class ExecutionNotFound(DurableError):
    def __init__(self, execution_id: str) -> None:
        self.execution_id = execution_id
        super().__init__(f"there is no execution {execution_id!r}")


class ExecutionError(DurableError):
    """An execution ended without a result."""

    def __init__(self, task: str, execution_id: str, error: ErrorInfo) -> None:
        self.task = task
        self.execution_id = execution_id
        self.error = error
        super().__init__(f"execution {execution_id} of task {task!r} ended without a result: {error}")


class ExecutionFailed(ExecutionError):
    """The execution is `failed` or `finalize_failed`."""


class ExecutionTimedOut(ExecutionError):
    """The execution is `timed_out`."""


class ExecutionCancelled(ExecutionError):
    """The execution is `cancelled`."""


class ResultTimeout(DurableError, TimeoutError):
    def __init__(self, execution_id: str, timeout: float) -> None:
        self.execution_id = execution_id
        self.timeout = timeout
        super().__init__(f"execution {execution_id} has not finished within {timeout:g} s; it goes on")


class StillRunning(DurableError):
    """Raised by durable.testing: virtual time stands still until what is due has run, and that took too long."""

    def __init__(self, seconds: float, running: Sequence[str]) -> None:
        self.seconds = seconds
        self.running = tuple(running)
        """A line for each thing that did not come to its end."""
        super().__init__(
            f"after {seconds:g} s of real time there is still work at this moment of virtual time: "
            f"{'; '.join(running)}. Virtual time stands still while handlers run: one must not wait for a later "
            "moment of it, and what it waits for besides must come; give a longer patience where it is only slow"
        )


class TransitionRefused(DurableError):
    def __init__(self, status: str, event: str, why: str = "") -> None:
        self.status = status
        self.event = event
        super().__init__(f"an execution that is {status} refuses {event}" + (f": {why}" if why else ""))


class NonRetryable(DurableError):
    """Raise it in a task to fail the execution at once, whatever the retry policy says."""


class TransactionEnded(NonRetryable):
    """A step in `ctx.transaction` has ended the transaction that is to be committed together with its result.

    What it wrote until then is stored or gone for good, and running it again would write it twice.
    """


class RetryAfter(DurableError):
    """Raise it in a task to fail this attempt and run the next one after `delay`; max_attempts still holds.

    `delay` is a Duration; one below zero means at once, one beyond the longest delay of a policy means that. Raises
    ConfigurationError for what is no length of time.
    """

    def __init__(self, delay: Duration, message: str = "") -> None:
        length = length_of(delay)
        if length is None or not abs(length) <= CENTURY_SECONDS:  # NaN fails every comparison
            raise ConfigurationError(
                f'RetryAfter.delay is {delay!r:.100}; give seconds, a timedelta or a string such as "30s" or "1h30m"'
            )
        self.delay = timedelta(seconds=length)
        super().__init__(message or f"try again in {length:g} s")


class DeliveryFailed(DurableError):
    """A subscriber did not take an event; it is logged, and the event is delivered again."""


class StorageError(DurableError):
    """The storage refused or could not do something."""


class StorageUnavailable(StorageError):
    """The storage cannot be reached or cannot write just now; the same call may succeed later."""


class RowsHeld(StorageUnavailable):
    """Another transaction holds a row, or stores the same key, for too long to be waited for; nothing was written."""


class SchemaNotInstalled(StorageError):
    def __init__(self, schema: str) -> None:
        self.schema = schema
        super().__init__(
            f"schema {schema!r} has no durable tables; run: durable migrate --schema {shlex.quote(schema)}"
        )


class SchemaTooOld(StorageError):
    def __init__(self, schema: str, need: int, have: int) -> None:
        self.schema = schema
        self.need = need
        self.have = have
        super().__init__(f"schema {schema!r} is at version {have}, this library needs {need}; run: durable migrate")


class SchemaTooNew(StorageError):
    def __init__(self, schema: str, know: int, have: int) -> None:
        self.schema = schema
        self.know = know
        self.have = have
        super().__init__(f"schema {schema!r} is at version {have}, this library knows up to {know}; upgrade it")


class PermissionDenied(StorageError):
    """The database role lacks a right; the message names it."""


class EmbeddedError(DurableError):
    """The embedded Postgres could not be found, made or started."""


class Continue(BaseException):
    """Raised by a task: run me again at once with other arguments. Made by `task.continue_with(…)`.

    It is a BaseException so that `except Exception` in user code does not swallow it.
    """

    def __init__(self, task: str, stored_input: str) -> None:
        self.task = task
        self.stored_input = stored_input
        super().__init__(
            f"task {task!r} goes on with other arguments; only a plain task may, with arguments of its own"
        )


class LeaseLost(BaseException):
    """The attempt no longer has the right to write: its lease ran out or somebody ended the execution.

    Raised in the attempt. It is a BaseException so that `except Exception` in user code does not swallow it.
    """

    def __init__(self, execution_id: str, fence: int, *args: Any) -> None:
        self.execution_id = execution_id
        self.fence = fence
        super().__init__(f"execution {execution_id} is no longer held under fence {fence}", *args)


class StepFailed(DurableError):
    """A step of a workflow has failed for good. It is the same when the workflow is replayed."""

    def __init__(self, step: str, error: ErrorInfo) -> None:
        self.step = step
        """Its key: name and occurrence, such as `charge#1`."""
        self.error = error
        super().__init__(f"step {step!r} failed: {error}")


class ChildFailed(DurableError):
    """A child of a workflow has ended without a result: failed, timed out or cancelled."""

    def __init__(self, task: str, execution_id: str, status: str, error: ErrorInfo | None) -> None:
        self.task = task
        self.execution_id = execution_id
        self.status = status
        self.error = error
        super().__init__(f"child {execution_id} (task {task!r}) ended as {status}: {error}")


class ApprovalError(DurableError):
    """An approval was not decided by this call."""


class ApprovalNotFound(ApprovalError):
    def __init__(self) -> None:
        super().__init__("there is no such approval; a token is to be given whole, and dies with its workflow's record")


class ApprovalClosed(ApprovalError):
    """It was decided before, has expired, or its workflow has ended."""

    def __init__(self, name: str, status: str, by: str | None, at: datetime | None) -> None:
        self.name = name
        self.status = status
        self.by = by
        """Who had decided; None: nobody."""
        self.at = at
        who = "" if by is None else f" by {by}"
        when = "" if at is None else f" at {at.isoformat()}"
        super().__init__(f"approval {name!r} is {status} already{who}{when}")


class ApprovalNotAllowed(ApprovalError):
    def __init__(self, name: str, by: str) -> None:
        self.name = name
        self.by = by
        super().__init__(f"{by!r} is not among those who may decide on approval {name!r}")


class UpdateRefused(DurableError):
    """A workflow did not accept an update: its validator raised, or it had ended before. Nothing was changed."""

    def __init__(self, update: str, execution_id: str, error: ErrorInfo) -> None:
        self.update = update
        self.execution_id = execution_id
        self.error = error
        super().__init__(f"workflow {execution_id} refused update {update!r}: {error}")


class UpdateFailed(DurableError):
    """The handler of an update raised. The workflow goes on, unless it had ended."""

    def __init__(self, update: str, execution_id: str, error: ErrorInfo) -> None:
        self.update = update
        self.execution_id = execution_id
        self.error = error
        super().__init__(f"update {update!r} of workflow {execution_id} failed: {error}")


class UpdateTimeout(DurableError, TimeoutError):
    """The answer to an update has not come in time. The update goes on; ask again with its id."""

    def __init__(self, update: str, execution_id: str, update_id: str, timeout: float) -> None:
        self.update = update
        self.execution_id = execution_id
        self.update_id = update_id
        self.timeout = timeout
        super().__init__(
            f"update {update!r} of workflow {execution_id} was not answered within {timeout:g} s; it goes on, and "
            f"update_id={update_id!r} asks for its answer"
        )


class ChildLimitExceeded(DurableError):
    """A workflow has as many open children, or its tree as many levels, as there may be."""

    def __init__(self, what: str, limit: int) -> None:
        self.limit = limit
        super().__init__(f"the workflow {what}; the limit is {limit}")


class MapFailed(DurableError):
    """More children of a `ctx.map` have failed than it tolerates, or the task cannot be given one of the items."""

    def __init__(self, task: str, failed: int, started: int, errors: tuple[tuple[int, ErrorInfo], ...]) -> None:
        self.task = task
        self.failed = failed
        """Children that had ended without a result when this was noticed; 0 where an item was refused."""
        self.started = started
        self.errors = errors
        """Of the first of them: the place among the items, from 0, and the error."""
        what = f"{failed} of the {started} children started have failed" if failed else "the items were refused"
        shown = "; ".join(f"items[{index}]: {error}" for index, error in errors)
        super().__init__(f"a map over task {task!r} ended: {what}: {shown}")


SAME_ARGUMENTS = (
    "make them the same in each run: walk through what is sorted or stored, take time and chance from ctx.now, "
    "ctx.random and ctx.uuid, let no step change what it is given, or tell calls apart by name=; changed code, or "
    "another version=, may change them"
)
SAME_VALUES = (
    "say and register the same in each run, from arguments, steps and signals alone, and not only where "
    "ctx.is_replaying is False; changed code, or another version=, may say something else"
)
_CHANGED_CODE = "guard the change with ctx.patched(…), keep the old name with name=…, or bring the old code back"


class StepMismatch(DurableError):
    """The history of a workflow does not belong to what its code does now. Nothing was lost: the workflow is kept."""

    def __init__(self, expected: str, found: str, *, advice: str = _CHANGED_CODE) -> None:
        self.expected = expected
        self.found = found
        super().__init__(
            f"the history has {expected}, the code came to {found}; {advice}: the workflow goes on from where it stands"
        )


class HistoryTooLong(DurableError):
    """A workflow has as many entries in its history as it may have, those counted that its open commands will take."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(
            f"the workflow has {limit} entries in its history, with those of what it waits for: the limit; use "
            "ctx.continue_as_new(…), or ctx.map(…) for many children"
        )


class WorkflowTrapWarning(UserWarning):
    """A workflow's body calls what gives something else in each replay, or blocks: time, chance, threads, I/O."""
