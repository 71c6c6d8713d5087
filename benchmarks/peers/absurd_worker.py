"""Absurd: its program for `python -m benchmarks compare`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from absurd_sdk import AsyncAbsurd
from psycopg import AsyncConnection
from script import STEPS, Calls, Found, idle, latencies, main

WORKERS = 8
CONCURRENCY = 50
DEFAULT_POLL_S = 0.25
POLL_S = DEFAULT_POLL_S if os.environ.get("PACE") == "default" else 0.01
QUEUE, CHILDREN = "jobs", "children"


@asynccontextmanager
async def client(queue: str = QUEUE) -> AsyncGenerator[AsyncAbsurd]:
    """On a connection of its own: one connection serves one client or one worker."""
    async with await AsyncConnection.connect(autocommit=True) as connection:
        yield AsyncAbsurd(connection, queue_name=queue)


async def install(*queues: str) -> None:
    """By its own command line, which needs psql."""
    command = Path(sys.executable).with_name("absurdctl")
    for arguments in (["init"], *(["create-queue", queue] for queue in queues)):
        process = await asyncio.create_subprocess_exec(
            command, *arguments, "-d", "postgresql://", stdout=subprocess.DEVNULL
        )
        if await process.wait():
            raise RuntimeError(f"absurdctl {arguments[0]} ended with exit code {process.returncode}")


@asynccontextmanager
async def working(handler: Any, queue: str = QUEUE, workers: int = WORKERS) -> AsyncGenerator[None]:
    async with AsyncExitStack() as stack:
        found: list[AsyncAbsurd] = []
        running: list[asyncio.Task[None]] = []
        for number in range(workers):
            worker = await stack.enter_async_context(client(queue))
            worker.register_task(name=handler.__name__)(handler)
            running.append(
                asyncio.create_task(
                    worker.start_worker(worker_id=str(number), concurrency=CONCURRENCY, poll_interval=POLL_S)
                )
            )
            found.append(worker)
        try:
            yield
        finally:
            for worker in found:
                worker.stop_worker()
            await asyncio.gather(*running)


async def unfinished(connection: AsyncConnection[Any]) -> bool:
    cursor = await connection.execute("select 1 from absurd.t_jobs where state <> 'completed' limit 1")
    return await cursor.fetchone() is not None


async def work_off(handler: Any, count: int, calls: Calls) -> float:
    """Seconds until all is stored as completed."""
    await install(QUEUE)
    async with client() as spawner:
        for number in range(count):
            await spawner.spawn(handler.__name__, number, queue=QUEUE)
    async with await AsyncConnection.connect(autocommit=True) as control:
        await control.execute("analyze")
        async with working(handler):
            return await calls.seconds(lambda: unfinished(control))


async def drain(count: int) -> Found:
    calls = Calls(count)

    async def noop(number: int, ctx: Any) -> None:
        calls.one()

    return {"seconds": await work_off(noop, count, calls), "done": calls.count}


async def steps(count: int) -> Found:
    calls = Calls(count * STEPS)

    async def five(number: int, ctx: Any) -> int:
        async def add() -> int:
            calls.one()
            return number + 1

        for _ in range(STEPS):
            number = await ctx.step("add", add)
        return number

    return {"seconds": await work_off(five, count, calls), "done": calls.count}


async def enqueue(count: int) -> Found:
    await install(QUEUE)
    async with client() as spawner:
        began = time.perf_counter()
        for number in range(count):
            await spawner.spawn("noop", number, queue=QUEUE)
        took = time.perf_counter() - began
    async with await AsyncConnection.connect() as control:
        row = await (await control.execute("select count(*) from absurd.t_jobs")).fetchone()
    assert row is not None
    return {"seconds": took, "done": row[0]}


async def latency(count: int) -> Found:
    started: asyncio.Queue[float] = asyncio.Queue()

    async def stamp(number: int, ctx: Any) -> None:
        started.put_nowait(time.monotonic())

    await install(QUEUE)
    async with client() as spawner, working(stamp, workers=1):
        return await latencies(count, lambda: spawner.spawn("stamp", 0, queue=QUEUE), started, poll_s=POLL_S)


async def fanout(count: int) -> Found:
    """A parent that waits for children on its own queue is refused, so they have a queue and a worker of their own."""

    async def square(number: int, ctx: Any) -> int:
        return number * number

    await install(QUEUE, CHILDREN)
    async with client() as caller, client(CHILDREN) as spawner:

        async def fan(count: int, ctx: Any) -> int:
            children = [await spawner.spawn("square", number, queue=CHILDREN) for number in range(count)]
            ends = [await ctx.await_task_result(child["task_id"], CHILDREN) for child in children]
            return sum(end.result for end in ends)

        async with working(fan, workers=1), working(square, CHILDREN, workers=1):
            began = time.perf_counter()
            parent = await caller.spawn("fan", count, queue=QUEUE)
            end = await caller.await_task_result(parent["task_id"])
            return {"seconds": time.perf_counter() - began, "total": end.result}


async def rest(count: int) -> Found:
    async def noop(number: int, ctx: Any) -> None: ...

    await install(QUEUE)
    async with working(noop, workers=1):
        return await idle()


if __name__ == "__main__":
    main({"drain": drain, "enqueue": enqueue, "latency": latency, "steps": steps, "fanout": fanout, "idle": rest})
