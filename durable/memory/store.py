"""The tables in memory, their one lock, and transactions that change all or nothing."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, NamedTuple, TypeVar

from durable.approval_rows import StoredApproval
from durable.execution import Execution
from durable.job import Job, JobKey
from durable.memory.follow import follow
from durable.memory.pool_counts import PoolCount, count_of
from durable.notice import Notice
from durable.pool_rows import PoolConfig
from durable.storage import ExecutorRow
from durable.timer import StoredTimer
from durable.workflow_rows import Entry, Message, Published, StoredChunk

__all__ = [
    "Bucket",
    "DeliveryRight",
    "EventStatus",
    "InboxEvent",
    "KeptApproval",
    "Overlay",
    "Store",
    "Transaction",
    "Turn",
    "Wakeup",
]

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class Wakeup(NamedTuple):
    """A wake-up that has not yet met its sleeping task."""

    output: str | None
    error: str | None
    created_at: datetime


class EventStatus(StrEnum):
    PENDING = "pending"
    TAKEN = "taken"
    CONSUMED = "consumed"
    """Kept for its id alone."""
    DEAD = "dead"


class InboxEvent(NamedTuple):
    """One event of a job. Consumed ones without an id are not kept."""

    epoch: int
    """The incarnation that accepted it; it may be one before the job's."""
    number: int
    event_id: str | None
    payload: str
    received_at: datetime
    expires_at: datetime
    status: EventStatus
    turn_id: str | None


class DeliveryRight(NamedTuple):
    """Who delivers to a subscriber just now, and from when on anybody may."""

    holder: str | None
    lease_expires_at: datetime
    due_at: datetime
    failure_count: int


class Bucket(NamedTuple):
    """What is left of a pool's rate, and as of when."""

    tokens: float
    at: datetime


class Turn(NamedTuple):
    """When a serial key was last served, and how often by then."""

    at: datetime
    served: int


class KeptApproval(NamedTuple):
    """An approval, with what is not shown of it. Its status is as stored, whatever time or an end has made of it."""

    key: str
    token_hash: str
    row: StoredApproval


class Overlay(Generic[K, V]):
    """A dict together with what one transaction changes in it; the dict itself changes at `commit` only."""

    def __init__(self, base: dict[K, V]) -> None:
        self._base = base
        self._changes: dict[K, V | None] = {}

    def get(self, key: K) -> V | None:
        return self._changes[key] if key in self._changes else self._base.get(key)

    def put(self, key: K, value: V) -> None:
        self._changes[key] = value

    def remove(self, key: K) -> None:
        self._changes[key] = None

    def items(self) -> Iterator[tuple[K, V]]:
        """In order of insertion. Collect them before changing anything."""
        for key, value in self._base.items():
            current = self._changes.get(key, value)
            if current is not None:
                yield key, current
        for key, added in self._changes.items():
            if added is not None and key not in self._base:
                yield key, added

    def values(self) -> Iterator[V]:
        """As items. A transaction that has changed nothing, as most that look at all records, has the dict itself."""
        return (value for _, value in self.items()) if self._changes else iter(self._base.values())

    def commit(self) -> None:
        for key, value in self._changes.items():
            if value is None:
                self._base.pop(key, None)
            else:
                self._base[key] = value


class Transaction:
    """What one verb sees and writes. `now` is read once: a verb knows one moment."""

    def __init__(self, store: Store) -> None:
        self.now = store.now()
        self.executions = Overlay(store.executions)
        self.keys = Overlay(store.keys)
        self.sleepers = Overlay(store.sleepers)
        self.wakeups = Overlay(store.wakeups)
        self.executors = Overlay(store.executors)
        self.jobs = Overlay(store.jobs)
        self.job_ids = Overlay(store.job_ids)
        self.inboxes = Overlay(store.inboxes)
        self.timers = Overlay(store.timers)
        self.notices = Overlay(store.notices)
        self.deliveries = Overlay(store.deliveries)
        self.pools = Overlay(store.pools)
        self.buckets = Overlay(store.buckets)
        self.turns = Overlay(store.turns)
        self.pool_counts = Overlay(store.pool_counts)
        self.pool_reports = Overlay(store.pool_reports)
        self._numbers = store.numbers
        self.history = Overlay(store.history)
        self.messages = Overlay(store.messages)
        self.published = Overlay(store.published)
        self.chunks = Overlay(store.chunks)
        self.approvals = Overlay(store.approvals)
        self.written: dict[str, bool] = {}
        """Ids of the records written, and whether each had finished before."""

    def put(self, record: Execution) -> Execution:
        before = self.executions.get(record.id)
        self.written.setdefault(record.id, before is not None and before.is_finished)
        count = count_of(before, record)
        if count is not None:
            self.put_count(count)
        self.executions.put(record.id, record)
        return record

    def put_count(self, count: PoolCount) -> None:
        self.pool_counts.put(next(self._numbers), count)

    def commit(self) -> None:
        tables: tuple[Overlay[Any, Any], ...] = (
            self.executions, self.keys, self.sleepers, self.wakeups, self.executors, self.pools, self.buckets,
            self.turns, self.pool_counts, self.pool_reports, self.jobs, self.job_ids, self.inboxes, self.timers,
            self.notices, self.deliveries, self.history, self.messages, self.published, self.chunks,
            self.approvals,
        )  # fmt: skip
        for table in tables:
            table.commit()


class Store:
    """What several handles share. One lock orders all transactions, from any thread and any event loop."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self.executions: dict[str, Execution] = {}
        self.keys: dict[tuple[str, str], str] = {}
        """(task name, idempotency key) → id."""
        self.sleepers: dict[tuple[str, str], str] = {}
        """(task name, sleeping id) → id."""
        self.wakeups: dict[tuple[str, str], Wakeup] = {}
        self.executors: dict[str, ExecutorRow] = {}
        self.jobs: dict[str, Job] = {}
        self.job_ids: dict[JobKey, str] = {}
        self.inboxes: dict[str, tuple[InboxEvent, ...]] = {}
        """Job id → its events, by incarnation and number."""
        self.timers: dict[str, StoredTimer] = {}
        self.notices: dict[tuple[str, str], Notice] = {}
        """(subscriber, event id) → notice."""
        self.deliveries: dict[str, DeliveryRight] = {}
        self.pools: dict[str, PoolConfig] = {}
        self.buckets: dict[str, Bucket] = {}
        self.turns: dict[tuple[str, str], Turn] = {}
        """(pool, serial key) → its last turn."""
        self.history: dict[str, tuple[Entry, ...]] = {}
        """Here and in the next three: the execution's id → its rows, in the order of their numbers."""
        self.messages: dict[str, tuple[Message, ...]] = {}
        self.published: dict[str, Mapping[str, Published]] = {}
        self.chunks: dict[str, tuple[StoredChunk, ...]] = {}
        self.numbers = itertools.count()
        self.pool_counts: dict[int, PoolCount] = {}
        """By numbers of no meaning."""
        self.pool_reports: dict[str, datetime] = {}
        """Pool → when it was last reported."""
        self.approvals: dict[str, tuple[KeptApproval, ...]] = {}
        """Execution id → the approvals it has asked for."""
        self._lock = threading.RLock()

    def run(self, work: Callable[[Transaction], T]) -> T:
        """The result of `work`, and its changes; an error leaves everything as it was."""
        with self._lock:
            transaction = Transaction(self)
            result = work(transaction)
            follow(transaction)
            transaction.commit()
            return result
