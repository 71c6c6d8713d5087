"""PgQueuer on asyncpg: its program for `python -m benchmarks compare`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from script import Calls, Found, idle, latencies, main

BATCH = 500
NAME = "noop"


@asynccontextmanager
async def installed() -> AsyncGenerator[Queries]:
    """Its tables, and a client on a connection of its own."""
    connection = await asyncpg.connect()
    try:
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        yield queries
    finally:
        await connection.close()


@asynccontextmanager
async def working(handler: Any) -> AsyncGenerator[None]:
    connection = await asyncpg.connect()
    worker = PgQueuer(AsyncpgDriver(connection))
    worker.entrypoint(NAME)(handler)
    running = asyncio.create_task(worker.run(batch_size=BATCH))
    try:
        yield
    finally:
        worker.shutdown.set()
        await running
        await connection.close()


async def fill(queries: Queries, count: int) -> None:
    await queries.enqueue([NAME] * count, [str(number).encode() for number in range(count)], [0] * count)


async def drain(count: int) -> Found:
    calls = Calls(count)

    async def noop(job: Job) -> None:
        calls.one()

    async with installed() as queries:
        await fill(queries, count)
        await queries.driver.execute("analyze")
        async with working(noop):
            took = await calls.seconds(lambda: queries.driver.fetch("select 1 from pgqueuer limit 1"))
    return {"seconds": took, "done": calls.count}


async def enqueue(count: int) -> Found:
    async with installed() as queries:
        began = time.perf_counter()
        for number in range(count):
            await queries.enqueue(NAME, str(number).encode())
        took = time.perf_counter() - began
        ((done,),) = [row.values() for row in await queries.driver.fetch("select count(*) from pgqueuer")]
    return {"seconds": took, "done": done}


async def bulk(count: int) -> Found:
    async with installed() as queries:
        began = time.perf_counter()
        await fill(queries, count)
        took = time.perf_counter() - began
        ((done,),) = [row.values() for row in await queries.driver.fetch("select count(*) from pgqueuer")]
    return {"seconds": took, "done": done}


async def latency(count: int) -> Found:
    started: asyncio.Queue[float] = asyncio.Queue()

    async def stamp(job: Job) -> None:
        started.put_nowait(time.monotonic())

    async with installed() as queries, working(stamp):
        return await latencies(count, lambda: queries.enqueue(NAME, b""), started)


async def rest(count: int) -> Found:
    async def noop(job: Job) -> None: ...

    async with installed(), working(noop):
        return await idle()


if __name__ == "__main__":
    main({"drain": drain, "enqueue": enqueue, "bulk": bulk, "latency": latency, "idle": rest}, uvloop.run)
