"""The ends of children as users see them: as plain JSON where they are stored, typed by their definitions when read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

from durable.definition import Definition
from durable.execution import ChildOutcome, FinishedExecution, Status
from durable.registry import Registry
from durable.returns import ChildResult, ParentResult

__all__ = ["child_result", "plain_child_result", "reader"]


def plain_child_result(registry: Registry, end: ChildOutcome) -> ChildResult[Any]:
    """A child's end with its output as JSON has it, which every annotation can hold.

    The error comes without its traceback, which its own record keeps: those of many children would make the result of
    their parent too large to be stored.
    """
    output: Any = None
    if end.status == Status.COMPLETED and end.output is not None:
        output = registry.codec.value(Any).load(end.output, f"the output of execution {end.id}")
    error = None if end.error is None else replace(registry.codec.load_error(end.error), traceback=None)
    return ChildResult(end.task_name, end.id, end.status, output, error)


def child_result(registry: Registry, end: ChildOutcome) -> ChildResult[Any]:
    """A child's end with its output typed by its definition, or as plain JSON where that is not known here."""
    definition = registry.find(end.task_name)
    if definition is None or end.status != Status.COMPLETED or end.output is None:
        return plain_child_result(registry, end)
    output = _typed(registry, definition.result.load(end.output, f"the output of execution {end.id}"))
    return ChildResult(end.task_name, end.id, end.status, output)


def reader(registry: Registry, definition: Definition) -> Callable[[FinishedExecution], Any]:
    """What reads the end of an execution of this definition; see Definition.read_end."""
    return partial(_read, registry, definition)


def _read(registry: Registry, definition: Definition, end: FinishedExecution) -> Any:
    return _typed(registry, definition.read_end(end))


def _typed(registry: Registry, value: Any) -> Any:
    """The value, and in a ParentResult the outputs of the children, typed by the definitions of those."""
    if not isinstance(value, ParentResult):
        return value
    # mypy finds the parameter by itself; to pyright it is unknown here.
    result = cast("ParentResult[Any]", value)  # type: ignore[redundant-cast]
    return replace(result, children=[_typed_child(registry, child) for child in result.children])


def _typed_child(registry: Registry, child: ChildResult[Any]) -> ChildResult[Any]:
    definition = registry.find(child.task_name)
    if definition is None or not child.is_completed:
        return child
    path = f"the output of execution {child.execution_id}"
    return replace(child, output=_typed(registry, definition.result.load(json.dumps(child.output), path)))
