"""What can be read in memory: records, ends, pages and counts. Records are immutable, so they are given as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from durable.execution import Execution, FinishedExecution, Status
from durable.memory.store import Transaction
from durable.storage import ExecutionFilter

__all__ = ["counts", "existing", "finished", "get", "get_sleeping", "now", "search"]


def now(tx: Transaction) -> datetime:
    return tx.now


def get(tx: Transaction, ids: Sequence[str]) -> list[Execution | None]:
    return [tx.executions.get(id_) for id_ in ids]


def get_sleeping(tx: Transaction, task_name: str, sleeping_id: str) -> Execution | None:
    id_ = tx.sleepers.get((task_name, sleeping_id))
    return tx.executions.get(id_) if id_ is not None else None


def finished(tx: Transaction, ids: Sequence[str]) -> list[FinishedExecution]:
    found = [tx.executions.get(id_) for id_ in dict.fromkeys(ids)]
    return [
        FinishedExecution(record.id, record.status, record.output, record.error)
        for record in found
        if record is not None and record.is_finished
    ]


def existing(tx: Transaction, ids: Sequence[str]) -> frozenset[str]:
    return frozenset(id_ for id_ in ids if tx.executions.get(id_) is not None)


def search(tx: Transaction, where: ExecutionFilter, *, limit: int, before: str | None) -> list[Execution]:
    found = [
        record
        for record in tx.executions.values()
        if _matches(record, where) and (before is None or record.id < before)
    ]
    return sorted(found, key=lambda record: record.id, reverse=True)[: max(limit, 0)]


def _matches(record: Execution, where: ExecutionFilter) -> bool:
    return (
        (where.statuses is None or record.status in where.statuses)
        and (where.task_name is None or record.task_name == where.task_name)
        and (where.queue is None or record.queue == where.queue)
        and (where.root_id is None or record.root_id == where.root_id)
        and (where.parent_id is None or record.parent_id == where.parent_id)
        and (not where.roots_only or record.parent_id is None)
    )


def counts(tx: Transaction) -> Mapping[tuple[str, Status], int]:
    return Counter((record.queue, record.status) for record in tx.executions.values() if not record.is_finished)
