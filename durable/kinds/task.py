"""The plain task: call the function, store what it returns."""

from __future__ import annotations

from durable.kinds.turn import Turn
from durable.outcomes import Completed

__all__ = ["run"]


async def run(turn: Turn) -> Completed:
    return Completed(turn.definition.result.dump(await turn.call(), "result"))
