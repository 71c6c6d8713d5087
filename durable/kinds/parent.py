"""The parent: run the function, start its children, and give their ends to finalize when the last has finished."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from durable.child import Child
from durable.definition import Definition, ParentSpec, new_execution
from durable.errors import ConfigurationError, ErrorInfo
from durable.execution import ChildOutcome, Phase, Status
from durable.kinds.turn import EndedBy, Turn
from durable.options import Overrides
from durable.outcomes import Completed, FinalizeSpawned, Outcome, Spawned
from durable.returns import ParentResult, Spawn

__all__ = ["run"]


async def run(turn: Turn) -> Outcome:
    match turn.claimed.phase:
        case Phase.RUN:
            return await _start(turn)
        case Phase.CHILDREN:
            return await _finalize(turn)
        case _:
            return _take_over((await turn.children())[-1], turn)


async def _start(turn: Turn) -> Spawned:
    value = await turn.call()
    if not isinstance(value, Spawn):
        raise ConfigurationError(
            f"parent {turn.claimed.task_name!r} returned {type(value).__name__}; it must return Spawn(output, children)"
        )
    spawn: Spawn[Any] = value
    output = turn.definition.run_output.dump(spawn.output, "output")
    return Spawned(output, turn.place_children(spawn.children))


async def _finalize(turn: Turn) -> Outcome:
    spec = turn.definition.spec
    assert isinstance(spec, ParentSpec)
    output = turn.definition.run_output.load(turn.claimed.run_output or "null", "the stored output")
    ends = await turn.children()
    # A finalize execution is there only after an operator's retry: it had failed, and takes no part any more.
    children = [turn.child_result(end) for end in ends if not end.is_finalize]
    match spec.finalize:
        case None:
            return Completed(turn.definition.dump_result(ParentResult(output, children)))
        case Definition() as finalize:
            stored = finalize.dump_input((output, children), {})
            new = new_execution(finalize, stored, Overrides(finalize.options), turn.services.ids.new_id())
            return FinalizeSpawned(turn.place(Child(new), len(ends), is_finalize=True))
        case function:
            return Completed(turn.definition.dump_result(await _call(turn, function, output, children)))


async def _call(turn: Turn, function: Callable[..., Any], *args: Any) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(*args)
    return await turn.in_thread(function, *args)


def _take_over(end: ChildOutcome, turn: Turn) -> Completed:
    """The end of the finalize execution becomes the parent's."""
    if end.status == Status.COMPLETED:
        return Completed(end.output or "null")
    raise EndedBy(turn.definition.load_error(end.error) or ErrorInfo(str(end.status), "", is_retryable=False))
