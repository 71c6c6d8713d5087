"""The turn of an owner's timers: run the task of the first that is due, and note on it how that went."""

from __future__ import annotations

import asyncio
import logging

from durable.definition import Definition
from durable.errors import Continue, ErrorInfo, LeaseLost, NonRetryable, RetryAfter
from durable.execution import Kind
from durable.job import JobCommit, TakenTurn
from durable.jobs.timer_turn import TimerContext, TimerEnds
from durable.kinds.turn import Turn
from durable.retry import asked_delay, is_final
from durable.timer import StoredTimer

__all__ = ["run_timer"]

_POISONED = "the timer was started {count} times without an end; it kills its process"
_NO_NEXT = "task {name!r} raised continue_with, and a timer starts it with the arguments it was set with; enqueue it"
_UNKNOWN = "task {name!r} is not registered on the executor that claimed this timer"


async def run_timer(turn: Turn, ends: TimerEnds, taken: TakenTurn) -> JobCommit:
    """The commit of the turn, whatever the task raised; passes on what stops the attempt."""
    timer = taken.timer
    if timer is None:
        return ends.nothing()
    ends.timer = timer
    codec, log = turn.definition.codec, turn.services.log
    definition = turn.services.registry.find(timer.task_name)
    if definition is None or definition.kind is not Kind.TASK:
        message = _UNKNOWN.format(name=timer.task_name)
        log.write(logging.WARNING, timer, "timer %s of owner %s is put off: %s", timer.id, timer.owner, message)
        return ends.put_off(timer, codec.dump_error(ErrorInfo("UnknownTask", message, is_retryable=True)))
    if turn.claimed.deliveries > turn.definition.options.max_deliveries:
        message = _POISONED.format(count=turn.claimed.deliveries - 1)
        return ends.failed(timer, codec.dump_error(ErrorInfo("poisoned", message, is_retryable=True)))
    try:
        await _limited(turn, definition, timer)
    except LeaseLost:
        raise
    except Exception as error:
        if turn.attempt.stop_reason is not None:
            raise  # it says nothing about the task that it ends in an error of its own when it is stopped
        return _failed(turn, ends, timer, error)
    except Continue:
        return _failed(turn, ends, timer, NonRetryable(_NO_NEXT.format(name=timer.task_name)))
    return ends.succeeded(timer)


def _failed(turn: Turn, ends: TimerEnds, timer: StoredTimer, error: Exception) -> JobCommit:
    codec, log = turn.definition.codec, turn.services.log
    # The message may hold payload, so only the type is logged.
    if is_final(error):
        log.write(
            logging.WARNING, timer, "attempt %d of timer %s (task %s) failed with %s; it is not tried again",
            timer.attempt, timer.id, timer.task_name, type(error).__name__,
        )  # fmt: skip
        return ends.failed_for_good(timer, codec.dump_error(error, is_retryable=False))
    delay = asked_delay(error) if isinstance(error, RetryAfter) else timer.retry_interval
    log.write(
        logging.INFO, timer, "attempt %d of timer %s (task %s) failed with %s; it is retried in %.3g s",
        timer.attempt, timer.id, timer.task_name, type(error).__name__, delay,
    )  # fmt: skip
    return ends.failed(timer, codec.dump_error(error, is_retryable=True), delay=delay)


async def _limited(turn: Turn, definition: Definition, timer: StoredTimer) -> None:
    """The task within the time it has."""
    if timer.timeout is None:
        await _call(turn, definition, timer)
        return
    limit = asyncio.get_running_loop().call_later(timer.timeout, turn.stop, turn.attempt, "timed_out")
    try:
        await _call(turn, definition, timer)
    finally:
        limit.cancel()


async def _call(turn: Turn, definition: Definition, timer: StoredTimer) -> None:
    args, kwargs = definition.signature.load(timer.input)
    if definition.wants_context:
        args = (_context(turn, definition, timer), *args)
    if definition.is_async:
        await definition.function(*args, **kwargs)
    else:
        await turn.in_thread(definition.function, *args, **kwargs)


def _context(turn: Turn, definition: Definition, timer: StoredTimer) -> TimerContext:
    return TimerContext(
        timer,
        turn.attempt,
        executor_id=turn.services.executor_id,
        # What cut the start before this one short came after what that timer has noted.
        previous_error=definition.load_error(turn.claimed.error or timer.error),
        shutdown_signal=turn.services.shutdown_signal,
        beats=turn.services.beats,
    )
