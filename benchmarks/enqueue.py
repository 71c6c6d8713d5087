"""Enqueue: how many executions one client stores one by one, beside single-row inserts; and 32 clients, with hints.

No setting turns hints off, and none is needed: they are sent apart from the commit, many in one statement. To show
that, clients with a storage that says it is shared with nobody, which sends none, take turns with clients as they are.
Each of the 32 is an app of its own, with connections of its own, as 32 processes would be, or they are callers of one
app; and a process listens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median
from typing import Final

from benchmarks.bulk import declare_noop
from benchmarks.common import Bench, Figures, Workload
from benchmarks.limits import enqueue_limit
from benchmarks.meter import metered
from benchmarks.processes import spawn
from durable import Durable, Task
from storage_postgres import PostgresStorage

__all__ = ["WORKLOAD"]

_CLIENTS: Final = 32
_RESERVED: Final = 12
"""Connections that are left to others."""
_ROUNDS: Final = 3


class _Silent(PostgresStorage):
    """Sends no hints."""

    is_shared = False


async def _run(bench: Bench, count: int) -> Figures:
    with bench.schema() as limit_schema:
        bench.phase("single-row inserts")
        limit = await enqueue_limit(bench.dsn, limit_schema, count)
    with bench.schema() as schema:
        app = bench.app(schema)
        noop = declare_noop(app)
        async with app:
            bench.phase("enqueueing")
        async with metered(bench, schema) as meter, app:
            began, busy = time.perf_counter(), time.process_time()
            for number in range(count):
                await noop.enqueue(number)
            took, busy = time.perf_counter() - began, time.process_time() - busy
        figures = meter.figures(count, "execution", busy)
        figures |= await _hinted(bench, schema, count)
    return {"rate_per_s": count / took, "limit_per_s": limit, "ratio": count / took / limit, **figures}


async def _hinted(bench: Bench, schema: str, count: int) -> Figures:
    """With hints and without, in turns: 32 apps with one caller each, and one app with 32 callers."""
    figures: Figures = {}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_listener(bench, schema))
        # Each of them takes two connections with hints and one without.
        most = (int(bench.server_settings()["max_connections"]) - _RESERVED) // 3
        bench.details["clients"] = min(_CLIENTS, most)
        for name, apps in (("clients", bench.details["clients"]), ("callers", 1)):
            told = await _clients(stack, bench, schema, PostgresStorage, apps)
            silent = await _clients(stack, bench, schema, _Silent, apps)
            rates: list[tuple[float, float]] = []
            for number in range(_ROUNDS):
                bench.phase(f"{name} with hints and without: {number + 1} of {_ROUNDS}")
                # Turn about in which of the two is first.
                order = (told, silent) if number % 2 else (silent, told)
                found = {clients is told: await _rate(clients, count) for clients in order}
                rates.append((found[True], found[False]))
            figures |= {
                f"{name}_rate_per_s": median(hinted for hinted, _ in rates),
                f"{name}_silent_rate_per_s": median(quiet for _, quiet in rates),
                f"{name}_hints_ratio": median(hinted / quiet for hinted, quiet in rates),
            }
    return figures


@asynccontextmanager
async def _listener(bench: Bench, schema: str) -> AsyncGenerator[None]:
    """A process that hears every hint."""
    process = await spawn("benchmarks.enqueue_listener", schema, dsn=bench.dsn)
    assert process.stdout is not None
    try:
        if not await process.stdout.readline():
            raise AssertionError(f"the listener ended with exit code {await process.wait()}")
        yield
    finally:
        process.kill()
        await process.wait()


async def _clients(
    stack: AsyncExitStack, bench: Bench, schema: str, storage: type[PostgresStorage], apps: int
) -> list[Task[[int], int]]:
    """As many as there are apps; 32 on one app."""
    clients: list[Task[[int], int]] = []
    for _ in range(apps):
        app = Durable(storage=storage(bench.dsn, schema=schema, min_size=1, max_size=2))
        clients.append(declare_noop(app))
        await stack.enter_async_context(app)
    return clients * (1 if apps > 1 else _CLIENTS)


async def _rate(clients: list[Task[[int], int]], count: int) -> float:
    numbers = iter(range(count))

    async def enqueue(client: Task[[int], int]) -> None:
        for number in numbers:
            await client.enqueue(number)

    began = time.perf_counter()
    await asyncio.gather(*(enqueue(client) for client in clients))
    return count / (time.perf_counter() - began)


WORKLOAD = Workload(
    name="enqueue",
    question="one client, one by one, each committed before the next: how many per second? 32, with and without hints?",
    run=_run,
    count=3_000,
    unit="executions",
    main=("rate_per_s", "limit_per_s", "ratio", "clients_hints_ratio"),
)
