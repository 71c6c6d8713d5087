"""From the arguments of `ctx.map` to its command."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence, Sized
from typing import Any

from durable.checks import integer
from durable.child import MOST_CHILDREN
from durable.codec import Codec
from durable.errors import ConfigurationError
from durable.execution import Claimed, FinishedExecution, Status
from durable.returns import ChildResult
from durable.task import Task
from durable.workflow.fanout import MapChildren, Tolerance, tolerance

__all__ = ["plan_map"]


def plan_map(
    task: Task[..., Any],
    items: Iterable[Any],
    *,
    parent: Claimed,
    codec: Codec,
    concurrency: int,
    tolerate_failures: int | str | None,
) -> MapChildren:
    """Raises ConfigurationError for what cannot be meant."""
    if not isinstance(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"ctx.map takes a task or a workflow, not a {type(task).__name__}")
    if not isinstance(items, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"items is a {type(items).__name__}; give something to iterate over")
    is_plain = tolerate_failures is None
    return MapChildren(
        task.name,
        # A set or a dict is walked through once, and is then not changed any more.
        items if isinstance(items, Sequence) or not isinstance(items, Collection) else list(items),
        task.child,
        parent_id=parent.id,
        total=len(items) if isinstance(items, Sized) else None,
        concurrency=integer(concurrency, "concurrency", 1, MOST_CHILDREN),
        tolerance=Tolerance() if is_plain else tolerance(tolerate_failures),
        read=_result(task) if is_plain else _child_result(task, codec),
        load_error=codec.load_error,
    )


def _result(task: Task[..., Any]) -> Callable[[FinishedExecution], Any]:
    return task.definition.read_end


def _child_result(task: Task[..., Any], codec: Codec) -> Callable[[FinishedExecution], ChildResult[Any]]:
    definition = task.definition

    def read(end: FinishedExecution) -> ChildResult[Any]:
        if end.status != Status.COMPLETED:
            error = None if end.error is None else codec.load_error(end.error)
            return ChildResult(task.name, end.id, end.status, None, error)
        return ChildResult(task.name, end.id, end.status, definition.load_result(end.output or "null"))

    return read
