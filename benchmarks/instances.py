"""Instances: what a status, a claim of the next due turn and a page of the list cost, with few and with many jobs."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from statistics import median
from typing import Any

from psycopg import sql

from benchmarks.common import Bench, Figures, Workload
from durable import Durable
from durable.jobs import Continuous, ContinuousContext, EventContext, Task, every
from storage_postgres import PostgresStorage

__all__ = ["WORKLOAD", "declare_jobs", "fill"]

_FEWER = 100
"""The few are so many times fewer than the many."""
_CALLS = 100
_PAGE = 100
_DUE = 2 * _CALLS

_FILL_JOBS = sql.SQL("""
insert into {jobs} (id, kind, name, key, state, turn_id, scheduled_at, created_at, updated_at)
select pg_catalog.gen_random_uuid(), case when i % 2 = 0 then 'continuous' else 'task' end,
    case when i % 2 = 0 then 'ticker' else 'order' end, pg_catalog.lpad(i::text, 8, '0'), '{{"n":0}}',
    case when i % 2 = 0 then pg_catalog.gen_random_uuid() end,
    case when i % 2 = 0 then pg_catalog.now() + case when i < {due} then interval '-1 hour' else interval '1 day' end
        + i * interval '1 second' end,
    pg_catalog.now(), pg_catalog.now()
from pg_catalog.generate_series(0, {count} - 1) as i
""")
_FILL_TURNS = sql.SQL("""
insert into {executions} (
    id, root_id, kind, task_name, task_version, queue, priority, input, max_attempts, max_deliveries, status,
    created_at, due_at, updated_at
)
select j.turn_id, j.id, 'turn', 'continuous:ticker', 1, 'default', 0, '{{}}', 1, 2147483647, 'ready',
    j.created_at, j.scheduled_at, j.created_at
from {jobs} as j
where j.turn_id is not null
""")


def declare_jobs(app: Durable) -> tuple[Continuous[dict[str, int]], Task[dict[str, int], int]]:
    @app.continuous(state=dict[str, int], schedule=every("1d"))
    async def ticker(ctx: ContinuousContext[dict[str, int]]) -> None:
        ctx.state["n"] += 1

    order = app.task_job("order", state=dict[str, int], event=int)

    @order.on_event
    async def on_event(ctx: EventContext[dict[str, int], int], event: int) -> None:
        ctx.set_state({"n": (ctx.state or {"n": 0})["n"] + event})

    return ticker, order


def fill(bench: Bench, schema: str, count: int, *, due: int = 0) -> None:
    """Put idle jobs into the schema: half of them wait for events, half for tomorrow; `due` of these are due by now."""
    names = {"jobs": sql.Identifier(schema, "jobs"), "executions": sql.Identifier(schema, "executions")}
    bench.execute(_FILL_JOBS.format(**names, count=sql.Literal(count), due=sql.Literal(2 * due)))
    bench.execute(_FILL_TURNS.format(**names))
    for table in names.values():
        bench.execute(sql.SQL("vacuum analyze {}").format(table))


class _Place:
    """A schema with so many jobs, and the calls to be measured."""

    def __init__(self, bench: Bench, schema: str, count: int) -> None:
        self._count = count
        self._random = random.Random(count)
        self._storage = PostgresStorage(bench.dsn, schema=schema)
        self.app = Durable(storage=self._storage)
        self._ticker, _ = declare_jobs(self.app)

    def _key(self) -> str:
        return f"{self._random.randrange(self._count // 2) * 2:08}"

    async def status(self) -> None:
        if (await self._ticker.status(self._key())).status != "running":
            raise AssertionError("a job is not there; the time means nothing")

    async def claim(self) -> None:
        claimed = await self._storage.claim(
            executor_id="bench", queues=["default"], task_names=["continuous:ticker"], limit=1, lease=3600.0
        )
        if len(claimed) != 1:
            raise AssertionError("no turn was due; the time means nothing")

    async def page(self) -> None:
        found = await self.app.jobs.list(limit=_PAGE, after=f"continuous:ticker:{self._key()}")
        if not found:
            raise AssertionError("the page is empty; the time means nothing")


async def _times(few: Callable[[], Awaitable[Any]], many: Callable[[], Awaitable[Any]]) -> tuple[float, float]:
    """The medians in milliseconds; in turns, so that both meet the same machine."""
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(_CALLS):
        for call, times in zip((few, many), took, strict=True):
            began = time.perf_counter()
            await call()
            times.append((time.perf_counter() - began) * 1000)
    return median(took[0]), median(took[1])


async def _run(bench: Bench, count: int) -> Figures:
    fewer = max(count // _FEWER, 2 * _DUE)
    figures: Figures = {}
    async with AsyncExitStack() as stack:
        places: list[_Place] = []
        for number in (fewer, max(count, fewer)):
            schema = stack.enter_context(bench.schema())
            async with bench.app(schema):
                bench.phase(f"inserting {number:,} jobs")
            fill(bench, schema, number, due=_DUE)
            places.append(_Place(bench, schema, number))
        for place in places:
            await stack.enter_async_context(place.app)
        few, many = places
        bench.phase("measuring")
        for name, calls in (
            ("status", (few.status, many.status)),
            ("claim", (few.claim, many.claim)),
            ("list", (few.page, many.page)),
        ):
            least, most = await _times(*calls)
            figures |= {f"{name}_few_ms": least, f"{name}_many_ms": most, f"{name}_ratio": most / least}
    return figures


WORKLOAD = Workload(
    name="instances",
    question="a hundredth of the jobs beside all of them: what do a status, a claim and a page of the list cost?",
    run=_run,
    count=1_000_000,
    unit="jobs",
    main=("status_ratio", "claim_ratio", "list_ratio"),
    repeat=1,
)
