"""The callback: tell a task how another execution has ended, alone or in the transaction that ends the call."""

from __future__ import annotations

from durable.callbacks import CallbackInput
from durable.kinds.turn import Turn
from durable.outcomes import Completed, Joined

__all__ = ["run"]


async def run(turn: Turn) -> Completed | Joined:
    given = CallbackInput.load(turn.claimed.input)
    completion = turn.definition.completion(given)

    async def call() -> str:
        return turn.definition.result.dump(await turn.call_with(completion), "result")

    return Joined(call) if given.is_within else Completed(await call())
