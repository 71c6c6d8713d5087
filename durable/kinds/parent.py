"""The parent: run the function, start its children, and give their ends to finalize when the last has finished."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from durable.child import Child
from durable.child_results import child_result, plain_child_result
from durable.definition import Definition, ParentSpec, new_execution
from durable.errors import ConfigurationError, ErrorInfo, SerializationError
from durable.execution import ChildOutcome, Phase, Status
from durable.kinds.turn import EndedBy, Turn
from durable.options import Overrides
from durable.outcomes import Completed, FinalizeSpawned, Outcome, Spawned
from durable.registry import Registry
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
    value: Spawn[Any] | None = await turn.call()
    if not isinstance(value, Spawn):
        raise ConfigurationError(
            f"parent {turn.claimed.task_name!r} returned {type(value).__name__}; it must return Spawn(output, children)"
        )
    output = turn.definition.run_output.dump(value.output, "output")
    return Spawned(output, turn.place_children(value.children))


async def _finalize(turn: Turn) -> Outcome:
    spec = turn.definition.spec
    assert isinstance(spec, ParentSpec)
    output = turn.definition.run_output.load(turn.claimed.run_output or "null", "the stored output")
    found = await turn.children()
    # A finalize execution is there only after an operator's retry: it had failed, and takes no part any more.
    ends = turn.complete_family(found)
    registry = turn.services.registry
    match spec.finalize:
        case None:
            plain = [plain_child_result(registry, end) for end in ends]
            return Completed(turn.definition.dump_result(ParentResult(output, plain)))
        case Definition() as finalize:
            stored = _finalize_input(registry, finalize, output, ends)
            new = new_execution(finalize, stored, Overrides(finalize.options), turn.services.ids.new_id())
            return FinalizeSpawned(turn.place(Child(new), len(found), is_finalize=True))
        case function:
            children = [child_result(registry, end) for end in ends]
            return Completed(turn.definition.dump_result(await _call(turn, function, output, children)))


def _finalize_input(registry: Registry, finalize: Definition, output: Any, ends: Sequence[ChildOutcome]) -> str:
    try:
        return finalize.dump_input((output, [child_result(registry, end) for end in ends]), {})
    except SerializationError:
        # Its annotation leaves the outputs open, as ChildResult[Any] does: then they are what JSON makes of them.
        return finalize.dump_input((output, [plain_child_result(registry, end) for end in ends]), {})


async def _call(turn: Turn, function: Callable[..., Any], *args: Any) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(*args)
    return await turn.in_thread(function, *args)


def _take_over(end: ChildOutcome, turn: Turn) -> Completed:
    """The end of the finalize execution becomes the parent's."""
    if end.status == Status.COMPLETED:
        return Completed(end.output or "null")
    raise EndedBy(turn.definition.load_error(end.error) or ErrorInfo(str(end.status), "", is_retryable=False))
