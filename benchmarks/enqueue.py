"""Enqueue: how many executions one client stores one by one, beside single-row inserts into a minimal table."""

from __future__ import annotations

import time

from benchmarks.bulk import declare_noop
from benchmarks.common import Bench, Figures, Workload
from benchmarks.limits import enqueue_limit

__all__ = ["WORKLOAD"]


async def _run(bench: Bench, count: int) -> Figures:
    with bench.schema() as limit_schema:
        bench.phase("single-row inserts")
        limit = await enqueue_limit(bench.dsn, limit_schema, count)
    with bench.schema() as schema:
        app = bench.app(schema)
        noop = declare_noop(app)
        async with app:
            bench.phase("enqueueing")
            began, busy = time.perf_counter(), time.process_time()
            for number in range(count):
                await noop.enqueue(number)
            took, busy = time.perf_counter() - began, time.process_time() - busy
    return {
        "rate_per_s": count / took,
        "limit_per_s": limit,
        "ratio": count / took / limit,
        "cpu_us_per_execution": busy / count * 1e6,
    }


WORKLOAD = Workload(
    name="enqueue",
    question="one client, one by one, each committed before the next: how many per second?",
    run=_run,
    count=3_000,
    unit="executions",
    main=("rate_per_s", "limit_per_s", "ratio"),
)
