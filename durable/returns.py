"""What the functions of parents and loops return, and what finalize, callbacks and waiters are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from typing_extensions import TypeVar as DefaultedTypeVar

from durable.child import Child
from durable.errors import ErrorInfo, ExecutionCancelled, ExecutionFailed, ExecutionTimedOut
from durable.execution import Status

__all__ = ["Again", "ChildResult", "Completion", "Done", "LoopResult", "ParentResult", "Spawn", "end_error"]

T = TypeVar("T")
O = TypeVar("O")  # noqa: E741 - output
R = TypeVar("R")
C = DefaultedTypeVar("C", default=None)


@dataclass(frozen=True, slots=True)
class Spawn(Generic[O]):
    """Returned by a parent's function: its own output, and the children to run in parallel next."""

    output: O
    children: Sequence[Child[Any]] = ()


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """Returned by a loop's function: no further turn, and this is the output."""

    output: T


@dataclass(frozen=True, slots=True)
class Again:
    """Returned by a loop's function: another turn, after `delay` seconds or the loop's own delay when None."""

    delay: float | None = None


@dataclass(frozen=True, slots=True)
class LoopResult(Generic[T]):
    """How a loop ended; `output` is None when it used up its iterations."""

    is_done: bool
    output: T | None
    iterations: int


@dataclass(frozen=True, slots=True)
class ChildResult(Generic[T]):
    """One child as finalize sees it, whatever way it ended."""

    task_name: str
    execution_id: str
    status: Status
    output: T | None = None
    error: ErrorInfo | None = None

    @property
    def is_completed(self) -> bool:
        return self.status == Status.COMPLETED

    def result(self) -> T:
        """The output of a completed child; raises ExecutionFailed, ExecutionTimedOut or ExecutionCancelled."""
        if not self.is_completed:
            raise end_error(self.task_name, self.execution_id, self.status, self.error)
        return cast("T", self.output)  # None is the output of a task that returns None


@dataclass(frozen=True, slots=True)
class ParentResult(Generic[O]):
    """The result of a parent without finalize: its output beside its children, in child order."""

    output: O
    children: list[ChildResult[Any]] = field(default_factory=list[ChildResult[Any]])


@dataclass(frozen=True, slots=True)
class Completion(Generic[R, C]):
    """The argument of a completion callback: how the execution ended, and the context given with `OnComplete`.

    `Completion[Receipt, Order]` reads the output as a Receipt and the context as an Order; without a second parameter
    the context is None.
    """

    execution_id: str
    task_name: str
    status: Status
    context: C
    output: R | None = None
    """None also where it did not complete; `result()` tells the two apart."""
    error: ErrorInfo | None = None
    """Of an end that is not `completed`."""
    reason: str | None = None
    """Why it ended, in one word, where something other than its function ended it."""

    @property
    def is_completed(self) -> bool:
        return self.status == Status.COMPLETED

    def result(self) -> R:
        """The output of a completed execution; raises ExecutionFailed, ExecutionTimedOut or ExecutionCancelled."""
        if not self.is_completed:
            raise end_error(self.task_name, self.execution_id, self.status, self.error)
        return cast("R", self.output)  # None is the output of a task that returns None


def end_error(
    task_name: str, execution_id: str, status: Status, error: ErrorInfo | None
) -> ExecutionFailed | ExecutionTimedOut | ExecutionCancelled:
    """The error for an execution that finished without a result."""
    info = error or ErrorInfo(str(status), "no error was recorded", is_retryable=False)
    match status:
        case Status.CANCELLED:
            return ExecutionCancelled(task_name, execution_id, info)
        case Status.TIMED_OUT:
            return ExecutionTimedOut(task_name, execution_id, info)
        case _:
            return ExecutionFailed(task_name, execution_id, info)
