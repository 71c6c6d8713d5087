"""The workflow: replay its body from its history, or take it from memory, and let it go on until it waits or ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import datetime, timedelta
from functools import partial
from threading import get_ident
from typing import Any, Final

from durable.context import StepAttempt
from durable.definition import WorkflowSpec
from durable.errors import ConfigurationError, ErrorInfo, InvalidInput, SerializationError, StepMismatch
from durable.execution import Claimed, Settlement, Status
from durable.kinds.turn import EndedBy, Turn
from durable.outcomes import Blocked, Completed, Outcome, Stopped, Suspended
from durable.workflow.begin import begin
from durable.workflow.beginning import beginning, deadline, with_beginning
from durable.workflow.context import ContinueAsNew
from durable.workflow.desk import Desk
from durable.workflow.entries import STUCK, RunStep, WaitMessage
from durable.workflow.pending import Pending
from durable.workflow.replay import Ended, Replay
from durable.workflow.services import WorkflowServices
from durable.workflow.steps import StepRuns
from durable.workflow.telling import is_end_of_work, moment_of
from durable.workflow.turn import WorkflowTurn
from durable.workflow.undoing import carried_of
from durable.workflow.values import dump_value
from durable.workflow_rows import Suspension

__all__ = ["run"]

_GRACE: Final = timedelta(hours=1)
"""For code that fits to come back, after the timeout of a workflow: its end would leave undone what it has done."""


async def run(turn: Turn) -> Outcome:
    claimed, services = turn.claimed, turn.services.workflows
    replay = services.cache.take(claimed.id, claimed.fence)
    try:
        if replay is None:
            replay = _made(turn, services)
            # The first claim ever has nothing to read.
            if claimed.fence > 1 or claimed.message_count:
                history = await services.read(claimed.id, 0, 0)
                replay.start(history.entries, history.messages, known=claimed.message_count)
            else:
                replay.start()
        return await _go_on(turn, replay, services)
    except StepMismatch as error:
        cause = error.__cause__ if replay is None else None
        if cause is not None and not await _has_begun(claimed, services):
            # Nothing has come of it yet that would have to be undone: it fails as any task does.
            raise cause from None
        is_too_late = await _is_too_late(claimed, replay, services)
        outcome = _left(error, replay) if is_too_late else Blocked(ErrorInfo("StepMismatch", str(error)))
        _close(replay)
        return outcome
    except Exception as error:
        _close(replay)
        if replay is None or isinstance(error, EndedBy) or turn.attempt.stop_reason is not None:
            raise
        # Its body has not failed, but what was to be written of it. As long as that lasts, undoing its work would be
        # refused as well, and afterwards it would be wrong: it is kept, and goes on from its history, timeout and all.
        return Blocked(ErrorInfo(type(error).__name__, str(error)), "storage_refused")
    except BaseException:
        _close(replay)
        raise


def _close(replay: Replay | None) -> None:
    if replay is not None:
        replay.close()


async def _is_too_late(claimed: Claimed, replay: Replay | None, services: WorkflowServices) -> bool:
    """One that cannot go on has had its time, and more. What undoes its work has no limit, here as elsewhere."""
    if claimed.timeout is None or (replay is not None and not replay.can_time_out):
        return False
    entries = (await services.read(claimed.id, 0, 0)).entries
    if any(is_end_of_work(entry) for entry in entries):
        return False
    over_at = deadline(claimed, moment_of(entries[0]) if entries else _claimed_at(claimed))
    return over_at is not None and _claimed_at(claimed) >= over_at + _GRACE


def _left(error: StepMismatch, replay: Replay | None) -> Stopped:
    names = () if replay is None else replay.to_undo()
    undone = f"these were registered to undo its work: {', '.join(names)}" if names else "it is not known what would"
    reason = f"its timeout is over by an hour, its code does not fit it, and nothing was undone; {undone}. {error}"
    return Stopped(True, reason)


def _made(turn: Turn, services: WorkflowServices) -> Replay:
    """Raises StepMismatch where the definition does not take what is stored any more."""
    claimed, definition = turn.claimed, turn.definition
    if not isinstance(definition.spec, WorkflowSpec):
        found = f"a {definition.kind} of that name"
        advice = "declare the workflow under its name again, and the other under one of its own, or run the old code"
        refused = ConfigurationError(f"{definition.name!r} was enqueued as a workflow and is declared as {found}")
        raise StepMismatch(f"a workflow {definition.name!r}", found, advice=advice) from refused
    desk = Desk(services, claimed.id, turn.services.ids, definition.codec)
    find = turn.services.registry.find
    try:
        return begin(definition, claimed, services.plans, desk, find=find, started_at=_claimed_at(claimed))
    except (InvalidInput, SerializationError) as error:
        raise StepMismatch(
            f"an input that no longer fits the parameters of {definition.name!r}",
            str(error),
            advice="give a new parameter a default, take what was stored for the others, or run the old code",
        ) from error


async def _has_begun(claimed: Claimed, services: WorkflowServices) -> bool:
    """It has a history, or is what an earlier run of it has continued as."""
    return claimed.run_output is not None or bool((await services.read(claimed.id, 0, 0)).entries)


async def _go_on(turn: Turn, replay: Replay, services: WorkflowServices) -> Outcome:
    claimed, codec = turn.claimed, turn.definition.codec
    loop, thread, stirred = asyncio.get_running_loop(), get_ident(), asyncio.Event()
    steps = StepRuns(
        services,
        codec,
        call=partial(_call, turn),
        guard=partial(_stop_if_away, turn),
        random=services.random,
        clock=turn.services.clock,
        loop=loop,
        on_end=stirred.set,
    )
    turn.on_thread_left = steps.left
    workflow = WorkflowTurn(
        turn.attempt,
        replay,
        services,
        steps,
        codec=codec,
        clock=turn.services.clock,
        ids=turn.services.ids,
        claimed_at=_claimed_at(claimed),
        stirred=stirred,
    )

    def emit(chunk: Any) -> None:
        text = dump_value(codec, chunk, "chunk")
        if get_ident() == thread:
            # At once: its step may end before the loop comes to anything else, and be stored without this piece.
            workflow.stream(text)
        else:
            loop.call_soon_threadsafe(workflow.stream, text)

    turn.attempt.emit = emit
    replay.run_within(loop)
    try:
        rest = await workflow.run()
    finally:
        replay.run_within(None)
        if steps.are_left:
            await steps.stop_all()
        turn.on_thread_left = None
    if replay.ended is None:
        services.cache.keep(claimed.id, claimed.fence, replay, wakes_in=_wakes_in(replay, rest))
        return Suspended(rest)
    replay.close()
    return _end(turn, replay, replay.ended, rest, is_bare=not (workflow.has_had_children or any(rest[:6])))


def _wakes_in(replay: Replay, rest: Suspension) -> float | None:
    """The seconds before which nothing can let it go on; None: something may at any time."""
    hears = replay.hears_updates or any(isinstance(pending.command, WaitMessage) for pending in replay.open)
    return None if hears or rest.wake_at_children is not None else rest.delay


def _end(turn: Turn, replay: Replay, ended: Ended, rest: Suspension, *, is_bare: bool) -> Outcome:
    """A bare end is written as that of a task, in one statement: nothing else is written, no child can end with it."""
    if isinstance(ended.error, ContinueAsNew):
        # What was waiting when this run began has a number of its own, below those that came since.
        begun_at = beginning(turn.claimed, replay.started_at)
        continued = with_beginning(carried_of(ended.error.stored_input, ended.error.undo), begun_at)
        return Suspended(rest._replace(continued=continued, kept_messages=replay.unmet_messages))
    if is_bare:
        turn.attempt.close = partial(_as_of_task, turn.claimed)
    else:
        turn.attempt.close = lambda settlement: settlement._replace(workflow=rest)
    if ended.error is None:
        return Completed(ended.value)
    if isinstance(ended.error, asyncio.CancelledError) and replay.stop_kind is not None:
        if replay.stop_kind == STUCK:
            notes = "\n".join(replay.end_notes) or None
            raise EndedBy(ErrorInfo(STUCK, replay.stop_reason, is_retryable=False, traceback=notes))
        return Stopped(replay.stop_kind == "timed_out", replay.stop_reason, replay.end_notes)
    raise EndedBy(turn.definition.codec.error_info(ended.error, is_retryable=False)) from ended.error


def _as_of_task(claimed: Claimed, end: Settlement) -> Settlement:
    # One that has continued as new keeps what with, and most ends of that kind keep nothing.
    is_bare = end.status is Status.COMPLETED and claimed.parent_id is None and claimed.run_output is None
    return end._replace(workflow=None, is_bare=is_bare)


def _stop_if_away(turn: Turn) -> None:
    if turn.services.clock.monotonic() >= turn.attempt.deadline:
        turn.stop(turn.attempt, "lost")
        raise asyncio.CancelledError


def _call(turn: Turn, pending: Pending, first: tuple[Any, ...]) -> Awaitable[Any]:
    command = pending.command
    assert isinstance(command, RunStep)
    plan = command.plan
    if plan.wants_context:
        return _call_with_context(turn, pending, command, first)
    if plan.is_async:  # as most, and without a call between
        awaitable: Awaitable[Any] = plan.function(*first, *command.args, **command.kwargs)
        return awaitable
    return _called(turn, command, *first, *command.args)


def _called(turn: Turn, command: RunStep, *args: Any) -> Awaitable[Any]:
    if command.plan.is_async:
        awaitable: Awaitable[Any] = command.plan.function(*args, **command.kwargs)
        return awaitable
    return turn.in_thread(command.plan.function, *args, **command.kwargs)


async def _call_with_context(turn: Turn, pending: Pending, command: RunStep, first: tuple[Any, ...]) -> Any:
    # Each attempt of a step has a signal of its own: the body may give up one step and go on with others.
    context = turn.context(StepAttempt(pending.attempts + 1, command.plan.retry.max_attempts, pending.error))
    try:
        return await _called(turn, command, context, *first, *command.args)
    except asyncio.CancelledError:
        # Timed out, let go of, cancelled with its workflow, or stopped with its turn: all that a thread hears of it.
        context.cancel_signal.set()
        raise


def _claimed_at(claimed: Claimed) -> datetime:
    return claimed.created_at + timedelta(seconds=claimed.age)
