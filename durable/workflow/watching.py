"""The ends of children that a turn waits for, as they come; and of children that the storage refuses to begin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from durable.errors import DurableError, ErrorInfo, IdempotencyConflict, SleepingIdConflict
from durable.execution import FinishedExecution, NewExecution, Status
from durable.stored_errors import store_error
from durable.workflow.entries import EntryKind
from durable.workflow.fanout import MapChildren
from durable.workflow.pending import Pending
from durable.workflow_rows import Checkpoint, NewEntry

__all__ = ["Watched", "end_of_refused", "is_refused_by", "may_be_refused", "without_start"]


class Watched:
    """Of one turn, while it waits in memory. True if there are any."""

    def __init__(self, watch: Callable[[str], asyncio.Future[FinishedExecution]], stir: Callable[[], None]) -> None:
        """`watch` gives the end of one when it comes; `stir` is called then."""
        self._watch = watch
        self._stir = stir
        self._ends: dict[str, asyncio.Future[FinishedExecution]] = {}

    def __bool__(self) -> bool:
        return bool(self._ends)

    def begin(self, pendings: Iterable[Pending]) -> None:
        """With the children that these wait for, as far as it has not begun."""
        for pending in pendings:
            child_id = pending.command.watched_id if isinstance(pending.command, MapChildren) else pending.child_id
            if child_id is not None and child_id not in self._ends:
                future = self._ends[child_id] = self._watch(child_id)
                future.add_done_callback(lambda _: self._stir())

    def take_end(self, child_id: str | None) -> FinishedExecution | None:
        """How a child has ended, once; None: it has not."""
        future = self._ends.get(child_id or "")
        if future is None or not future.done() or future.cancelled() or future.exception() is not None:
            return None
        del self._ends[child_id or ""]
        return future.result()

    def take_news(self, child_id: str | None) -> bool:
        """Whether there is anything new of a child, once."""
        future = self._ends.get(child_id or "")
        if future is None or not future.done():
            return False
        del self._ends[child_id or ""]
        return True

    def close(self) -> None:
        for future in self._ends.values():
            future.cancel()


def may_be_refused(child: NewExecution) -> bool:
    """It has a key, which another may have, with another input."""
    return child.idempotency_key is not None or child.sleeping_id is not None


def is_refused_by(conflict: IdempotencyConflict | SleepingIdConflict, child: NewExecution) -> bool:
    if isinstance(conflict, SleepingIdConflict):
        return (child.task_name, child.sleeping_id) == (conflict.task, conflict.sleeping_id)
    return (child.task_name, child.idempotency_key) == (conflict.task, conflict.key)


def end_of_refused(child_id: str, error: DurableError) -> FinishedExecution:
    """What the body hears of it."""
    return FinishedExecution(child_id, Status.FAILED, None, _stored(error))


def without_start(
    checkpoint: Checkpoint, conflict: IdempotencyConflict | SleepingIdConflict
) -> tuple[Checkpoint, NewEntry | None]:
    """The checkpoint without a start that was refused, and its entry, which says so; None: it was none of them.

    Of two for one id the later one, because the earlier one may have been stored.
    """
    taken = next((new for new in reversed(checkpoint.starts) if is_refused_by(conflict, new)), None)
    if taken is None:
        return checkpoint, None
    # Its entry alone tells of its id.
    of_it = f'"id": "{taken.id}"'
    entry = next(each for each in checkpoint.entries if each.kind == EntryKind.STARTED and of_it in (each.detail or ""))
    refused = entry._replace(error=_stored(conflict))
    entries = tuple(refused if each is entry else each for each in checkpoint.entries)
    starts = tuple(new for new in checkpoint.starts if new is not taken)
    return checkpoint._replace(entries=entries, starts=starts), refused


def _stored(error: DurableError) -> str:
    return store_error(ErrorInfo(type(error).__name__, str(error), is_retryable=False))
