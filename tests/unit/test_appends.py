"""Events of one process that meet go out together, in the order of their calls, and each caller gets its own answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from durable import Durable
from durable.job import Appended, JobKey, JobKind, NewEvent
from durable.jobs import EventContext, Task
from durable.memory import MemoryStorage
from durable.memory.operation import MemoryOperation
from durable.memory.store import Store


class Counting(MemoryStorage):
    """Counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__(store=Store(lambda: datetime.now(UTC)))
        self.asked: Counter[str] = Counter()

    def append_events(self, events: Sequence[NewEvent]) -> MemoryOperation[list[Appended]]:
        self.asked["append_events"] += 1
        return super().append_events(events)

    def append_free_events(self, events: Sequence[NewEvent]) -> MemoryOperation[list[Appended | None]]:
        self.asked["append_free_events"] += 1
        return super().append_free_events(events)


@pytest.fixture
def storage() -> Counting:
    return Counting()


@pytest.fixture
def app(storage: Counting) -> Durable:
    return Durable(storage=storage)


@pytest.fixture
def order(app: Durable) -> Task[int, int]:
    job = app.task_job("order", state=int, event=int)

    @job.on_event
    async def on_event(ctx: EventContext[int, int], event: int) -> None: ...

    return job


async def numbers(storage: Counting, key: str) -> list[int]:
    return [int(event.payload) for event in await storage.pending_events(JobKey(JobKind.TASK, "order", key))]


async def test_a_lone_event_takes_one_statement_also_for_a_new_key(
    app: Durable, order: Task[int, int], storage: Counting
) -> None:
    async with app:
        await order.send("new", 1)
        await order.send("new", 2)
    assert storage.asked == {"append_events": 2}


async def test_events_for_many_jobs_that_meet_take_two_statements(
    app: Durable, order: Task[int, int], storage: Counting
) -> None:
    keys = [str(number) for number in range(50)]
    async with app:
        for key in keys:
            await order.send(key, 0)
        storage.asked.clear()
        await asyncio.gather(*(order.send(key, 1) for key in keys))
        assert storage.asked == {"append_events": 1, "append_free_events": 1}
        assert [await numbers(storage, key) for key in keys] == [[0, 1]] * 50


async def test_events_for_one_job_that_meet_keep_their_order(
    app: Durable, order: Task[int, int], storage: Counting
) -> None:
    async with app:
        results = await asyncio.gather(*(order.send("one", number) for number in range(50)))
        assert [result.created for result in results] == [True, *([False] * 49)]
        assert await numbers(storage, "one") == list(range(50))
        assert storage.asked.total() <= 2


async def test_first_events_of_many_keys_make_their_jobs(
    app: Durable, order: Task[int, int], storage: Counting
) -> None:
    async with app:
        results = await asyncio.gather(*(order.send(f"{number % 10}", number) for number in range(50)))
        assert sum(result.created for result in results) == 10
        for key in range(10):
            assert await numbers(storage, f"{key}") == list(range(key, 50, 10))
