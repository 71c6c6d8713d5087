"""What a handler may know of its attempt, and say of its progress."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from durable.attempts import Attempt, Signal
from durable.errors import ConfigurationError, ErrorInfo, LeaseLost

__all__ = ["Beats", "StepAttempt", "TaskContext", "wants_context"]


class Beats(Protocol):
    """Where the details of heartbeats go."""

    def beat(self, attempt: Attempt, details: Any) -> None:
        """Send details with the next write; from any thread. Raises SerializationError for what JSON cannot hold."""
        ...


class StepAttempt(NamedTuple):
    """Which attempt of a workflow's step this is; the workflow's own is one for all of them."""

    attempt: int
    max_attempts: int
    previous_error: ErrorInfo | None


class TaskContext:
    """Given to a handler whose first parameter is annotated with it. Valid during the attempt only."""

    __slots__ = ("_attempt", "_beats", "_step", "cancel_signal", "executor_id", "previous_error", "shutdown_signal")

    def __init__(
        self,
        attempt: Attempt,
        *,
        executor_id: str,
        previous_error: ErrorInfo | None,
        shutdown_signal: Signal,
        beats: Beats,
        step: StepAttempt | None = None,
    ) -> None:
        self._attempt = attempt
        self._step = step
        self._beats = beats
        self.executor_id = executor_id
        self.previous_error = previous_error
        """The error of the attempt before, also `lease_expired` after a crash; None on the first."""
        self.shutdown_signal = shutdown_signal
        """Set when the executor begins to stop: finish soon, or be cancelled and run again elsewhere."""
        self.cancel_signal = Signal()
        """Set when this attempt should stop: cancelled, timed out, its lease lost, or the grace is over; that of a step
        also when its workflow waits for it no longer. A coroutine gets CancelledError as well; a thread has only
        this."""
        attempt.cancel_signal = self.cancel_signal

    @property
    def execution_id(self) -> str:
        return self._attempt.claimed.id

    @property
    def root_id(self) -> str:
        """The top of the tree; the execution itself where it has no parent."""
        return self._attempt.claimed.root_id

    @property
    def parent_id(self) -> str | None:
        return self._attempt.claimed.parent_id

    @property
    def child_index(self) -> int | None:
        """The place among the parent's children, from 0; None where there is no parent."""
        return self._attempt.claimed.child_index

    @property
    def is_finalize(self) -> bool:
        return self._attempt.claimed.is_finalize

    @property
    def task_name(self) -> str:
        return self._attempt.claimed.task_name

    @property
    def attempt(self) -> int:
        """1 for the first start. A start that a crash or a release took back has the same number again.

        In a step of a workflow it is that of the step.
        """
        return self._attempt.claimed.attempts if self._step is None else self._step.attempt

    @property
    def max_attempts(self) -> int:
        return self._attempt.claimed.max_attempts if self._step is None else self._step.max_attempts

    @property
    def iteration(self) -> int:
        """The turns that this loop, or this task that continues, has taken before this one."""
        return self._attempt.claimed.iteration

    @property
    def connection(self) -> Any:
        """The psycopg AsyncConnection of the transaction that ends the execution; not to be committed by you.

        Only in a callback with `mode="transaction"`; raises ConfigurationError elsewhere. `enqueue(…, connection=…)`
        joins it.
        """
        if self._attempt.connection is None:
            raise ConfigurationError('there is a connection only in a callback of OnComplete(…, mode="transaction")')
        return self._attempt.connection

    def check(self) -> None:
        """Raise LeaseLost if this attempt has lost the right to write. Asks nobody; cheap."""
        if self._attempt.is_lost or self._attempt.is_over:
            raise LeaseLost(*self._attempt.key)

    def emit(self, chunk: Any) -> None:
        """In a step of a workflow: add a piece to what `handle.stream()` gives, at once, from a coroutine or a thread.

        It does not wait. A step that is tried again emits again: its pieces come at least once. Raises LeaseLost when
        the attempt may no longer write, SerializationError, and ConfigurationError outside of steps.
        """
        self.check()
        if self._attempt.emit is None:
            raise ConfigurationError("only a step of a workflow streams; a task of its own has heartbeat()")
        self._attempt.emit(chunk)

    def heartbeat(self, details: Any = None) -> None:
        """Store progress details (any JSON value) with the next write, from a coroutine or a thread.

        It does not wait, and the last details win. Raises LeaseLost when the attempt may no longer write, and
        SerializationError for a value that JSON cannot hold. The lease needs no heartbeats: it is renewed anyway.
        """
        self.check()
        self._beats.beat(self._attempt, details)


def wants_context(function: Callable[..., Any]) -> bool:
    """True when the first parameter is annotated with TaskContext: as the class, by any name of it, or as text."""
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        return False
    annotation: Any = parameters[0].annotation
    if isinstance(annotation, str):
        # By the name that it has there; one that only type checkers import is known by its own.
        annotation = getattr(inspect.unwrap(function), "__globals__", {}).get(annotation, annotation)
    if isinstance(annotation, str):
        return annotation.strip("\"' ").rsplit(".", 1)[-1] == TaskContext.__name__
    return annotation is TaskContext
