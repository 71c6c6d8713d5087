"""Group commit: a lone item at once, what comes meanwhile together, and nobody is left waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from durable.errors import NotOpen, StorageUnavailable
from durable.group_commit import GroupCommit


class Store:
    """Writes when it is told to; an item below zero fails, and so does all that is written with it."""

    def __init__(self, *, most: int = 1000, gathers: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.door = asyncio.Event()
        self.error: Exception | None = None
        self.group = GroupCommit(self._write, most=most, gathers=gathers)

    async def _write(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await self.door.wait()
        if self.error is not None:
            raise self.error
        if min(items) < 0:
            raise ValueError(min(items))
        return [item * 10 for item in items]

    def submit(self, *items: int) -> list[asyncio.Task[int]]:
        return [asyncio.create_task(self.group.submit(item)) for item in items]


async def ready() -> None:
    """Until all that is ready to run has run: five rounds of the event loop are more than any chain here takes."""
    loop = asyncio.get_running_loop()
    for _ in range(5):
        turn = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn


async def test_a_lone_item_is_written_at_once_and_what_comes_meanwhile_together() -> None:
    store = Store()
    tasks = store.submit(1, 2, 3)
    await ready()
    assert store.batches == [[1]]
    store.door.set()
    assert await asyncio.gather(*tasks) == [10, 20, 30]
    assert store.batches == [[1], [2, 3]]
    assert await store.group.submit(4) == 40


async def test_where_items_come_many_at_a_time_the_first_goes_with_them() -> None:
    store = Store(gathers=True)
    store.door.set()
    assert await asyncio.gather(*store.submit(1, 2, 3)) == [10, 20, 30]
    assert store.batches == [[1, 2, 3]]


async def test_a_batch_has_its_limit() -> None:
    store = Store(most=2)
    tasks = store.submit(1, 2, 3, 4)
    await ready()
    store.door.set()
    await asyncio.gather(*tasks)
    assert store.batches == [[1], [2, 3], [4]]


@pytest.mark.parametrize("items", [(-1, 2, 3), (1, -2, 3)], ids=["alone", "in a batch"])
async def test_a_bad_item_fails_alone(items: tuple[int, ...]) -> None:
    store = Store()
    tasks = store.submit(*items)
    await ready()
    store.door.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, ValueError) for result in results] == [item < 0 for item in items]


async def test_a_storage_that_is_away_fails_all_without_a_try_for_each() -> None:
    store = Store()
    store.error = StorageUnavailable("away")
    tasks = store.submit(1, 2, 3)
    await ready()
    store.door.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [StorageUnavailable] * 3
    assert store.batches == [[1], [2, 3]]


@pytest.mark.parametrize("gone", [0, 1], ids=["who writes", "who waits"])
async def test_a_caller_that_goes_away_keeps_nobody_from_going_on(gone: int) -> None:
    store = Store()
    tasks = store.submit(1, 2, 3)
    await ready()
    tasks[gone].cancel()
    await ready()
    store.door.set()
    left = [task for task in tasks if task is not tasks[gone]]
    assert await asyncio.gather(*left) == [10 * (n + 1) for n in range(3) if n != gone]
    assert tasks[gone].cancelled()


@pytest.mark.parametrize("count", [1, 3], ids=["alone", "with others"])
@pytest.mark.parametrize("gathers", [False, True])
async def test_closing_waits_for_what_was_accepted_and_refuses_the_rest(count: int, gathers: bool) -> None:
    store = Store(gathers=gathers)
    tasks = store.submit(*range(1, count + 1))
    await ready()
    closing = asyncio.create_task(store.group.close())
    await ready()
    assert not closing.done()
    with pytest.raises(NotOpen):
        await store.group.submit(9)
    store.door.set()
    await closing
    assert [task.result() for task in tasks] == [10 * n for n in range(1, count + 1)]
    await store.group.close()


class Rounds:
    """Senders that come again as soon as they are told, as workflows do with their steps."""

    def __init__(self, *, halves: bool) -> None:
        self.batches: list[int] = []
        self.doors: list[asyncio.Event] = []
        self.group = GroupCommit(self._write, gathers=True, halves=halves)

    async def _write(self, items: Sequence[int]) -> list[int]:
        self.batches.append(len(items))
        self.doors.append(asyncio.Event())
        await self.doors[-1].wait()
        return list(items)

    async def send(self, count: int) -> None:
        for number in range(count):
            await self.group.submit(number)

    async def write(self, batches: int) -> list[int]:
        """Let so many writes come to an end, one after the other; gives the sizes of those that have begun."""
        for _ in range(batches):
            await ready()
            self.doors[-1].set()
        await ready()
        return self.batches


async def test_where_senders_come_again_one_half_is_written_while_the_other_is_computed() -> None:
    rounds = Rounds(halves=True)
    senders = [asyncio.create_task(rounds.send(3)) for _ in range(100)]
    assert await rounds.write(6) == [32, 68, 32, 68, 32, 68]
    await asyncio.gather(*senders)


async def test_elsewhere_all_that_is_ready_goes_out_together() -> None:
    rounds = Rounds(halves=False)
    senders = [asyncio.create_task(rounds.send(3)) for _ in range(100)]
    assert await rounds.write(3) == [100, 100, 100]
    await asyncio.gather(*senders)


async def test_a_loop_that_ends_leaves_nobody_waiting() -> None:
    store = Store(gathers=True)
    tasks = store.submit(1, 2)
    await ready()
    tasks += store.submit(3, 4)
    await ready()
    (flusher,) = [task for task in asyncio.all_tasks() if task.get_name() == "durable-group-commit"]
    flusher.cancel()
    await ready()
    assert [task.cancelled() for task in tasks] == [True] * 4
    assert store.batches == [[1, 2]]


@pytest.mark.parametrize("count", [1, 3], ids=["alone", "with others"])
async def test_what_is_cancelled_is_written_no_more_and_its_callers_are_told(count: int) -> None:
    store = Store(gathers=True, most=1)
    tasks = store.submit(*range(1, count + 1))
    await ready()
    await store.group.cancel()
    assert all(
        isinstance(each, asyncio.CancelledError) for each in await asyncio.gather(*tasks, return_exceptions=True)
    )
    assert store.batches == [[1]]
    with pytest.raises(NotOpen):
        await store.group.submit(9)
    await store.group.cancel()
