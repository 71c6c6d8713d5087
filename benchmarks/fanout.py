"""Fanout: how long one workflow takes that starts a thousand children at once and gathers their results."""

from __future__ import annotations

import time

from benchmarks.common import Bench, Figures, Workload
from durable import Durable, Workflow, WorkflowContext

__all__ = ["WORKLOAD"]

_WARM_UP = 10


def _declare(app: Durable) -> Workflow[[int], int]:
    @app.task
    async def square(number: int) -> int:
        return number * number

    @app.workflow
    async def fan(ctx: WorkflowContext, count: int) -> int:
        return sum(await ctx.gather(*(ctx.child(square, number) for number in range(count))))

    return fan


async def _run(bench: Bench, count: int) -> Figures:
    with bench.schema() as schema:
        app = bench.app(schema)
        fan = _declare(app)
        async with app, app.executor(**bench.executor_settings):
            bench.phase("warming up")
            await (await fan.enqueue(_WARM_UP)).result()
            bench.phase("running")
            before = bench.counters()
            began, busy = time.perf_counter(), time.process_time()
            result = await (await fan.enqueue(count)).result()
            took, busy = time.perf_counter() - began, time.process_time() - busy
            if result != sum(number * number for number in range(count)):
                raise AssertionError(f"the children gave {result}; the time means nothing")
        await bench.left()
        after = bench.counters()
    return {
        "seconds": took,
        "children_per_s": count / took,
        "cpu_us_per_child": busy / count * 1e6,
        "wal_bytes_per_child": (after.wal_bytes - before.wal_bytes) / count,
    }


WORKLOAD = Workload(
    name="fanout",
    question="one workflow that gathers so many children: how long from its enqueue to its result?",
    run=_run,
    count=1_000,
    unit="children",
    main=("seconds",),
)
