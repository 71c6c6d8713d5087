"""Run one taken turn of a job: the handlers in their order, and the commit that comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from durable.attempts import Attempt
from durable.errors import ErrorInfo, LeaseLost
from durable.job import JobCommit, TakenTurn, TurnCause
from durable.jobs.context import (
    ContinuousContext,
    DebounceContext,
    ErrorContext,
    EventContext,
    ExecuteContext,
    IdleContext,
    TerminateTurn,
    Turn,
)
from durable.jobs.ends import Ends
from durable.jobs.schedule import Due
from durable.jobs.spec import ContinuousSpec, DebounceSpec, KeyedSpec, TaskSpec

__all__ = ["run_turn"]

Call = Callable[..., Awaitable[Any]]
"""Call a handler with its arguments, as a coroutine or in a thread."""


async def run_turn(
    spec: KeyedSpec,
    ends: Ends,
    attempt: Attempt,
    taken: TakenTurn,
    previous_error: ErrorInfo | None,
    *,
    call: Call,
    timeout: float | None = None,
) -> JobCommit:
    """The commit of a turn that its handlers accepted; what they raise passes through.

    `timeout`: seconds for the handler of a Task job that has an `on_error`, which is told of it; the caller stops all
    others, and this one's `on_error`.
    """
    if taken.job.turn_cause is TurnCause.NOTHING:
        return ends.nothing()
    turn: Turn[Any] = Turn(attempt, taken, None, previous_error)
    try:
        match spec:
            case ContinuousSpec():
                return await _continuous(spec, ends, turn, call)
            case DebounceSpec():
                return await _debounce(spec, ends, turn, call)
            case TaskSpec():
                return await _Handling(spec, ends, turn, call, timeout).run()
            case _:
                raise AssertionError(f"no job is a {type(spec).__name__}")
    except TerminateTurn as end:
        return ends.terminated(end.reason)


async def _continuous(spec: ContinuousSpec, ends: Ends, turn: Turn[Any], call: Call) -> JobCommit:
    job = turn.taken.job
    if job.turn_cause is TurnCause.SCHEDULE and job.turn_began_at is not None:
        # By when it was first taken: a run that has begun is tried to its end, whatever slots pass meanwhile.
        is_missed = spec.schedule.postponed(job.turn_slot, job.turn_began_at) is not None
        due = spec.schedule.postponed(job.turn_slot, turn.taken.now) if is_missed else None
        if due is not None:
            return ends.postponed(due)
    turn.state = spec.load_state(job)
    await call(spec.handler, ContinuousContext(turn))
    return ends.accepted(
        state=turn.state,
        instance_id=job.job_key.instance_id,
        sends=tuple(turn.sends),
        due=ends.next_due(),
    )


async def _debounce(spec: DebounceSpec, ends: Ends, turn: Turn[Any], call: Call) -> JobCommit:
    taken = turn.taken
    if not taken.events:
        return ends.nothing()
    instance_id = taken.job.job_key.instance_id
    events = spec.load_events(taken.events, instance_id)
    turn.state = spec.fold(events, instance_id)
    await call(spec.handler, DebounceContext(turn, events, _flush_reason(spec, taken)))
    return ends.accepted(state=None, instance_id=instance_id, sends=tuple(turn.sends))


def _flush_reason(spec: DebounceSpec, taken: TakenTurn) -> str:
    if taken.job.turn_cause is TurnCause.TRIGGER:
        return "manual"
    most = spec.policy.max_events
    return "max_events" if most is not None and len(taken.events) >= most else "flush_after"


class _Handling:
    """The handlers of a Task job in one turn."""

    def __init__(self, spec: TaskSpec, ends: Ends, turn: Turn[Any], call: Call, timeout: float | None) -> None:
        self._spec = spec
        self._timeout = timeout if spec.handles_errors else None
        self._ends = ends
        self._turn = turn
        self._call = call
        self._source = "on_event" if turn.taken.events else "execute"

    async def run(self) -> JobCommit:
        job = self._turn.taken.job
        self._turn.state = self._spec.load_state(job)
        try:
            await self._within_timeout()
            if self._spec.handles_errors and self._turn.state is not None:
                # A state that does not fit is a failure of the handler too, not only of the commit.
                self._spec.dump_state(self._turn.state, job.job_key.instance_id)
        except (TerminateTurn, LeaseLost):
            raise
        except Exception as error:
            if not self._spec.handles_errors:
                raise
            await self._recover(error)
        turn = self._turn
        if self._spec.handlers.on_idle is not None and turn.plan.moment is None and job.pending_count == 0:
            turn.plan.handler = "idle"
            await self._call(self._spec.handlers.on_idle, IdleContext(turn, self._source))
        return self._ends.accepted(
            state=turn.state,
            instance_id=job.job_key.instance_id,
            executes=1 if self._source == "execute" else 0,
            sends=tuple(turn.sends),
            due=Due(turn.plan.delay, turn.plan.at) if turn.plan.is_changed else None,
            planned_by=turn.plan.planned_by,
        )

    async def _handle(self) -> None:
        turn, handlers = self._turn, self._spec.handlers
        turn.plan.handler = "event" if self._source == "on_event" else "execute"
        if self._source == "execute":
            await self._call(handlers.get("execute"), ExecuteContext(turn))
            return
        (event,) = self._spec.load_events(turn.taken.events, turn.taken.job.job_key.instance_id)
        await self._call(handlers.get("on_event"), EventContext(turn, event), event)

    async def _within_timeout(self) -> None:
        """Raises _TookTooLong, whatever the handler makes of being stopped, unless that ends the job."""
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit:
                await self._handle()
        except Exception as error:
            if limit.expired():
                raise _TookTooLong from error
            raise
        if limit.expired():
            raise _TookTooLong

    async def _recover(self, error: Exception) -> None:
        before = self._turn
        before.cancel_signal.set()
        # Another one, because the thread of a handler that took too long may still write to that.
        turn: Turn[Any] = Turn(before.attempt, before.taken, None, before.previous_error)
        self._turn = turn
        turn.state = self._spec.load_state(turn.taken.job)
        turn.plan.handler = "error"
        assert self._spec.handlers.on_error is not None
        context = ErrorContext(turn, self._source, before.state)
        try:
            await self._call(self._spec.handlers.on_error, context, error)
        except _TookTooLong:
            # Raised again: the attempt ends as one whose time is over, and not as one that failed.
            turn.attempt.stop_reason = turn.attempt.stop_reason or "timed_out"
            raise


class _TookTooLong(TimeoutError):
    """What `on_error` is given for a handler that took longer than the timeout."""

    def __init__(self) -> None:
        super().__init__("the attempt took longer than its timeout")
