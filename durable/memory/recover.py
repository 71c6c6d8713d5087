"""Recover in memory: what executors let go by letting their leases run out, and when the next thing is due."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from durable.execution import RECORD_VERSION, CloseStatus, Execution, Recovered, Status
from durable.memory.follow import end_requested
from durable.memory.jobs_look import has_late_events
from durable.memory.outbox import note_ends, put_off_moments
from durable.memory.parents import tell_parents
from durable.memory.pool_reports import reports_are_due
from durable.memory.pools import token_moment
from durable.memory.records import moved, state_of
from durable.memory.store import Transaction
from durable.storage import Duties, Note
from durable.stored_errors import LOST, POISONED
from durable.transitions import Event, apply

__all__ = ["duties", "next_due", "recover"]


def duties(tx: Transaction) -> Duties:
    records = list(tx.executions.find("open", True))
    return Duties(
        recover=any(record.status is Status.RUNNING and _is_over(record.lease_expires_at, tx) for record in records),
        expire_waits=any(
            record.status is Status.WAITING and _is_over(record.wait_expires_at, tx) for record in records
        ),
        apply_wakeups=any(True for _ in tx.wakeups.values()),
        close=any(record.close_status is CloseStatus.READY for record in records),
        recover_closes=any(
            record.close_status is CloseStatus.CLOSING and _is_over(record.close_lease_expires_at, tx)
            for record in records
        ),
        forget_events=has_late_events(tx),
        report_pools=reports_are_due(tx),
    )


def _is_over(deadline: datetime | None, tx: Transaction) -> bool:
    return deadline is not None and deadline <= tx.now


def next_due(tx: Transaction, *, queues: Sequence[str], task_names: Sequence[str]) -> datetime | None:
    """Records of another table that wait for a moment add theirs here."""
    known_queues, known_names = frozenset(queues), frozenset(task_names)
    moments = [_moment(record, known_queues, known_names, tx.now) for record in tx.executions.find("open", True)]
    moments += [token_moment(tx, name) for name in queues]
    moments += put_off_moments(tx)
    return min((moment for moment in moments if moment is not None), default=None)


def _moment(record: Execution, queues: Collection[str], task_names: Collection[str], now: datetime) -> datetime | None:
    """When time alone makes something of a record; a status and a close status never wait at once.

    What is due in a pool and was not claimed waits for a place there, not for time.
    """
    match record.status:
        case Status.READY if record.is_pooled and record.due_at <= now:
            return None
        case Status.READY:
            is_known = record.queue in queues and record.task_name in task_names
            return record.due_at if is_known and record.record_version <= RECORD_VERSION else None
        case Status.RUNNING:
            return record.lease_expires_at
        case Status.WAITING:
            return record.wait_expires_at
        case _ if record.close_status is CloseStatus.READY:
            return record.finished_at
        case _ if record.close_status is CloseStatus.CLOSING:
            return record.close_lease_expires_at
        case _:
            return None


def recover(tx: Transaction, *, limit: int, note: Note | None) -> list[Recovered]:
    late = [
        (record.lease_expires_at, record.id, record)
        for record in tx.executions.find("open", True)
        if record.status is Status.RUNNING and record.lease_expires_at is not None and record.lease_expires_at <= tx.now
    ]
    found = [record for _, _, record in sorted(late)[:limit]]
    # A parent of which a child ends by this call is left for the next one: a database writes a row once.
    told = {record.parent_id for record in found if _is_poisoned(record)}
    taken = [tx.put(_taken(tx, record)) for record in found if record.id not in told]
    tell_parents(tx, [record for record in taken if record.is_finished])
    cancelled = {record.id: record for record in end_requested(tx)}
    taken = [cancelled.get(record.id, record) for record in taken]
    note_ends(tx, note, taken)
    return [Recovered(record.id, record.task_name, record.status, record.queue, record.executor_id) for record in taken]


def _taken(tx: Transaction, record: Execution) -> Execution:
    return moved(record, Event.EXPIRE_LEASE, tx.now, error=POISONED if _is_poisoned(record) else LOST)


def _is_poisoned(record: Execution) -> bool:
    return apply(state_of(record), Event.EXPIRE_LEASE).status is not Status.READY
