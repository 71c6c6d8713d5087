"""What the contract needs of the storage in memory: three handles on one store, and its clock."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any

from durable.memory import MemoryStorage
from durable.memory.store import Store
from durable.storage import Storage
from durable.testing import VirtualClock
from durable.testing.contract.subject import Held

__all__ = ["MemorySubject"]


class MemorySubject:
    """Three handles on one store with a clock that stands still. One lock orders everything, so nothing is held."""

    has_row_locks = False
    has_transactions = False

    def __init__(self) -> None:
        self._clock = VirtualClock()
        self._store = Store(self._clock.now)
        self.handles: Sequence[Storage] = [MemoryStorage(store=self._store) for _ in range(3)]

    async def advance(self, seconds: float) -> None:
        self._clock.advance(seconds)

    async def now(self) -> datetime:
        return self._clock.now()

    @asynccontextmanager
    async def hold(self, ids: Sequence[str]) -> AsyncGenerator[Held]:
        assert set(ids) <= set(self._store.executions)
        yield _NothingHeld()

    @asynccontextmanager
    async def rolled_back(self) -> AsyncGenerator[None]:
        yield

    @contextmanager
    def rolled_back_blocking(self) -> Generator[None]:
        yield

    async def tamper(self, execution_id: str, **columns: Any) -> None:
        record = self._store.executions[execution_id]
        self._store.executions[execution_id] = record._replace(**columns)


class _NothingHeld:
    async def contended(self) -> None:
        """Nobody can wait here."""
