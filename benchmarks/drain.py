"""Drain: how fast one executor works off no-op executions that are waiting, beside a bare loop on a minimal table."""

from __future__ import annotations

from psycopg import sql

from benchmarks.common import Bench, Countdown, Figures, Workload, drained
from benchmarks.limits import drain_limit
from benchmarks.meter import metered
from durable import Durable, Task

__all__ = ["WORKLOAD", "check_results", "declare_counted"]


def declare_counted(app: Durable, left: Countdown) -> Task[[int], int]:
    @app.task
    async def noop(number: int) -> int:
        left.one()
        return number

    return noop


async def _run(bench: Bench, count: int) -> Figures:
    with bench.schema() as limit_schema:
        bench.phase("the bare loop")
        limit = await drain_limit(bench.dsn, limit_schema, count)
    with bench.schema() as schema:
        left = Countdown(count)
        app = bench.app(schema)
        noop = declare_counted(app, left)
        bench.phase("enqueueing")
        async with app:
            await noop.enqueue_many(range(count))
        bench.phase("draining")
        async with metered(bench, schema) as meter:
            took, busy = await drained(app, left, bench)
        check_results(bench, schema, count)
    rate = count / took
    return {
        "rate_per_s": rate,
        "limit_per_s": limit,
        "ratio": rate / limit,
        **meter.figures(count, "execution", busy),
    }


def check_results(bench: Bench, schema: str, count: int) -> None:
    """Every execution completed, with a result of its own."""
    query = sql.SQL("select count(distinct output) from {} where status = 'completed'")
    (stored,) = bench.one(query.format(sql.Identifier(schema, "executions")))
    if stored != count:
        raise AssertionError(f"{stored} of {count} executions have their result; the rate means nothing")


WORKLOAD = Workload(
    name="drain",
    question="no-op executions that wait, one executor: how many per second?",
    run=_run,
    count=20_000,
    unit="executions",
    main=("rate_per_s", "limit_per_s", "ratio"),
)
