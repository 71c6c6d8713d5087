"""The plain task: call the function, store what it returns, or run it again with the arguments that it goes on with."""

from __future__ import annotations

from typing import Final

from durable.errors import ConfigurationError, Continue, ErrorInfo
from durable.kinds.turn import EndedBy, Turn
from durable.outcomes import Completed, Continued

__all__ = ["run"]

MOST_TURNS: Final = 1_000_000


async def run(turn: Turn) -> Completed | Continued:
    try:
        # What an earlier turn goes on with stands in for the input, which stays as it was given.
        value = await turn.call(turn.claimed.run_output)
    except Continue as again:
        return _continued(turn, again)
    return Completed(turn.definition.result.dump(value, "result"))


def _continued(turn: Turn, again: Continue) -> Continued:
    claimed = turn.claimed
    if again.task != claimed.task_name:
        raise ConfigurationError(
            f"task {claimed.task_name!r} raised continue_with of {again.task!r}; it must be its own"
        )
    if claimed.iteration + 1 >= MOST_TURNS:
        message = f"it has taken {MOST_TURNS} turns; enqueue the rest as another execution"
        raise EndedBy(ErrorInfo("too_many_turns", message, is_retryable=False))
    return Continued(again.stored_input)
