"""Keyed work in pools from outside: one at a time and in order for each key, and a fair share for every key."""

import asyncio
import contextlib
from collections import Counter, defaultdict
from typing import Any

from durable import Durable, Retry, Task, constant

from .place import PATIENCE, Place, running

FAR: dict[str, Any] = {"poll_interval": "10m"}


async def test_pool_29_executions_of_a_key_run_one_at_a_time_and_in_order(place: Place) -> None:
    apps = [place.app() for _ in range(3)]
    inside: Counter[str] = Counter()
    order: defaultdict[str, list[int]] = defaultdict(list)

    async def work(key: str, n: int) -> None:
        inside[key] += 1
        assert inside[key] == 1
        order[key].append(n)
        await apps[n % 3].storage.now()  # a round trip, in which others may start
        inside[key] -= 1

    for app in apps:
        app.pool("work", max_parallelism=6).task(work)
    task: Task[[str, int], None] = Task(apps[0]["work"], apps[0].home)
    async with contextlib.AsyncExitStack() as stack:
        for app in apps:
            await stack.enter_async_context(running(app))
        handles = [await task.enqueue(key, n, serial_key=key) for n in range(12) for key in "abcde"]
        done, left = await apps[0].wait(handles, timeout=PATIENCE)
        ends = {(await handle.execution()).status for handle in handles}

    assert (len(done), left) == (60, set())
    assert {str(end) for end in ends} == {"completed"}
    assert order == {key: list(range(12)) for key in "abcde"}


async def test_pool_29_keys_do_not_hold_each_other_up(app: Durable) -> None:
    gate = asyncio.Event()

    @app.pool("work", max_parallelism=5).task
    async def work(key: str) -> str:
        if key == "slow":
            await gate.wait()
        return key

    async with running(app, **FAR):
        slow = [await work.enqueue("slow", serial_key="slow") for _ in range(3)]
        quick = [await work.enqueue("quick", serial_key="quick") for _ in range(5)]
        keyless = await work.enqueue("none")
        assert not (await app.wait([*quick, keyless], timeout=PATIENCE))[1]
        assert [(await handle.execution()).attempts for handle in slow] == [1, 0, 0]
        gate.set()
        assert not (await app.wait(slow, timeout=PATIENCE))[1]


async def test_pool_29_a_retry_keeps_the_order_of_its_key(app: Durable) -> None:
    order: list[int] = []

    @app.pool("work", retry=Retry(max_attempts=3, delay=constant("20ms"))).task
    async def work(n: int) -> None:
        order.append(n)
        if order.count(n) < 3 and n == 0:
            raise ValueError("again")

    async with running(app, **FAR):
        handles = await work.enqueue_many(range(4), serial_key="k")
        assert not (await app.wait(handles, timeout=PATIENCE))[1]
    assert order == [0, 0, 0, 1, 2, 3]


async def test_pool_29_without_keep_order_a_failing_one_holds_up_nothing(app: Durable) -> None:
    @app.pool("work", keep_order=False, retry=Retry(max_attempts=2, delay=constant("10m"))).task
    async def work(n: int) -> int:
        if n == 0:
            raise ValueError("again, later")
        return n

    async with running(app, **FAR):
        handles = await work.enqueue_many(range(4), serial_key="k")
        assert not (await app.wait(handles[1:], timeout=PATIENCE))[1]
        assert (await handles[0].execution()).attempts == 1


async def test_pool_30_a_tenant_with_much_work_keeps_no_other_waiting(app: Durable) -> None:
    order: list[str] = []
    pool = app.pool("work", max_parallelism=4, max_per_key=None)

    @pool.task
    async def work(tenant: str) -> None:
        order.append(tenant)

    async with app:
        await pool.pause()
        await work.enqueue_many(["many"] * 2000, serial_key="many")
        one = await work.enqueue("one", serial_key="one")
        async with app.executor(concurrency=4, **FAR):
            await pool.resume()
            await one.result(PATIENCE)
            position = order.index("one")
    # Its turn comes with the second claim at the latest, and no claim takes more than the limit.
    assert position <= 8
