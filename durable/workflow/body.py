"""Around a user's body: undo what it has done where it fails, and run what is to run whatever happened."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, cast

from durable.workflow.context import ContinueAsNew, WorkflowContext
from durable.workflow.replay import Replay

__all__ = ["give_up", "run_body"]

Finalize = Callable[[WorkflowContext], Awaitable[None]]

_log = logging.getLogger("durable")
_FINALIZE_FAILED: Final = "finalize failed as well"


def _continued(error: BaseException) -> ContinueAsNew | None:
    """Also where a task of a TaskGroup continues as new, and nothing beside it has failed."""
    if isinstance(error, ContinueAsNew):
        return error
    if not isinstance(error, BaseExceptionGroup):
        return None
    parts = [_continued(each) for each in cast("BaseExceptionGroup[BaseException]", error).exceptions]
    return parts[0] if None not in parts else None


async def run_body(
    function: Callable[..., Awaitable[Any]],
    finalize: Finalize | None,
    context: WorkflowContext,
    replay: Replay,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    dump: Callable[[Any], str],
) -> str:
    """What the body returns. `finalize` runs in any case but one: a workflow that continues as new has not ended.

    Gives the result as `dump` stores it; one that cannot be stored is a failure of the body. Updates that were accepted
    are done before a body's return counts; where it fails or is stopped, so are they. The error of a `finalize` after a
    body that has returned is the workflow's, and its work is undone then; that of one after a failure is a note of it.
    """
    updates = context.updates
    try:
        try:
            result = dump(await function(context, *args, **kwargs))
        except (ContinueAsNew, BaseExceptionGroup) as error:
            continued = _continued(error)
            if continued is None:
                raise
            await updates.finish()
            continued.undo = context.undoing.carry()
            raise continued from None
        await updates.finish()
    except (ContinueAsNew, GeneratorExit):
        raise  # nothing has ended: it goes on as new, or is put out of memory
    except BaseException as error:
        if not replay.is_dropped:
            await _fail(finalize, context, replay, error)
        raise
    replay.is_unwinding = True
    if finalize is not None:
        try:
            await finalize(context)
        except (Exception, asyncio.CancelledError) as error:
            # It ends as failed, and what has failed is undone: whoever sees that may begin the whole anew.
            if not replay.is_dropped:
                replay.turn_back(error)
                await _undo(context, error)
            raise
    return result


async def give_up(
    finalize: Finalize | None, context: WorkflowContext, replay: Replay, error: BaseException
) -> NoReturn:
    """In the place of a body that waits on however often it is told that nothing will come, or of its `finalize`."""
    first = None if replay.failed is None else replay.failed.error
    if not replay.is_unwinding:
        await _fail(finalize, context, replay, error)
    elif first is None:
        replay.turn_back(error)
        await _undo(context, error)
    else:
        _note(context, first, _FINALIZE_FAILED, error)
    raise first or error


async def _fail(finalize: Finalize | None, context: WorkflowContext, replay: Replay, error: BaseException) -> None:
    replay.turn_back(error)
    await context.updates.stop()
    await _undo(context, error)
    if finalize is not None:
        try:
            await finalize(context)
        except (Exception, asyncio.CancelledError) as failed:
            # How the body has ended stays the end, whatever comes of this.
            _note(context, error, _FINALIZE_FAILED, failed)


async def _undo(context: WorkflowContext, error: BaseException) -> None:
    for failed in await context.roll_back():
        _note(context, error, "undoing failed as well", failed)


def _note(context: WorkflowContext, error: BaseException, what: str, failed: BaseException) -> None:
    """Let the record of the end tell of this failure beside its own, and the log."""
    error.add_note(f"{what}: {type(failed).__name__}: {failed}")
    if not context.is_replaying:
        _log.error("workflow %s: %s: %s: %s", context.execution_id, what, type(failed).__name__, failed)
