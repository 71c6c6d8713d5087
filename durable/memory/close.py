"""The close pipeline in memory: ready → closing → closed, one level of a tree at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from durable.execution import CancelResult, CloseStatus, Execution
from durable.memory.cancel import cancel_record
from durable.memory.outbox import note_ends
from durable.memory.parents import tell_parents, unfinished_children
from durable.memory.records import changed
from durable.memory.store import Transaction
from durable.memory.workflow_messages import ask_to_end, is_started_workflow
from durable.storage import Note
from durable.transitions import CloseEvent, apply_close
from durable.workflow_rows import SendOutcome

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
        children = [child for child in unfinished_children(tx, id_) if not child.outlives_parent]
        ending = [child for child in children if not is_started_workflow(child)]
        results += [CancelResult(child.id, child.status, True) for child in ending]
        cancelled = [cancel_record(tx, child, reason=reason) for child in ending]
        tell_parents(tx, cancelled)
        note_ends(tx, note, cancelled)
        asked = [child for child in children if is_started_workflow(child) and _is_asked(tx, child, reason)]
        results += [CancelResult(child.id, child.status, False, True) for child in asked]
        _close_or_wait(tx, id_)
    return results


def _is_asked(tx: Transaction, child: Execution, reason: str) -> bool:
    return ask_to_end(tx, child.id, reason).outcome is SendOutcome.ACCEPTED


def _close_or_wait(tx: Transaction, id_: str) -> None:
    """Close what has no active children left; the rest waits, without a lease, for those that end by themselves."""
    parent = tx.executions.get(id_)
    if parent is None or parent.close_status is not CloseStatus.CLOSING:
        return
    if parent.active_children_count:
        tx.put(changed(parent, tx.now, parent.close_status, close_lease_expires_at=None))
    else:
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
