"""Recover in memory: what executors let go by letting their leases run out."""

from __future__ import annotations

from durable.execution import Execution, Recovered, Status
from durable.memory.parents import tell_parents
from durable.memory.records import moved, state_of
from durable.memory.store import Transaction
from durable.stored_errors import LOST, POISONED
from durable.transitions import Event, apply

__all__ = ["recover"]


def recover(tx: Transaction, *, limit: int) -> list[Recovered]:
    late = [
        (record.lease_expires_at, record.id, record)
        for record in tx.executions.values()
        if record.status is Status.RUNNING and record.lease_expires_at is not None and record.lease_expires_at <= tx.now
    ]
    taken = [tx.put(_taken(tx, record)) for _, _, record in sorted(late)[:limit]]
    tell_parents(tx, [record for record in taken if record.is_finished])
    return [Recovered(record.id, record.status, record.queue, record.executor_id) for record in taken]


def _taken(tx: Transaction, record: Execution) -> Execution:
    is_poisoned = apply(state_of(record), Event.EXPIRE_LEASE).status is not Status.READY
    return moved(record, Event.EXPIRE_LEASE, tx.now, error=POISONED if is_poisoned else LOST)
