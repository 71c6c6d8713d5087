"""Cancel, its pick-up by the executor, and redrive, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from durable.errors import TransitionRefused
from durable.execution import CancelResult, Execution, Kind, Status
from durable.memory.outbox import note_ends
from durable.memory.parents import tell_parents
from durable.memory.records import moved
from durable.memory.store import Transaction
from durable.storage import Note
from durable.stored_errors import cancelled
from durable.transitions import Event

__all__ = ["cancel", "cancel_all", "cancel_record", "pick_up_cancelled", "redrive"]


def cancel(
    tx: Transaction, ids: Sequence[str], *, reason: str, may_finish: bool, note: Note | None
) -> list[CancelResult]:
    before = {id_: tx.executions.get(id_) for id_ in ids}
    open_ones = [record for record in before.values() if record is not None and _is_cancellable(record)]
    spared = {record.id for record in open_ones if may_finish and record.status is Status.RUNNING}
    ending = {record.id: record for record in open_ones if record.id not in spared}
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
    asked = {id_ for id_ in spared if _is_asked(tx, id_, cancelled(reason))}
    return [_result(id_, before[id_], id_ in ending, id_ in asked) for id_ in ids]


def _is_cancellable(record: Execution) -> bool:
    """Turns end with their jobs, and by nobody else."""
    return not record.is_finished and record.kind is not Kind.TURN


def _is_asked(tx: Transaction, id_: str, error: str) -> bool:
    """Ask a running execution to end after its attempt; False where that was asked before."""
    record = tx.executions.get(id_)
    if record is None or record.cancel_requested is not None:
        return False
    tx.put(record._replace(cancel_requested=error, updated_at=tx.now))
    return True


def cancel_all(
    tx: Transaction,
    *,
    before: datetime,
    queue: str | None,
    task_name: str | None,
    limit: int,
    reason: str,
    may_finish: bool,
    note: Note | None,
) -> list[CancelResult]:
    ids = [
        record.id
        for record in tx.executions.values()
        if _is_cancellable(record)
        and record.created_at < before
        and (queue is None or record.queue == queue)
        and (task_name is None or record.task_name == task_name)
        and not (may_finish and record.status is Status.RUNNING and record.cancel_requested is not None)
    ]
    return cancel(tx, ids[: max(limit, 0)], reason=reason, may_finish=may_finish, note=note)


def _result(id_: str, before: Execution | None, is_cancelled: bool, is_asked: bool) -> CancelResult:
    is_turn = before is not None and before.kind is Kind.TURN
    return CancelResult(id_, before.status if before else None, is_cancelled, is_asked, is_turn)


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
        again = moved(record, Event.REDRIVE, tx.now, cancel_requested=None)
    except TransitionRefused:
        return False
    assert again.status is Status.READY
    tx.put(again)
    return True
