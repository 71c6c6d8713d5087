"""The loop: one record, one turn after another, until it is done or its iterations are used up."""

from __future__ import annotations

from typing import Any

from durable.definition import LoopSpec
from durable.durations import seconds
from durable.errors import ConfigurationError
from durable.kinds.turn import Turn
from durable.outcomes import Completed, Repeated
from durable.returns import Again, Done, LoopResult

__all__ = ["run"]


async def run(turn: Turn) -> Completed | Repeated:
    spec = turn.definition.spec
    assert isinstance(spec, LoopSpec)
    value: Done[Any] | Again | None = await turn.call()
    taken = turn.claimed.iteration + 1
    match value:
        case Done():
            return Completed(turn.definition.dump_result(LoopResult(True, value.output, taken)))
        case Again() if taken >= spec.max_iterations:
            return Completed(turn.definition.dump_result(LoopResult(False, None, taken)))
        case Again():
            return Repeated(spec.delay if value.delay is None else seconds(value.delay, "Again.delay"))
        case _:
            raise ConfigurationError(
                f"loop {turn.claimed.task_name!r} returned {type(value).__name__}; return Done(output) or Again()"
            )
