"""The tables in memory, their one lock, and transactions that change all or nothing."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from durable.execution import Execution
from durable.job import Job, JobKey
from durable.memory.follow import follow
from durable.memory.overlay import Overlay
from durable.memory.pool_counts import PoolCount, count_of
from durable.memory.rows import DeliveryRight, EventStatus, InboxEvent, KeptApproval, Starts, Turn, Wakeup
from durable.memory.tables import event_table, execution_table, timer_table
from durable.notice import Notice
from durable.pool_rows import PoolConfig
from durable.storage import ExecutorRow
from durable.workflow_rows import Entry, Message, Published, StoredChunk

__all__ = [
    "DeliveryRight",
    "EventStatus",
    "InboxEvent",
    "KeptApproval",
    "Overlay",
    "Starts",
    "Store",
    "Transaction",
    "Turn",
    "Wakeup",
]

T = TypeVar("T")


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
        self.events = Overlay(store.events)
        self.timers = Overlay(store.timers)
        self.notices = Overlay(store.notices)
        self.deliveries = Overlay(store.deliveries)
        self.pools = Overlay(store.pools)
        self.starts = Overlay(store.starts)
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
            self.executions, self.keys, self.sleepers, self.wakeups, self.executors, self.pools, self.starts,
            self.turns, self.pool_counts, self.pool_reports, self.jobs, self.job_ids, self.events, self.timers,
            self.notices, self.deliveries, self.history, self.messages, self.published, self.chunks,
            self.approvals,
        )  # fmt: skip
        for table in tables:
            table.commit()


class Store:
    """What several handles share. One lock orders all transactions, from any thread and any event loop."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self.executions = execution_table()
        self.keys: dict[tuple[str, str], str] = {}
        """(task name, idempotency key) → id."""
        self.sleepers: dict[tuple[str, str], str] = {}
        """(task name, sleeping id) → id."""
        self.wakeups: dict[tuple[str, str], Wakeup] = {}
        self.executors: dict[str, ExecutorRow] = {}
        self.jobs: dict[str, Job] = {}
        self.job_ids: dict[JobKey, str] = {}
        self.events = event_table()
        self.timers = timer_table()
        self.notices: dict[tuple[str, str], Notice] = {}
        """(subscriber, event id) → notice."""
        self.deliveries: dict[str, DeliveryRight] = {}
        self.pools: dict[str, PoolConfig] = {}
        self.starts: dict[str, tuple[Starts, ...]] = {}
        """Pool → what has started under its rate and may still count, the later ones last."""
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
