"""Bulk: how fast one call stores many executions, beside one insert into a minimal table."""

from __future__ import annotations

import time

from benchmarks.common import Bench, Figures, Workload
from benchmarks.limits import bulk_limit
from benchmarks.meter import metered
from durable import Durable, Task

__all__ = ["WORKLOAD", "declare_noop"]


def declare_noop(app: Durable) -> Task[[int], int]:
    @app.task
    async def noop(number: int) -> int:
        return number

    return noop


async def _run(bench: Bench, count: int) -> Figures:
    with bench.schema() as limit_schema:
        bench.phase("one insert")
        limit = await bulk_limit(bench.dsn, limit_schema, count)
    with bench.schema() as schema:
        app = bench.app(schema)
        noop = declare_noop(app)
        async with app:
            bench.phase("enqueue_many")
        async with metered(bench, schema) as meter, app:
            began, busy = time.perf_counter(), time.process_time()
            handles = await noop.enqueue_many(range(count))
            took, busy = time.perf_counter() - began, time.process_time() - busy
            if len(handles) != count:
                raise AssertionError(f"{len(handles)} of {count} executions were stored; the rate means nothing")
    return {
        "rate_per_s": count / took,
        "limit_per_s": limit,
        "ratio": count / took / limit,
        **meter.figures(count, "execution", busy),
    }


WORKLOAD = Workload(
    name="bulk",
    question="one call of enqueue_many: how many executions per second?",
    run=_run,
    count=20_000,
    unit="executions",
    main=("rate_per_s", "limit_per_s", "ratio"),
)
