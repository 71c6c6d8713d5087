"""DBOS Transact: its program for `python -m benchmarks compare`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from threading import Thread
from typing import Any

import psycopg
import sqlalchemy
from dbos import DBOS, DBOSClient, DBOSConfig
from script import STEPS, Calls, Found, idle, latencies, main

URL = f"postgresql+psycopg://{os.environ['PGUSER']}@/{os.environ['PGDATABASE']}"
QUEUE = "jobs"
DEFAULT_POLL_S = 1.0
POLL_S = DEFAULT_POLL_S if os.environ.get("PACE") == "default" else 0.01
WORKER_CONCURRENCY = 100


async def blocking(call: Callable[..., Any], *arguments: Any) -> None:
    """In a thread of its own: the loop's own threads become those of DBOS, and end with it."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            call(*arguments)
        except BaseException as failure:
            failures.append(failure)
        loop.call_soon_threadsafe(ended.set)

    Thread(target=run).start()
    await ended.wait()
    for failure in failures:
        raise failure


@asynccontextmanager
async def launched(*, is_worker: bool) -> AsyncGenerator[None]:
    """Its tables, and a process that runs what is queued, or leaves it alone."""
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": URL,
        "notification_listener_polling_interval_sec": POLL_S,
        "log_level": "WARNING",
    }
    DBOS(config=config)
    DBOS.listen_queues([QUEUE] if is_worker else [])
    await blocking(DBOS.launch)
    await DBOS.register_queue_async(QUEUE, worker_concurrency=WORKER_CONCURRENCY, polling_interval_sec=POLL_S)
    try:
        yield
    finally:
        await blocking(DBOS.destroy)


def fill(workflow: str, count: int) -> None:
    """In one transaction: there is no call that takes many."""
    client = DBOSClient(system_database_url=URL)
    engine = sqlalchemy.create_engine(URL)
    with engine.begin() as connection:
        for number in range(count):
            client.enqueue_in_transaction(connection, {"queue_name": QUEUE, "workflow_name": workflow}, number)
    engine.dispose()
    client.destroy()


async def unfinished(connection: psycopg.AsyncConnection) -> bool:
    cursor = await connection.execute("select 1 from dbos.workflow_status where status <> 'SUCCESS' limit 1")
    return await cursor.fetchone() is not None


async def known() -> int:
    async with await psycopg.AsyncConnection.connect() as control:
        row = await (await control.execute("select count(*) from dbos.workflow_status")).fetchone()
    assert row is not None
    return int(row[0])


async def work_off(workflow: str, count: int, calls: Calls) -> float:
    """Seconds until all is stored as a success."""
    async with launched(is_worker=False):
        await blocking(fill, workflow, count)
    async with await psycopg.AsyncConnection.connect(autocommit=True) as control:
        await control.execute("analyze")
        async with launched(is_worker=True):
            return await calls.seconds(lambda: unfinished(control))


async def drain(count: int) -> Found:
    calls = Calls(count)

    @DBOS.workflow(name="noop")
    def noop(number: int) -> int:
        calls.one()
        return number

    return {"seconds": await work_off("noop", count, calls), "done": calls.count}


async def steps(count: int) -> Found:
    calls = Calls(count * STEPS)

    @DBOS.step()
    def add(number: int) -> int:
        calls.one()
        return number + 1

    @DBOS.workflow(name="five")
    def five(number: int) -> int:
        for _ in range(STEPS):
            number = add(number)
        return number

    return {"seconds": await work_off("five", count, calls), "done": calls.count}


async def enqueue(count: int) -> Found:
    @DBOS.workflow(name="noop")
    async def noop(number: int) -> None: ...

    async with launched(is_worker=False):
        began = time.perf_counter()
        for number in range(count):
            await DBOS.enqueue_workflow_async(QUEUE, noop, number)
        took = time.perf_counter() - began
        return {"seconds": took, "done": await known()}


async def bulk(count: int) -> Found:
    async with launched(is_worker=False):
        began = time.perf_counter()
        await blocking(fill, "noop", count)
        took = time.perf_counter() - began
        return {"seconds": took, "done": await known()}


async def latency(count: int) -> Found:
    started: asyncio.Queue[float] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    @DBOS.workflow(name="stamp")
    async def stamp() -> None:
        loop.call_soon_threadsafe(started.put_nowait, time.monotonic())

    async with launched(is_worker=True):
        return await latencies(count, lambda: DBOS.enqueue_workflow_async(QUEUE, stamp), started, poll_s=POLL_S)


async def fanout(count: int) -> Found:
    @DBOS.workflow(name="square")
    async def square(number: int) -> int:
        return number * number

    @DBOS.workflow(name="fan")
    async def fan(count: int) -> int:
        children = [await DBOS.enqueue_workflow_async(QUEUE, square, number) for number in range(count)]
        return sum([await child.get_result(polling_interval_sec=POLL_S) for child in children])

    async with launched(is_worker=True):
        # The queue's thread is to be there.
        await (await DBOS.enqueue_workflow_async(QUEUE, square, 1)).get_result(polling_interval_sec=POLL_S)
        began = time.perf_counter()
        handle = await DBOS.start_workflow_async(fan, count)
        total = await handle.get_result(polling_interval_sec=POLL_S)
        return {"seconds": time.perf_counter() - began, "total": total}


async def rest(count: int) -> Found:
    async with launched(is_worker=True):
        return await idle()


if __name__ == "__main__":
    main({"drain": drain, "enqueue": enqueue, "bulk": bulk, "latency": latency, "steps": steps, "fanout": fanout,
          "idle": rest})  # fmt: skip
