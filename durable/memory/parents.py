"""A finish told to the parents: counts go down, and what waited for its last child goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from durable.errors import TransitionRefused
from durable.execution import CloseStatus, Execution, Status
from durable.memory.records import changed, moved, resumed
from durable.transitions import CloseEvent, Event, apply_close

if TYPE_CHECKING:
    from durable.memory.store import Transaction

__all__ = ["WAITING_FOR_OTHERS", "is_awaited", "tell_parents", "unfinished_children"]

WAITING_FOR_OTHERS = frozenset({Status.WAITING_FOR_CHILDREN, Status.WAITING_FOR_FINALIZE})


def tell_parents(tx: Transaction, ended: Iterable[Execution]) -> set[str]:
    """Lower the count of each parent by its children among `ended`; gives the queues of parents that became ready.

    A parent that is gone is passed over. A suspended workflow goes on when few enough are left. A parent that has
    itself finished only counts, and is closed by its last child if its tree is being closed.
    """
    queues: set[str] = set()
    counted = Counter(record.parent_id for record in ended if record.parent_id is not None)
    for parent_id, children in counted.items():
        parent = tx.executions.get(parent_id)
        if parent is None:
            continue
        if parent.status in WAITING_FOR_OTHERS:
            parent = moved(parent, Event.CHILDREN_FINISHED, tx.now, children=children)
        else:
            parent = _counted_down(tx, parent, children)
            if is_awaited(parent):
                parent = resumed(parent, tx.now)
        tx.put(parent)
        if parent.status is Status.READY:
            queues.add(parent.queue)
    return queues


def _counted_down(tx: Transaction, parent: Execution, children: int) -> Execution:
    left = parent.active_children_count - children
    if left < 0:
        raise TransitionRefused(parent.status, Event.CHILDREN_FINISHED, "more children finished than were active")
    close_status = parent.close_status
    if not left and close_status is CloseStatus.CLOSING:
        close_status = apply_close(close_status, CloseEvent.CLOSE)
    return changed(parent, tx.now, close_status, active_children_count=left)


def is_awaited(record: Execution) -> bool:
    """A suspended workflow of which so few children are active as it waits for."""
    is_suspended = record.status in (Status.WAITING, Status.READY)
    wake_at = record.wake_at_children
    return is_suspended and wake_at is not None and record.active_children_count <= wake_at


def unfinished_children(tx: Transaction, parent_id: str) -> list[Execution]:
    """In order of creation."""
    return [each for each in tx.executions.values() if each.parent_id == parent_id and not each.is_finished]
