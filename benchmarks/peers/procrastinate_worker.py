"""Procrastinate on psycopg: its program for `python -m benchmarks compare`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from procrastinate import App, PsycopgConnector
from procrastinate.tasks import Task
from script import Calls, Found, idle, latencies, main

CONCURRENCY = 30
CONNECTIONS = 10


@asynccontextmanager
async def installed(handler: Any) -> AsyncGenerator[tuple[App, Task[Any, Any, Any]]]:
    """Its tables, and an app that knows one task."""
    app = App(connector=PsycopgConnector(min_size=CONNECTIONS, max_size=CONNECTIONS))
    task = app.task(name="noop")(handler)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        yield app, task


@asynccontextmanager
async def working(app: App) -> AsyncGenerator[None]:
    running = asyncio.create_task(
        app.run_worker_async(concurrency=CONCURRENCY, install_signal_handlers=False, listen_notify=True)
    )
    try:
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def unfinished(app: App) -> bool:
    rows = await app.connector.execute_query_all_async(
        "select 1 from procrastinate_jobs where status in ('todo', 'doing') limit 1"
    )
    return bool(rows)


async def defined(app: App) -> int:
    rows = await app.connector.execute_query_one_async("select count(*) as count from procrastinate_jobs")
    return int(rows["count"])


async def nothing(number: int) -> None: ...


async def drain(count: int) -> Found:
    calls = Calls(count)

    async def noop(number: int) -> None:
        calls.one()

    async with installed(noop) as (app, task):
        await task.batch_defer_async(*({"number": number} for number in range(count)))
        await app.connector.execute_query_async("analyze")
        async with working(app):
            took = await calls.seconds(lambda: unfinished(app))
    return {"seconds": took, "done": calls.count}


async def enqueue(count: int) -> Found:
    async with installed(nothing) as (app, task):
        began = time.perf_counter()
        for number in range(count):
            await task.defer_async(number=number)
        took = time.perf_counter() - began
        return {"seconds": took, "done": await defined(app)}


async def bulk(count: int) -> Found:
    async with installed(nothing) as (app, task):
        began = time.perf_counter()
        await task.batch_defer_async(*({"number": number} for number in range(count)))
        took = time.perf_counter() - began
        return {"seconds": took, "done": await defined(app)}


async def latency(count: int) -> Found:
    started: asyncio.Queue[float] = asyncio.Queue()

    async def stamp(number: int) -> None:
        started.put_nowait(time.monotonic())

    async with installed(stamp) as (app, task), working(app):
        return await latencies(count, lambda: task.defer_async(number=0), started)


async def rest(count: int) -> Found:
    async with installed(nothing) as (app, _), working(app):
        return await idle()


if __name__ == "__main__":
    main({"drain": drain, "enqueue": enqueue, "bulk": bulk, "latency": latency, "idle": rest})
