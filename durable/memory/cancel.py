"""Cancel, its pick-up by the executor, and redrive, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from durable.errors import TransitionRefused
from durable.execution import CancelResult, Execution, Kind, Status
from durable.memory.outbox import note_ends
from durable.memory.parents import tell_parents
from durable.memory.records import moved
from durable.memory.store import Transaction
from durable.storage import Note
from durable.stored_errors import cancelled
from durable.transitions import Event

__all__ = ["cancel", "cancel_record", "pick_up_cancelled", "redrive"]


def cancel(tx: Transaction, ids: Sequence[str], *, reason: str, note: Note | None) -> list[CancelResult]:
    before = {id_: tx.executions.get(id_) for id_ in ids}
    ending = {record.id: record for record in before.values() if record is not None and _is_cancellable(record)}
    # A parent that this call ends as well must not be woken by its child: it only counts, before it ends itself.
    own = Counter(record.parent_id for record in ending.values() if record.parent_id in ending)
    ended = [
        cancel_record(
            tx, record._replace(active_children_count=record.active_children_count - own[record.id]), reason=reason
        )
        for record in ending.values()
    ]
    tell_parents(tx, [record for record in ended if record.parent_id not in ending])
    note_ends(tx, note, ended)
    return [_result(id_, before[id_]) for id_ in ids]


def _is_cancellable(record: Execution) -> bool:
    return not record.is_finished and record.kind is not Kind.TURN


def _result(id_: str, before: Execution | None) -> CancelResult:
    return CancelResult(id_, before.status if before else None, before is not None and _is_cancellable(before))


def cancel_record(tx: Transaction, record: Execution, *, reason: str, error: str | None = None) -> Execution:
    """End one execution; its parent is not told yet. `error` None means the error that the reason gives."""
    return tx.put(moved(record, Event.CANCEL, tx.now, reason=reason, error=error or cancelled(reason)))


def pick_up_cancelled(tx: Transaction, *, executor_id: str, limit: int) -> list[str]:
    marked = [
        (record.finished_at or tx.now, record.id, record)
        for record in tx.executions.values()
        if record.needs_cancel and record.executor_id == executor_id
    ]
    return [tx.put(record._replace(needs_cancel=False)).id for _, _, record in sorted(marked)[:limit]]


def redrive(tx: Transaction, ids: Sequence[str]) -> list[str]:
    records = [tx.executions.get(id_) for id_ in dict.fromkeys(ids)]
    return [record.id for record in records if record is not None and _is_redriven(tx, record)]


def _is_redriven(tx: Transaction, record: Execution) -> bool:
    if record.parent_id is not None or record.kind is Kind.TURN:
        return False
    try:
        again = moved(record, Event.REDRIVE, tx.now)
    except TransitionRefused:
        return False
    assert again.status is Status.READY
    tx.put(again)
    return True
