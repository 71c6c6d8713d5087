"""Enqueue in memory: new records, and what stands in the way of a row that was not stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from durable.errors import IdempotencyConflict, SleepingIdConflict, StorageError
from durable.execution import Claimed, Enqueued, Execution, NewExecution, Status
from durable.memory.claim import take
from durable.memory.records import first_record
from durable.memory.store import Transaction
from durable.memory.wake import meet_rows
from durable.storage import Note

__all__ = ["claimable_queues", "enqueue", "enqueue_started", "existing_for", "insert_child", "store_row"]


def enqueue(
    tx: Transaction, rows: Sequence[NewExecution], *, all_or_nothing: bool, note: Note | None
) -> list[Enqueued]:
    draft: list[NewExecution] = []
    results: list[Enqueued] = []
    for row in rows:
        found = existing_for(tx, row)
        if found is None:
            store_row(tx, row)
            draft.append(row)
        results.append(found or Enqueued(row.id, True, False))
    if all_or_nothing and any(result.is_conflict for result in results):
        for row in draft:
            _take_back(tx, row)
        return [result._replace(is_new=False) for result in results]
    meet_rows(tx, draft, note)
    return results


def enqueue_started(tx: Transaction, row: NewExecution, *, executor_id: str, lease: float) -> Claimed:
    if tx.executions.get(row.id) is not None:
        raise StorageError(f"execution {row.id} is stored already")
    (claimed,) = take(tx, [store_row(tx, row)], executor_id=executor_id, lease=lease)
    return claimed


def existing_for(tx: Transaction, row: NewExecution) -> Enqueued | None:
    """What is there under the row's id, its idempotency key or its sleeping id, looked at in this order."""
    if tx.executions.get(row.id) is not None:
        return Enqueued(row.id, True, False)
    if row.idempotency_key is not None:
        holder = tx.keys.get((row.task_name, row.idempotency_key))
        record = tx.executions.get(holder) if holder else None
        if record is not None:
            return Enqueued(record.id, False, record.idempotency_hash != row.idempotency_hash)
    if row.sleeping_id is not None:
        holder = tx.sleepers.get((row.task_name, row.sleeping_id))
        if holder is not None:
            return Enqueued(holder, False, True)
    return None


def store_row(tx: Transaction, row: NewExecution) -> Execution:
    record = tx.put(first_record(row, tx.now))
    if row.idempotency_key is not None:
        tx.keys.put((row.task_name, row.idempotency_key), row.id)
    if row.sleeping_id is not None:
        tx.sleepers.put((row.task_name, row.sleeping_id), row.id)
    return record


def insert_child(tx: Transaction, child: NewExecution) -> None:
    """A child is the parent's own: it is never another execution that happens to have its id or key."""
    if tx.executions.get(child.id) is not None:
        raise StorageError(f"a child was given the id of a stored execution: {child.id}; nothing was written")
    if child.idempotency_key is not None:
        holder = tx.keys.get((child.task_name, child.idempotency_key))
        if holder is not None:
            raise IdempotencyConflict(child.task_name, child.idempotency_key, holder)
    if child.sleeping_id is not None and tx.sleepers.get((child.task_name, child.sleeping_id)) is not None:
        raise SleepingIdConflict(child.task_name, child.sleeping_id)
    store_row(tx, child)


def claimable_queues(tx: Transaction, ids: Iterable[str]) -> set[str]:
    """The queues of those among ids that are ready and due."""
    records = [tx.executions.get(id_) for id_ in ids]
    return {
        record.queue
        for record in records
        if record is not None and record.status is Status.READY and record.due_at <= tx.now
    }


def _take_back(tx: Transaction, row: NewExecution) -> None:
    tx.executions.remove(row.id)
    if row.idempotency_key is not None:
        tx.keys.remove((row.task_name, row.idempotency_key))
    if row.sleeping_id is not None:
        tx.sleepers.remove((row.task_name, row.sleeping_id))
