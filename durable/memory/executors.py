"""What executors say of themselves, in memory."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from durable.memory.store import Transaction
from durable.storage import ExecutorRow

__all__ = ["announce", "executors", "withdraw"]

_FORGOTTEN_AFTER: Final = timedelta(hours=1)


def announce(tx: Transaction, row: ExecutorRow) -> None:
    for known in list(tx.executors.values()):
        if known.seen_at < tx.now - _FORGOTTEN_AFTER:
            tx.executors.remove(known.id)
    before = tx.executors.get(row.id)
    started_at = row.started_at if before is None else before.started_at
    tx.executors.put(row.id, row._replace(started_at=started_at, seen_at=tx.now))


def withdraw(tx: Transaction, executor_id: str) -> None:
    tx.executors.remove(executor_id)


def executors(tx: Transaction) -> list[ExecutorRow]:
    return sorted(tx.executors.values(), key=lambda row: (row.started_at, row.id))
