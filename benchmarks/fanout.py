"""Fanout: how long one workflow takes that starts a thousand children at once and gathers their results."""

from __future__ import annotations

import time

from benchmarks.common import Bench, Figures, Workload
from benchmarks.meter import metered
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
        async with app:
            bench.phase("running")
        async with metered(bench, schema) as meter, app, app.executor(**bench.executor_settings):
            await (await fan.enqueue(_WARM_UP)).result()
            began, busy = time.perf_counter(), time.process_time()
            result = await (await fan.enqueue(count)).result()
            took, busy = time.perf_counter() - began, time.process_time() - busy
            if result != sum(number * number for number in range(count)):
                raise AssertionError(f"the children gave {result}; the time means nothing")
    return {
        "seconds": took,
        "children_per_s": count / took,
        **meter.figures(count, "child", busy),
    }


WORKLOAD = Workload(
    name="fanout",
    question="one workflow that gathers so many children: how long from its enqueue to its result?",
    run=_run,
    count=1_000,
    unit="children",
    main=("seconds",),
)
