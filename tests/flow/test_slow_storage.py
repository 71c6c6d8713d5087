"""A storage that is slow to take ends slows the claims down, and they go on when it has taken them."""

import asyncio
from collections.abc import Awaitable, Generator, Sequence
from datetime import UTC, datetime
from typing import Any

from durable import Durable
from durable.errors import RowsHeld
from durable.execution import Settled, Settlement
from durable.memory import MemoryStorage
from durable.memory.operation import MemoryOperation
from durable.memory.store import Store

from .place import PATIENCE, running, until

COUNT = 6_000


class _Gated(MemoryOperation[Settled]):
    """An operation that begins when the gate is open."""

    def __init__(self, operation: MemoryOperation[Settled], gate: asyncio.Event) -> None:
        self._operation = operation
        self._gate = gate

    def __await__(self) -> Generator[Any, None, Settled]:
        return self._when_open().__await__()

    async def _when_open(self) -> Settled:
        await self._gate.wait()
        inner: Awaitable[Settled] = self._operation
        return await inner


class _HeldStorage(MemoryStorage):
    """Somebody's open transaction holds what is named here."""

    held: frozenset[str] = frozenset()

    def settle(self, settlements: Sequence[Settlement], **options: Any) -> MemoryOperation[Settled]:
        if self.held.isdisjoint(item.id for item in settlements):
            return super().settle(settlements, **options)

        def refuse(_: Any) -> Settled:
            raise RowsHeld("held")

        return self._do(refuse)

    def held_rows(self, ids: Sequence[str]) -> MemoryOperation[frozenset[str]]:
        return self._do(lambda _: self.held.intersection(ids))


class _SlowStorage(MemoryStorage):
    gate: asyncio.Event

    def settle(self, settlements: Sequence[Settlement], **options: Any) -> MemoryOperation[Settled]:
        return _Gated(super().settle(settlements, **options), self.gate)


async def test_claims_stop_while_ends_pile_up_and_go_on_when_they_are_written() -> None:
    storage = _SlowStorage(store=Store(lambda: datetime.now(UTC)))
    storage.gate = asyncio.Event()
    app = Durable(storage=storage)
    started = 0

    @app.task
    async def quick(number: int) -> int:
        nonlocal started
        started += 1
        return number

    async with running(app, concurrency=10) as executor:
        handles = await quick.enqueue_many(range(COUNT))
        await until(app, handles[0].execution_id, lambda _: started >= 4_000 and executor.running == 0)
        assert started < COUNT
        storage.gate.set()
        done, _ = await app.wait(handles, timeout=PATIENCE)
        assert len(done) == COUNT


async def test_ends_that_wait_for_an_open_transaction_do_not_stop_the_claims() -> None:
    storage = _HeldStorage(store=Store(lambda: datetime.now(UTC)))
    app = Durable(storage=storage)

    @app.task
    async def quick(number: int) -> int:
        return number

    async with app:
        handles = await quick.enqueue_many(range(COUNT))
        storage.held = frozenset(handle.execution_id for handle in handles)
        async with app.executor(poll_interval="50ms", concurrency=10):
            assert await (await quick.enqueue(7)).result(PATIENCE) == 7
            storage.held = frozenset()
            done, _ = await app.wait(handles, timeout=PATIENCE)
            assert len(done) == COUNT
