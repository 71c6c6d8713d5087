"""Claim, renew and heartbeat in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import islice, takewhile

from durable.execution import (
    NOT_ASKED,
    PRIORITIES,
    RECORD_VERSION,
    UNSTARTED,
    Claimed,
    Execution,
    Kind,
    QueueLevel,
    Status,
)
from durable.memory.records import moved
from durable.memory.store import Transaction
from durable.transitions import Event

__all__ = [
    "claim",
    "claim_callback",
    "count_starts",
    "due_records",
    "heartbeat",
    "held_record",
    "is_known",
    "leased",
    "renew",
    "take",
]


def claim(
    tx: Transaction, *, executor_id: str, queues: Sequence[str], task_names: Sequence[str], limit: int, lease: float,
    after: Mapping[QueueLevel, str] | None = None,
) -> list[Claimed]:  # fmt: skip
    due = (
        record
        for priority in reversed(PRIORITIES)
        for queue in dict.fromkeys(queues)
        for record in due_records(tx, (queue, False, False, priority), task_names)
        if _is_behind(record, tx.executions.get((after or {}).get((queue, priority), "")))
    )
    return take(tx, list(islice(due, max(limit, 0))), executor_id=executor_id, lease=lease)


def _is_behind(record: Execution, other: Execution | None) -> bool:
    return other is None or (record.due_at, record.id) > (other.due_at, other.id)


def due_records(
    tx: Transaction, group: tuple[str, bool, bool, int], task_names: Sequence[str] | None
) -> Iterator[Execution]:
    """What is due of a group of the index `ready`, longest due first, and may be started; names None: and all else."""
    due = takewhile(lambda record: record.due_at <= tx.now, tx.executions.find("ready", group))
    return due if task_names is None else (record for record in due if is_known(record, task_names))


def is_known(record: Execution, task_names: Sequence[str]) -> bool:
    return record.task_name in task_names and record.record_version <= RECORD_VERSION


def take(tx: Transaction, records: Sequence[Execution], *, executor_id: str, lease: float) -> list[Claimed]:
    """Set these running, for the claims of queues and of pools alike."""
    lease_expires_at = tx.now + timedelta(seconds=lease)
    claimed = [
        tx.put(moved(record, Event.CLAIM, tx.now, executor_id=executor_id, lease_expires_at=lease_expires_at))
        for record in records
    ]
    claimed.sort(key=lambda record: (-record.priority, record.due_at, record.id))
    return [_as_claimed(tx, record) for record in claimed]


def claim_callback(tx: Transaction, execution_id: str, *, executor_id: str, lease: float) -> Claimed | None:
    record = tx.executions.get(execution_id)
    if (
        record is None
        or record.kind is not Kind.CALLBACK
        or record.is_pooled
        or record.status is not Status.READY
        or record.due_at > tx.now
    ):
        return None
    lease_expires_at = tx.now + timedelta(seconds=lease)
    taken = moved(record, Event.CLAIM, tx.now, executor_id=executor_id, lease_expires_at=lease_expires_at)
    # It is started by the transaction that claims it, or never.
    return _as_claimed(tx, tx.put(moved(taken, Event.COUNT_START, tx.now)))


def _as_claimed(tx: Transaction, record: Execution) -> Claimed:
    shared = {name: getattr(record, name) for name in Claimed._fields if name not in ("age", "is_suspect")}
    if record.kind is not Kind.WORKFLOW:
        shared["created_at"] = NOT_ASKED
    age = (tx.now - record.created_at).total_seconds()
    return Claimed(**shared, age=age, is_suspect=record.reason == UNSTARTED)


def count_starts(tx: Transaction, held: Sequence[tuple[str, int]]) -> frozenset[str]:
    records = [held_record(tx, id_, fence) for id_, fence in held]
    return frozenset(tx.put(moved(record, Event.COUNT_START, tx.now)).id for record in records if record is not None)


def held_record(tx: Transaction, id_: str, fence: int) -> Execution | None:
    """The running execution that is still held under the fence; None when the right to write it is gone."""
    record = tx.executions.get(id_)
    return record if record is not None and record.status is Status.RUNNING and record.fence == fence else None


def renew(tx: Transaction, held: Sequence[tuple[str, int]], *, lease: float) -> frozenset[str]:
    records = [held_record(tx, id_, fence) for id_, fence in held]
    lease_expires_at = tx.now + timedelta(seconds=lease)
    return frozenset(
        tx.put(record._replace(lease_expires_at=lease_expires_at)).id for record in records if record is not None
    )


def leased(tx: Transaction, held: Sequence[tuple[str, int]]) -> frozenset[str]:
    return frozenset(id_ for id_, fence in held if held_record(tx, id_, fence) is not None)


def heartbeat(tx: Transaction, beats: Sequence[tuple[str, int, str]]) -> frozenset[str]:
    records = [(held_record(tx, id_, fence), details) for id_, fence, details in beats]
    return frozenset(
        tx.put(record._replace(progress=details, updated_at=tx.now)).id
        for record, details in records
        if record is not None
    )
