"""The turn of a keyed job: take what it runs on, run its handlers, and say what its job is to know of the end."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from durable.errors import ErrorInfo, LeaseLost
from durable.job import TakenTurn, TurnCause, TurnToTake
from durable.jobs.ends import Ends
from durable.jobs.errors import StateVersionMismatch
from durable.jobs.run import run_turn
from durable.jobs.spec import KeyedSpec
from durable.jobs.timer_turn import TimerEnds, TimerSpec
from durable.kinds.timer import run_timer
from durable.kinds.turn import EndedBy, Turn
from durable.outcomes import Blocked, JobTurned

__all__ = ["run"]

_POISONED = "the turn was claimed {count} times without an end; it kills its process, or its timeout is too long"
_KEPT = StateVersionMismatch.__name__


async def run(turn: Turn) -> Blocked | JobTurned:
    spec, claimed, services = turn.definition.spec, turn.claimed, turn.services
    assert isinstance(spec, KeyedSpec)
    make_ends = TimerEnds if isinstance(spec, TimerSpec) else Ends
    ends = make_ends(spec, turn.definition, turn.attempt, services.ids)
    turn.attempt.close = ends.close
    taken = await services.take(turn.attempt, TurnToTake(claimed.id, claimed.fence, spec.policy))
    if taken is None or taken.job.turn_id != claimed.id:
        turn.attempt.is_lost = True  # there also where the job is paused: the turn has been ended
        raise LeaseLost(claimed.id, claimed.fence)
    began = services.clock.monotonic()
    ends.begin(taken, lambda: taken.now + timedelta(seconds=services.clock.monotonic() - began))
    turn.attempt.about = taken
    turn.attempt.instance_id = taken.job.job_key.instance_id
    if taken.job.turn_began_at is not None:
        # A turn is stored when the one before it ends: a limit on its retries counts from its first attempt.
        turn.attempt.age = (taken.now - taken.job.turn_began_at).total_seconds()
    if isinstance(ends, TimerEnds):
        return JobTurned(await run_timer(turn, ends, taken))
    blocked = _blocked(spec, taken)
    if blocked is not None:
        return blocked
    if claimed.deliveries > turn.definition.options.max_deliveries:
        message = _POISONED.format(count=claimed.deliveries - 1)
        raise EndedBy(ErrorInfo("poisoned", message, is_retryable=False))

    async def call(function: Callable[..., Any], *args: Any) -> Any:
        if inspect.iscoroutinefunction(function):
            return await function(*args)
        return await turn.in_thread(function, *args)

    error = turn.definition.load_error(claimed.error)
    if error is not None and claimed.attempts == 1 and error.type == _KEPT:
        error = None  # no attempt went before: the turn was kept
    timeout = turn.definition.options.timeout
    # What `on_error` does about a handler that took too long may take as long again.
    whole = timeout * 2 if timeout is not None and spec.handles_errors else timeout
    # From here on, because a turn may have waited for the row of its job.
    with services.limit(turn.attempt, whole):
        commit = await run_turn(spec, ends, turn.attempt, taken, error, call=call, timeout=timeout)
    return JobTurned(commit, len(taken.events))


def _blocked(spec: KeyedSpec, taken: TakenTurn) -> Blocked | None:
    """The state is of a version that this code must not read: its handlers are not called, and nothing is written."""
    mismatch = None if taken.job.turn_cause is TurnCause.NOTHING else spec.version_mismatch(taken.job)
    if mismatch is None:
        return None
    return Blocked(ErrorInfo(_KEPT, str(mismatch)), "state_mismatch")
