"""Run: call the handler of a claimed turn, and decide from what came of it how the turn ends."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from random import Random
from typing import assert_never

from durable.attempts import Attempt
from durable.clock import Clock
from durable.errors import ConfigurationError, ErrorInfo, LeaseLost
from durable.events import Emitter, TurnEnd
from durable.execution import Settlement
from durable.kinds import OWN_LIMIT, RUNNERS
from durable.kinds.turn import EndedBy, Services, Turn
from durable.outcomes import (
    Blocked,
    Completed,
    Continued,
    FinalizeSpawned,
    JobTurned,
    Joined,
    Outcome,
    Repeated,
    Spawned,
    Stopped,
    Suspended,
)
from durable.retry import Retry
from durable.running import enter
from durable.telemetry import Telemetry
from durable.transitions import blocked, cancelled, complete, fail, release, repeat, spawn, spawn_finalize, suspend

__all__ = ["HandlerTimedOut", "RunRoom"]

_log = logging.getLogger("durable")
_TIMED_OUT = ErrorInfo("timed_out", "the attempt took longer than its timeout", is_retryable=True)
_DEAF_AFTER = 5.0
"""Seconds that a handler has to end after it was stopped, before its slot is given to others."""


class RunRoom:
    """Starts attempts as tasks of the event loop; hands each end to `settle` and each slot back."""

    def __init__(
        self,
        *,
        services: Services,
        random: Random,
        clock: Clock,
        telemetry: Telemetry,
        emitter: Emitter,
        settle: Callable[[Attempt, Settlement], None],
        drop: Callable[[Attempt], None],
        ended: Callable[[], None],
    ) -> None:
        self._services = services
        self._random = random
        self._clock = clock
        self._telemetry = telemetry
        self._emitter = emitter
        self._settle = settle
        self._drop = drop
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        """Kept, because asyncio asks the system for the process at each `get_running_loop` before Python 3.12."""
        self._context = contextvars.copy_context()
        """What every handler starts from, whichever handler gave it its slot."""
        self._tasks: set[asyncio.Task[None]] = set()
        """Held here as well, because the event loop keeps only weak references to tasks."""

    @property
    def tasks(self) -> frozenset[asyncio.Task[None]]:
        return frozenset(self._tasks)

    def start(self, attempt: Attempt) -> None:
        attempt.started_at = self._clock.monotonic()
        if attempt.started_at >= attempt.deadline:
            attempt.is_lost = True
        task = self._loop.create_task(self._occupy_slot(attempt), name=attempt.claimed.id, context=self._context.copy())
        if not task.done():  # an event loop with eager tasks may have run all of it
            attempt.task = task
            self._tasks.add(task)

    def stop(self, attempt: Attempt, reason: str) -> None:
        """Cancel the handler, and go on without it if it does not listen."""
        attempt.stop(reason)
        if attempt.task is not None and not attempt.task.done():
            self._loop.call_later(_DEAF_AFTER, self.give_up, attempt)

    def give_up(self, attempt: Attempt) -> None:
        """Free the slot of a stopped handler that has not ended, and write what its stop means; once is enough."""
        if attempt.task is None or attempt.task not in self._tasks:
            return
        self._services.log.write(
            logging.WARNING, attempt.claimed,
            "execution %s (task %s) ignores its cancellation; it runs on without a slot, and its end counts no more",
            attempt.claimed.id, attempt.claimed.task_name,
        )  # fmt: skip
        self._tasks.discard(attempt.task)
        self._end(attempt, self._after_cancel(attempt, asyncio.CancelledError()))
        self._ended()

    async def _occupy_slot(self, attempt: Attempt) -> None:
        """Run the attempt, and give its slot back; without a callback of its task, which costs microseconds."""
        attempt.has_begun = True
        task = attempt.task
        if task is None:  # an event loop with eager tasks comes here before there is one
            task = attempt.task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
        try:
            if attempt.is_lost or attempt.stop_reason is not None:
                self._end(attempt, self._after_cancel(attempt, asyncio.CancelledError()))
            else:
                await self._run(attempt)
        except Exception:
            _log.exception("running an execution failed inside durable")
            self._drop(attempt)
        finally:
            if task in self._tasks:
                self._tasks.discard(task)
                self._ended()

    async def _run(self, attempt: Attempt) -> None:
        claimed = attempt.claimed
        enter(claimed)
        self._services.log.started(attempt)
        settlement: Settlement | None
        outcome: Outcome | None = None
        try:
            if claimed.timeout is None and self._telemetry.tracer is None:
                outcome = await RUNNERS[claimed.kind](self._turn(attempt))
            else:
                outcome = await self._watched(attempt)
            settlement = self._settlement(attempt, outcome)
            if attempt.stop_reason == "timed_out":
                settlement, outcome = self.failure(attempt, HandlerTimedOut()), None
        except LeaseLost as error:
            # Of another attempt, or made up by the handler, it is a failure like any other.
            settlement = None if attempt.is_lost or attempt.is_over else self.failure(attempt, error)
        except BaseException as error:
            # SystemExit and its like, raised by a handler, would end the event loop and everybody else's work.
            settlement, outcome = self._after_error(attempt, error), None
        self._end(attempt, settlement, outcome)

    def _end(self, attempt: Attempt, settlement: Settlement | None, outcome: Outcome | None = None) -> None:
        if attempt.is_over:
            return
        attempt.is_over = True
        if settlement is None or attempt.is_lost:
            self._drop(attempt)
        else:
            if attempt.close is not None:
                settlement = attempt.close(settlement)
            if self._emitter.subscribers:
                settlement = self.noted(attempt, settlement, outcome)
            self._settle(attempt, settlement)

    def noted(self, attempt: Attempt, settlement: Settlement, outcome: Outcome | None = None) -> Settlement:
        """The end of a turn with the notices of it, for those who have subscribed."""
        if not self._emitter.is_on:
            return settlement
        seconds = self._clock.monotonic() - attempt.started_at
        end = TurnEnd(attempt.claimed, settlement, outcome, seconds, attempt.exhausted, attempt.about)
        try:
            return self._emitter.told(end)
        except Exception:
            _log.exception("the end of execution %s is not told to anybody", settlement.id)
            return settlement  # what cannot be told must not keep the turn from ending

    async def _watched(self, attempt: Attempt) -> Outcome:
        """The runner within a span and within the timeout of the attempt, where there are such."""
        claimed = attempt.claimed
        limit = None if claimed.kind in OWN_LIMIT else claimed.timeout
        with self._telemetry.attempt(claimed), self.limit(attempt, limit):
            return await RUNNERS[claimed.kind](self._turn(attempt))

    def _turn(self, attempt: Attempt) -> Turn:
        services = self._services
        return Turn(attempt, services.registry[attempt.claimed.task_name], services, self.stop)

    @contextmanager
    def limit(self, attempt: Attempt, seconds: float | None) -> Generator[None]:
        """Stop the attempt as timed out if the block takes longer; None: it may."""
        if seconds is None:
            yield
            return
        timer = self._loop.call_later(seconds, self.stop, attempt, "timed_out")
        try:
            yield
        finally:
            timer.cancel()

    def _settlement(self, attempt: Attempt, outcome: Outcome) -> Settlement:
        match outcome:
            case Completed(output):
                return complete(attempt.claimed, output)
            case Repeated(delay):
                return repeat(attempt.claimed, delay, attempt.claimed.run_output)
            case Continued(stored_input):
                return repeat(attempt.claimed, 0.0, stored_input)
            case Joined(call):
                attempt.joined = call
                return complete(attempt.claimed, "null")
            case Spawned(run_output, children):
                return spawn(attempt.claimed, run_output, children)
            case FinalizeSpawned(finalize):
                return spawn_finalize(attempt.claimed, finalize)
            case JobTurned(commit, event_count):
                return complete(attempt.claimed, str(event_count))._replace(job=commit)
            case Suspended(suspension):
                return suspend(attempt.claimed, suspension)
            case Stopped():
                return self._stopped(attempt, outcome)
            case Blocked(error, reason):
                return self._blocked(attempt, error, reason)
            case _:
                assert_never(outcome)

    def _stopped(self, attempt: Attempt, stopped: Stopped) -> Settlement:
        codec = self._services.registry.codec
        kind = "timed_out" if stopped.is_timeout else "cancelled"
        stored = codec.dump_error(
            ErrorInfo(kind, stopped.reason, is_retryable=False, traceback="\n".join(stopped.notes) or None)
        )
        if stopped.is_timeout:
            return fail(attempt.claimed, stored, retry_delay=None, timed_out=True)
        return cancelled(attempt.claimed, stored, "cancelled")

    def _blocked(self, attempt: Attempt, error: ErrorInfo, reason: str) -> Settlement:
        _log.error("execution %s (task %s) is kept: %s", attempt.claimed.id, attempt.claimed.task_name, error)
        return blocked(attempt.claimed, self._services.registry.codec.dump_error(error), reason)

    def _after_error(self, attempt: Attempt, error: BaseException) -> Settlement | None:
        """What a handler raises when it is stopped says nothing about its work, unless it is an error of its own."""
        if isinstance(error, asyncio.CancelledError) or attempt.stop_reason is not None:
            return self._after_cancel(attempt, error)
        return self.failure(attempt, error)

    def _after_cancel(self, attempt: Attempt, error: BaseException) -> Settlement | None:
        """Stopped by us: released, dropped or timed out. Cancelled by the handler's own doing: a failure like any."""
        if attempt.is_lost:
            return None
        match attempt.stop_reason:
            case "shutdown":
                return release(attempt.claimed)
            case "timed_out":
                return self.failure(attempt, HandlerTimedOut())
            case _:
                return self.failure(attempt, error)

    def failure(self, attempt: Attempt, error: BaseException) -> Settlement:
        """How an attempt ends that raised `error`: by the retry policy, or for good."""
        claimed = attempt.claimed
        codec = self._services.registry.codec
        if isinstance(error, EndedBy):
            self._services.log.failed(attempt, error.error.type, None)
            return fail(claimed, codec.dump_error(error.error), retry_delay=None)
        is_timeout = isinstance(error, HandlerTimedOut)
        policy = self._policy(attempt)
        delay = None
        if claimed.attempts >= claimed.max_attempts:
            attempt.exhausted = "max_attempts" if claimed.max_attempts > 1 else None
        else:
            delay, attempt.exhausted = policy.judge(
                attempts=claimed.attempts,
                error=_TIMED_OUT if is_timeout else error,
                elapsed=claimed.age if attempt.age is None else attempt.age,
                random=self._random.random(),
            )
        stored = codec.dump_error(_TIMED_OUT if is_timeout else error, is_retryable=delay is not None)
        # The message may hold payload, so only the type is logged.
        self._services.log.failed(attempt, "timed_out" if is_timeout else type(error).__name__, delay)
        return fail(claimed, stored, retry_delay=delay, timed_out=is_timeout)

    def _policy(self, attempt: Attempt) -> Retry:
        """The policy given at enqueue, or that of the definition as it is today."""
        if attempt.claimed.retry is not None:
            try:
                return Retry.from_json(attempt.claimed.retry)
            except ConfigurationError as error:
                message = "execution %s goes by the policy of its task: %s"
                self._services.log.write(logging.ERROR, attempt.claimed, message, attempt.claimed.id, error)
        return self._services.registry[attempt.claimed.task_name].options.retry


class HandlerTimedOut(Exception):
    """The attempt's own timeout, told apart from a TimeoutError of the handler."""
