"""Jobs: how fast events are accepted and handled, beside single-row inserts, and what idle jobs cost an executor."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import sql

from benchmarks.common import Bench, Countdown, Figures, Workload
from benchmarks.instances import fill
from benchmarks.limits import enqueue_limit
from benchmarks.meter import metered
from benchmarks.processes import spawn
from durable import Durable
from durable.jobs import Debounce, DebounceContext, EventContext, Task

__all__ = ["WORKLOAD"]

_CLIENTS = 16
_KEYS = 100
_IDLE = 50
"""Idle jobs for each event of the count."""
_FEW = 1_000
_REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class _Jobs:
    order: Task[int, int]
    batch: Debounce[int, int]


def _declare(app: Durable, left: Countdown) -> _Jobs:
    order = app.task_job("order", state=int, event=int)

    @order.on_event
    async def on_event(ctx: EventContext[int, int], event: int) -> None:
        ctx.set_state((ctx.state or 0) + event)
        left.one()

    @app.debounce(event=int, flush_after="1d")
    async def batch(ctx: DebounceContext[int, int]) -> None:
        pass

    return _Jobs(order, batch)


async def _rate(call: Callable[[str, int], Awaitable[Any]], count: int, *, clients: int, keys: int) -> float:
    """Calls per second of so many clients that wait for each answer; they share the keys."""

    async def client(number: int) -> None:
        for done in range(number, count, clients):
            await call(f"{clients}-{keys}-{done % keys}", 1)

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    return count / (time.perf_counter() - began)


async def _accepted(bench: Bench, count: int) -> Figures:
    figures: Figures = {}
    with bench.schema() as schema:
        app = bench.app(schema)
        jobs = _declare(app, Countdown())
        async with app:
            for name, call in (("send", jobs.order.send), ("add", jobs.batch.add)):
                bench.phase(name)
                figures |= {
                    f"{name}_per_s": await _rate(call, count, clients=1, keys=_KEYS),
                    f"{name}_16_on_one_key_per_s": await _rate(call, count, clients=_CLIENTS, keys=1),
                    f"{name}_16_on_many_keys_per_s": await _rate(call, count, clients=_CLIENTS, keys=_KEYS),
                }
    return figures


async def _handled(bench: Bench, count: int) -> Figures:
    """Events that wait, one turn each, worked off by one executor."""
    with bench.schema() as schema:
        left = Countdown()
        app = bench.app(schema)
        jobs = _declare(app, left)
        bench.phase("sending")
        async with app:
            await _rate(jobs.order.send, count, clients=64, keys=_KEYS)
        bench.phase("draining")
        left.begin(count)
        async with metered(bench, schema) as meter, app:
            began, busy = time.perf_counter(), time.process_time()
            async with app.executor(**bench.executor_settings):
                await left.none()
            took, busy = time.perf_counter() - began, time.process_time() - busy
        query = sql.SQL("select sum(run_count)::bigint, sum(state::bigint)::bigint from {}")
        if bench.one(query.format(sql.Identifier(schema, "jobs"))) != (count, count):
            raise AssertionError("an event was not handled, or twice; the rate means nothing")
    return {"turns_per_s": count / took, **meter.figures(count, "turn", busy)}


async def _memory(bench: Bench, count: int) -> float:
    """MiB that an executor in a process of its own holds, with so many idle jobs in its schema."""
    with bench.schema() as schema:
        async with bench.app(schema):
            bench.phase(f"{count:,} idle jobs")
        fill(bench, schema, count)
        process = await spawn("benchmarks.jobs_memory", schema, dsn=bench.dsn)
        out, _ = await process.communicate()
        if process.returncode:
            raise AssertionError(f"the executor with idle jobs ended with exit code {process.returncode}")
        return float(json.loads(out)) / 2**20


async def _run(bench: Bench, count: int) -> Figures:
    with bench.schema() as limit_schema:
        bench.phase("single-row inserts")
        limit = await enqueue_limit(bench.dsn, limit_schema, count)
    figures = await _accepted(bench, count)
    figures |= {"limit_per_s": limit, "ratio": figures["send_per_s"] / limit}
    figures |= await _handled(bench, count)
    few = await _memory(bench, min(_FEW, count))
    many = await _memory(bench, count * _IDLE)
    return figures | {"memory_few_mb": few, "memory_many_mb": many, "memory_ratio": many / few}


WORKLOAD = Workload(
    name="jobs",
    question="keyed jobs: events accepted and handled per second; memory with 50 idle jobs for each event, and 1,000",
    run=_run,
    count=2_000,
    unit="events",
    main=("send_per_s", "add_per_s", "turns_per_s", "memory_ratio"),
)
