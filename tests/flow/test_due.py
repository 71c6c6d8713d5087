"""What comes due is started when it does: with a poll interval of ten minutes, none of this can wait for a poll."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from durable import ChildResult, Durable, Retry, Spawn, constant, every
from durable.jobs import ContinuousContext, DebounceContext

from .place import PATIENCE, Place, running, soon

FAR: dict[str, Any] = {"poll_interval": "10m"}


async def test_what_is_enqueued_for_later_starts_then(app: Durable) -> None:
    @app.task
    async def answer() -> int:
        return 42

    pooled = app.pool("work", max_parallelism=1).task(name="pooled")(_answer)
    async with running(app, **FAR):
        handles = [
            await answer.enqueue(delay="60ms"),
            await answer.enqueue(run_at=datetime.now(UTC) + timedelta(milliseconds=90)),
            await pooled.enqueue(delay="60ms"),
            await pooled.enqueue(delay="60ms", serial_key="a"),
        ]
        assert [await handle.result(PATIENCE) for handle in handles] == [42, 42, 42, 42]


async def test_what_waited_before_the_executor_came_starts_when_it_is_due(place: Place) -> None:
    app = place.app()
    task = app.task(name="answer")(_answer)
    async with app:
        handle = await task.enqueue(delay="400ms")
        async with app.executor(**FAR):
            assert await handle.result(PATIENCE) == 42


async def test_what_comes_due_in_a_queue_starts_then_while_a_pool_is_busy(place: Place) -> None:
    app = place.app()
    pool = app.pool("work", max_parallelism=1)
    late = app.task(name="answer")(_answer)
    is_over = asyncio.Event()

    @pool.task
    async def again() -> None:
        if not is_over.is_set():
            await again.enqueue()

    async with app:
        handle = await late.enqueue(delay="400ms")
        await again.enqueue()
        async with app.executor(**FAR):
            try:
                assert await handle.result(PATIENCE) == 42
            finally:
                is_over.set()


async def test_a_child_that_is_spawned_for_later_starts_then(app: Durable) -> None:
    child = app.task(name="child")(_answer)

    async def total(output: int, ends: list[ChildResult[int]]) -> int:
        return output + sum(end.result() for end in ends)

    @app.parent(finalize=total)
    async def tree() -> Spawn[int]:
        return Spawn(1, [child.child(delay="60ms")])

    async with running(app, **FAR):
        assert await (await tree.enqueue()).result(PATIENCE) == 43


async def test_a_batch_flushes_when_its_window_is_over_also_one_that_opened_during_a_flush(app: Durable) -> None:
    flushing, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    batches: list[list[int]] = []

    @app.debounce(event=int, flush_after="60ms")
    async def batcher(ctx: DebounceContext[int, int]) -> None:
        batches.append(list(ctx.events))
        flushing.set()
        await go_on.wait()
        if len(batches) == 2:
            done.set()

    async with running(app, **FAR):
        await batcher.add("k", 1)
        await soon(flushing.wait())
        await batcher.add("k", 2)
        go_on.set()
        await soon(done.wait())
    assert batches == [[1], [2]]


async def test_a_job_whose_first_slot_is_to_come_and_a_short_grid(app: Durable) -> None:
    fifth = asyncio.Event()
    runs = 0

    @app.continuous(state=int, schedule=every("60ms", anchor="schedule"), start_immediately=False)
    async def ticker(ctx: ContinuousContext[int]) -> None:
        nonlocal runs
        runs += 1
        if runs == 5:
            fifth.set()

    async with running(app, **FAR):
        await ticker.start("k", state=0)
        await soon(fifth.wait())


async def test_timers_fire_those_of_one_owner_in_their_order(app: Durable) -> None:
    fired: list[int] = []
    all_fired = asyncio.Event()

    @app.task
    async def fire(number: int) -> None:
        fired.append(number)
        if len(fired) == 3:
            all_fired.set()

    async with running(app, **FAR):
        await app.timers.after("150ms", fire.child(2), owner="a")
        await app.timers.after("60ms", fire.child(1), owner="a")
        await app.timers.after("90ms", fire.child(3), owner="b")
        await soon(all_fired.wait())
    assert [number for number in fired if number != 3] == [1, 2]


async def test_pool_31_the_backoff_of_an_executor_that_is_gone_ends_when_it_is_over(place: Place) -> None:
    first, second = place.app(), place.app()
    failed = asyncio.Event()
    retry = Retry(max_attempts=2, delay=constant("400ms"), jitter=0)

    @first.pool("work", max_parallelism=1, retry=retry).task(name="work")
    async def fails() -> int:
        failed.set()
        raise ValueError("not yet")

    works = second.pool("work", max_parallelism=1, retry=retry).task(name="work")(_answer)
    async with running(first, **FAR):
        handle = await fails.enqueue()
        await soon(failed.wait())
    async with running(second, **FAR):
        assert await works.handle(handle.execution_id).result(PATIENCE) == 42


async def _answer() -> int:
    return 42
