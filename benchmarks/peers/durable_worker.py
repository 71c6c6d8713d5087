"""durable: its program for `python -m benchmarks compare`, at its defaults and of the shape of the peers' programs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import psycopg

from benchmarks.peers.script import STEPS, WARM_UP, Calls, Found, idle, latencies, main
from durable import Durable, WorkflowContext

DSN = "postgresql://"
"""The server that the variables of libpq name."""


def open_app() -> Durable:
    return Durable(DSN, migrate=True)


@asynccontextmanager
async def connected() -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(DSN, autocommit=True) as control:
        yield control


async def answer(control: psycopg.AsyncConnection[Any], query: LiteralString) -> int:
    row = await (await control.execute(query)).fetchone()
    return 0 if row is None else int(row[0])


async def work_off(app: Durable, calls: Calls) -> float:
    """Seconds until all is stored as completed."""
    async with connected() as control:
        await control.execute("analyze")
        async with app, app.executor():
            return await calls.seconds(
                lambda: answer(control, "select 1 from durable.executions where status <> 'completed' limit 1")
            )


async def drain(count: int) -> Found:
    app = open_app()
    calls = Calls(count)

    @app.task
    async def noop(number: int) -> int:
        calls.one()
        return number

    async with app:
        await noop.enqueue_many(range(count))
    return {"seconds": await work_off(app, calls), "done": calls.count}


async def steps(count: int) -> Found:
    app = open_app()
    calls = Calls(count * STEPS)

    async def add(number: int) -> int:
        calls.one()
        return number + 1

    @app.workflow
    async def five(ctx: WorkflowContext, number: int) -> int:
        for _ in range(STEPS):
            number = await ctx.step(add, number)
        return number

    async with app:
        await five.enqueue_many(range(count))
    return {"seconds": await work_off(app, calls), "done": calls.count}


async def enqueue(count: int) -> Found:
    app = open_app()

    @app.task
    async def noop(number: int) -> None: ...

    async with app, connected() as control:
        began = time.perf_counter()
        for number in range(count):
            await noop.enqueue(number)
        took = time.perf_counter() - began
        return {"seconds": took, "done": await answer(control, "select count(*) from durable.executions")}


async def bulk(count: int) -> Found:
    app = open_app()

    @app.task
    async def noop(number: int) -> None: ...

    async with app, connected() as control:
        began = time.perf_counter()
        await noop.enqueue_many(range(count))
        took = time.perf_counter() - began
        return {"seconds": took, "done": await answer(control, "select count(*) from durable.executions")}


async def latency(count: int) -> Found:
    """The client is an app of its own, so that word of the enqueue goes through the database, as with the peers."""
    started: asyncio.Queue[float] = asyncio.Queue()
    app, client = open_app(), open_app()

    async def stamp() -> None:
        started.put_nowait(time.monotonic())

    app.task(stamp)
    enqueued = client.task(stamp)
    async with app, app.executor(), client:
        return await latencies(count, enqueued.enqueue, started)


async def fanout(count: int) -> Found:
    app = open_app()

    @app.task
    async def square(number: int) -> int:
        return number * number

    @app.workflow
    async def fan(ctx: WorkflowContext, count: int) -> int:
        return sum(await ctx.gather(*(ctx.child(square, number) for number in range(count))))

    async with app, app.executor():
        await (await fan.enqueue(WARM_UP)).result()
        began = time.perf_counter()
        total = await (await fan.enqueue(count)).result()
        return {"seconds": time.perf_counter() - began, "total": total}


async def rest(count: int) -> Found:
    app = open_app()

    @app.task
    async def noop() -> None: ...

    async with app, app.executor():
        return await idle()


if __name__ == "__main__":
    main({"drain": drain, "enqueue": enqueue, "bulk": bulk, "latency": latency, "steps": steps, "fanout": fanout,
          "idle": rest})  # fmt: skip
