"""What the contract needs of the storage in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any

import pytest

pytest.register_assert_rewrite("durable.testing.contract")

from durable.memory import MemoryStorage  # noqa: E402 - the rewrite must be registered before the import
from durable.memory.store import Store  # noqa: E402
from durable.storage import Storage  # noqa: E402
from durable.testing import VirtualClock  # noqa: E402
from durable.testing.contract import ContractSubject, Held  # noqa: E402


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
    async def hold(self, ids: Sequence[str]) -> AsyncIterator[Held]:
        assert set(ids) <= set(self._store.executions)
        yield _NothingHeld()

    @asynccontextmanager
    async def rolled_back(self) -> AsyncIterator[None]:
        yield

    @contextmanager
    def rolled_back_blocking(self) -> Iterator[None]:
        yield

    async def tamper(self, execution_id: str, **columns: Any) -> None:
        record = self._store.executions[execution_id]
        self._store.executions[execution_id] = record._replace(**columns)


class _NothingHeld:
    async def contended(self) -> None:
        """Nobody can wait here."""


@pytest.fixture
def memory_subject() -> ContractSubject:
    return MemorySubject()
