"""Waiting: what it takes to wake one workflow of very many, and what the many cost the executor that serves them.

The executor runs in a process of its own. One workflow is run until it waits for its signal, and its records are copied
so often as the count says; the copies differ from it by nothing but their ids.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from psycopg import sql

from benchmarks.common import Bench, Figures, Workload, quantile
from benchmarks.processes import spawn
from durable import Durable, SendOutcome, Status, Workflow, WorkflowContext

__all__ = ["WORKLOAD", "declare_waiter"]

_WAKES: Final = 200
_WARM_UP: Final = 20
_FEW: Final = 1_000
_REPOSITORY = Path(__file__).resolve().parent.parent

_COPY_EXECUTIONS = sql.SQL("""
insert into {executions} (id, root_id, {columns})
select n.new_id, n.new_id, {columns}
from {executions}
    cross join (
        select pg_catalog.gen_random_uuid() as new_id from pg_catalog.generate_series(1, {count}) order by 1
    ) as n
where id = {template}
""")
_COPY_HISTORY = sql.SQL("""
insert into {history} (execution_id, {columns})
select e.id, {columns}
from {history}
    cross join (select id from {executions} where id <> {template}) as e
where execution_id = {template}
""")
_SAMPLE = sql.SQL("select array(select id::text from {executions} where status = 'waiting' order by id limit {count})")
_COLUMNS = sql.SQL("""
select array_agg(attname::text order by attnum)
from pg_catalog.pg_attribute
where attrelid = {table}::text::regclass and attnum > 0 and not attisdropped and not attname = any({keys})
""")


def declare_waiter(app: Durable) -> Workflow[[int], int]:
    async def noop(number: int) -> int:
        return number

    @app.workflow
    async def waiter(ctx: WorkflowContext, number: int) -> int:
        number = await ctx.step(noop, number)
        return await ctx.step(noop, number + await ctx.wait_signal("go", int))

    return waiter


class _Served:
    """The executor in its process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def resident_mb(self) -> float:
        """MiB that its process holds now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"memory\n")
        line = await self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the executor has ended with exit code {await self._process.wait()}")
        return int(line) / 2**20


@asynccontextmanager
async def _executor(bench: Bench, schema: str) -> AsyncGenerator[_Served]:
    """Serve the schema in a process of its own."""
    process = await spawn("benchmarks.waiting_executor", schema, dsn=bench.dsn)
    try:
        yield _Served(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


def _columns(bench: Bench, table: sql.Identifier, *keys: str) -> sql.Composable:
    query = _COLUMNS.format(table=sql.Literal(table.as_string()), keys=sql.Literal(list(keys)))
    (names,) = bench.one(query)
    return sql.SQL(", ").join(sql.Identifier(name) for name in names)


def _fill(bench: Bench, schema: str, template: str, count: int) -> None:
    """Copy a workflow that waits, with its history."""
    tables = {name: sql.Identifier(schema, name) for name in ("executions", "history")}
    parts = {**tables, "template": sql.Literal(template), "count": sql.Literal(count)}
    columns = _columns(bench, tables["executions"], "id", "root_id")
    bench.execute(_COPY_EXECUTIONS.format(**parts, columns=columns))
    bench.execute(_COPY_HISTORY.format(**parts, columns=_columns(bench, tables["history"], "execution_id")))
    for table in tables.values():
        bench.execute(sql.SQL("vacuum analyze {}").format(table))


async def _template(waiter: Workflow[[int], int]) -> str:
    handle = await waiter.enqueue(1)
    while await handle.status() is not Status.WAITING:  # noqa: ASYNC110 - nobody tells of a workflow that waits
        await asyncio.sleep(0.01)
    return handle.execution_id


async def _wakes(bench: Bench, schema: str, waiter: Workflow[[int], int]) -> list[float]:
    """Milliseconds from before each signal to the result, one after another."""
    query = _SAMPLE.format(executions=sql.Identifier(schema, "executions"), count=sql.Literal(_WARM_UP + _WAKES))
    (ids,) = bench.one(query)
    random.shuffle(ids)
    found: list[float] = []
    for id_ in ids:
        handle = waiter.handle(id_)
        began = time.perf_counter()
        sent = await handle.signal("go", 41)
        result = await handle.result(timeout=60)
        found.append((time.perf_counter() - began) * 1000)
        if (sent, result) != (SendOutcome.ACCEPTED, 42):
            raise AssertionError(f"a workflow gave {result} after {sent}; the time means nothing")
    return found[_WARM_UP:] or found


async def _among(bench: Bench, count: int) -> tuple[list[float], float]:
    """The times of wakes among so many that wait, and the MiB of the executor after them."""
    with bench.schema() as schema:
        app = bench.app(schema)
        waiter = declare_waiter(app)
        async with app:
            async with _executor(bench, schema):
                template = await _template(waiter)
            bench.phase(f"{count:,} workflows that wait")
            _fill(bench, schema, template, count - 1)
            bench.phase(f"waking some of {count:,}")
            async with _executor(bench, schema) as executor:
                times = await _wakes(bench, schema, waiter)
                return times, await executor.resident_mb()


async def _run(bench: Bench, count: int) -> Figures:
    few_times, few_mb = await _among(bench, min(_FEW, count))
    times, mb = await _among(bench, count)
    return {
        "wake_p50_ms": quantile(times, 0.5),
        "wake_p99_ms": quantile(times, 0.99),
        "executor_rss_mb": mb,
        "few_wake_p50_ms": quantile(few_times, 0.5),
        "few_executor_rss_mb": few_mb,
        "rss_ratio": mb / few_mb,
    }


WORKLOAD = Workload(
    name="waiting",
    question="workflows that wait, signal to result of one: how long; what does the executor hold, beside 1,000?",
    run=_run,
    count=1_000_000,
    unit="workflows that wait",
    main=("wake_p50_ms", "executor_rss_mb", "rss_ratio"),
    repeat=1,
)
