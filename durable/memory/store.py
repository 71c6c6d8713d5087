"""The tables in memory, their one lock, and transactions that change all or nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar

from durable.execution import Execution
from durable.memory.follow import follow
from durable.storage import ExecutorRow

__all__ = ["Overlay", "Store", "Transaction", "Wakeup"]

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class Wakeup(NamedTuple):
    """A wake-up that has not yet met its sleeping task."""

    output: str | None
    error: str | None
    created_at: datetime


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
        return (value for _, value in self.items())

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
        self.written: dict[str, bool] = {}
        """Ids of the records written, and whether each had finished before."""

    def put(self, record: Execution) -> Execution:
        if record.id not in self.written:
            before = self.executions.get(record.id)
            self.written[record.id] = before is not None and before.is_finished
        self.executions.put(record.id, record)
        return record

    def commit(self) -> None:
        for table in (self.executions, self.keys, self.sleepers, self.wakeups, self.executors):
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
        self._lock = threading.RLock()

    def run(self, work: Callable[[Transaction], T]) -> T:
        """The result of `work`, and its changes; an error leaves everything as it was."""
        with self._lock:
            transaction = Transaction(self)
            result = work(transaction)
            follow(transaction)
            transaction.commit()
            return result
