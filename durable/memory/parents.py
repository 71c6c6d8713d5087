"""A finish told to the parents: counts go down, and what waited for its last child goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from durable.errors import TransitionRefused
from durable.execution import CloseStatus, Execution, Status
from durable.memory.records import changed, moved, resumed
from durable.transitions import CloseEvent, Event, apply_close
from durable.workflow_rows import CANCELLED_BY_PARENT

if TYPE_CHECKING:
    from durable.memory.store import Transaction

__all__ = ["WAITING_FOR_OTHERS", "is_awaited", "is_failure", "tell_parents", "unfinished_children"]

WAITING_FOR_OTHERS = frozenset({Status.WAITING_FOR_CHILDREN, Status.WAITING_FOR_FINALIZE})


def tell_parents(tx: Transaction, ended: Iterable[Execution]) -> set[str]:
    """Lower the count of each parent by its children among `ended`; gives the queues of parents that became ready.

    A parent that is gone is passed over. A suspended workflow goes on when few enough are left, or one has failed,
    which counts as a message to it. A parent that has itself finished only counts, and is closed by its last child if
    its tree is being closed.
    """
    queues: set[str] = set()
    records = [record for record in ended if record.parent_id is not None]
    failed = Counter(record.parent_id for record in records if is_failure(record))
    for parent_id, children in Counter(record.parent_id or "" for record in records).items():
        parent = tx.executions.get(parent_id)
        if parent is None:
            continue
        if parent.status in WAITING_FOR_OTHERS:
            parent = moved(parent, Event.CHILDREN_FINISHED, tx.now, children=children)
        else:
            parent = _counted_down(tx, parent, children)
            if is_awaited(parent, failed=failed[parent_id]):
                parent = resumed(parent, tx.now)
        parent = tx.put(parent._replace(message_count=parent.message_count + failed[parent_id]))
        if parent.status is Status.READY:
            queues.add(parent.queue)
    return queues


def is_failure(child: Execution) -> bool:
    """It ended without a result, and not because its parent has let go of it."""
    return child.status is not Status.COMPLETED and child.reason != CANCELLED_BY_PARENT


def _counted_down(tx: Transaction, parent: Execution, children: int) -> Execution:
    left = parent.active_children_count - children
    if left < 0:
        raise TransitionRefused(parent.status, Event.CHILDREN_FINISHED, "more children finished than were active")
    close_status = parent.close_status
    if not left and close_status is CloseStatus.CLOSING:
        close_status = apply_close(close_status, CloseEvent.CLOSE)
    return changed(parent, tx.now, close_status, active_children_count=left)


def is_awaited(record: Execution, *, failed: int = 0) -> bool:
    """A suspended workflow of which so few children are active as it waits for, or some have failed just now."""
    wake_at = record.wake_at_children
    if wake_at is None or record.status not in (Status.WAITING, Status.READY):
        return False
    return failed > 0 or record.active_children_count <= wake_at


def unfinished_children(tx: Transaction, parent_id: str) -> list[Execution]:
    """In order of creation."""
    return [each for each in tx.executions.values() if each.parent_id == parent_id and not each.is_finished]
