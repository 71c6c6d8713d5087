"""Steps: how fast one executor runs workflows of five no-op steps, each stored before the next, beside a bare loop."""

from __future__ import annotations

from psycopg import sql

from benchmarks.common import Bench, Countdown, Figures, Workload, drained
from benchmarks.meter import metered
from benchmarks.workflow_limits import steps_limit
from durable import Durable, Workflow, WorkflowContext

__all__ = ["WORKLOAD"]

_STEPS = 5


def _declare(app: Durable, left: Countdown) -> Workflow[[int], int]:
    async def noop(number: int) -> int:
        return number + 1

    @app.workflow
    async def five(ctx: WorkflowContext, number: int) -> int:
        for _ in range(_STEPS):
            number = await ctx.step(noop, number)
        left.one()
        return number

    return five


async def _run(bench: Bench, count: int) -> Figures:
    with bench.schema() as limit_schema:
        bench.phase("the bare loop")
        limit = await steps_limit(bench.dsn, limit_schema, count, _STEPS)
    with bench.schema() as schema:
        left = Countdown(count)
        app = bench.app(schema)
        five = _declare(app, left)
        bench.phase("enqueueing")
        async with app:
            await five.enqueue_many(range(count))
        bench.phase("running")
        async with metered(bench, schema) as meter:
            took, busy = await drained(app, left, bench)
        _check(bench, schema, count)
    steps = count * _STEPS
    return {
        "steps_per_s": steps / took,
        "workflows_per_s": count / took,
        "limit_per_s": limit,
        "ratio": steps / took / limit,
        **meter.figures(steps, "step", busy),
    }


def _check(bench: Bench, schema: str, count: int) -> None:
    """Every workflow has its result, and every step a row of its own."""
    query = sql.SQL("select count(distinct output) from {} where status = 'completed'")
    (workflows,) = bench.one(query.format(sql.Identifier(schema, "executions")))
    (steps,) = bench.one(
        sql.SQL("select count(*) from {} where kind = 'step'").format(sql.Identifier(schema, "history"))
    )
    if (workflows, steps) != (count, count * _STEPS):
        raise AssertionError(f"{workflows} workflows and {steps} steps are stored; the rate means nothing")


WORKLOAD = Workload(
    name="steps",
    question="workflows of 5 no-op steps, each stored before the next begins, one executor: how many per second?",
    run=_run,
    count=1_000,
    unit="workflows",
    main=("steps_per_s", "workflows_per_s", "limit_per_s", "ratio"),
)
