"""The close pipeline in memory: ready → closing → closed, one level of a tree at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from durable.execution import CancelResult, CloseStatus
from durable.memory.cancel import cancel_record
from durable.memory.outbox import note_ends
from durable.memory.parents import tell_parents, unfinished_children
from durable.memory.records import changed
from durable.memory.store import Transaction
from durable.storage import Note
from durable.transitions import CloseEvent, apply_close

__all__ = ["claim_closes", "close_trees", "recover_closes"]


def claim_closes(tx: Transaction, *, limit: int, lease: float) -> list[str]:
    found = [
        (record.finished_at or tx.now, record.id, record)
        for record in tx.executions.values()
        if record.close_status is CloseStatus.READY
    ]
    until = tx.now + timedelta(seconds=lease)
    taken = [record for _, _, record in sorted(found)[:limit]]
    return [
        tx.put(
            changed(record, tx.now, apply_close(record.close_status, CloseEvent.CLAIM), close_lease_expires_at=until)
        ).id
        for record in taken
    ]


def close_trees(tx: Transaction, ids: Sequence[str], *, reason: str, note: Note | None) -> list[CancelResult]:
    results: list[CancelResult] = []
    for id_ in dict.fromkeys(ids):
        parent = tx.executions.get(id_)
        if parent is None or parent.close_status is not CloseStatus.CLOSING:
            continue
        children = unfinished_children(tx, id_)
        results += [CancelResult(child.id, child.status, True) for child in children]
        cancelled = [cancel_record(tx, child, reason=reason) for child in children]
        tell_parents(tx, cancelled)
        note_ends(tx, note, cancelled)
        _close_if_empty(tx, id_)
    return results


def _close_if_empty(tx: Transaction, id_: str) -> None:
    parent = tx.executions.get(id_)
    if parent is not None and parent.close_status is CloseStatus.CLOSING and not parent.active_children_count:
        tx.put(changed(parent, tx.now, apply_close(parent.close_status, CloseEvent.CLOSE)))


def recover_closes(tx: Transaction, *, limit: int) -> int:
    late = [
        (record.close_lease_expires_at, record.id, record)
        for record in tx.executions.values()
        if record.close_status is CloseStatus.CLOSING
        and record.close_lease_expires_at is not None
        and record.close_lease_expires_at <= tx.now
    ]
    taken = [record for _, _, record in sorted(late)[:limit]]
    for record in taken:
        tx.put(changed(record, tx.now, apply_close(record.close_status, CloseEvent.EXPIRE)))
    return len(taken)
