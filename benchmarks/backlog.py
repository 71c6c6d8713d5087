"""Backlog: whether the first of very many that wait are worked off as fast as when they wait alone."""

from __future__ import annotations

from datetime import timedelta
from statistics import median
from typing import Final

from psycopg import sql

from benchmarks.common import Bench, Countdown, Figures, Workload
from benchmarks.copies import copied, set_aside, settled_in
from benchmarks.drain import declare_counted
from benchmarks.meter import metered
from benchmarks.pace import Alone, pace

__all__ = ["WORKLOAD"]

_TAKEN: Final = 20_000
_ROUNDS: Final = 3
_WAITED: Final = (timedelta(hours=1), timedelta(0))


async def _run(bench: Bench, count: int) -> Figures:
    taken = max(min(_TAKEN, count // 10), 1)
    points: list[dict[str, float]] = [{"pending": taken, "ratio": 1.0}]
    figures: Figures = {}
    with bench.schema() as schema, bench.schema() as other_schema:
        solo, left = Alone(bench, other_schema), Countdown()
        app = bench.app(schema)
        noop = declare_counted(app, left)
        async with app:
            await noop.enqueue(0)
        template = set_aside(bench, schema)
        for size in (max(count // 10, taken * 2), count):
            rates: list[tuple[float, float]] = []
            for number in range(_ROUNDS):
                copied(bench, schema, template, size - _pending(bench, schema), ages=_WAITED)
                settled_in(bench, schema)
                bench.phase(f"alone, and as the first of {size:,}: {number + 1} of {_ROUNDS}")
                alone = await solo.pace(taken)
                bench.checkpoint()
                async with metered(bench, schema) as meter:
                    rate, busy = await pace(bench, app, left, taken)
                rates.append((rate, alone))
                figures = meter.figures(taken, "execution", busy)
            found = _summed(rates)
            points.append({"pending": size, **found})
            figures = found | figures
    points[0] |= {"rate_per_s": figures["drain_per_s"], "drain_per_s": figures["drain_per_s"]}
    bench.details["points"] = points
    return figures


def _summed(rates: list[tuple[float, float]]) -> Figures:
    """The medians; the ratio is that of each round with its own drain, then the median."""
    return {
        "rate_per_s": median(rate for rate, _ in rates),
        "drain_per_s": median(alone for _, alone in rates),
        "ratio": median(rate / alone for rate, alone in rates),
    }


def _pending(bench: Bench, schema: str) -> int:
    query = sql.SQL("select count(*) from {} where status = 'ready'")
    return int(bench.one(query.format(sql.Identifier(schema, "executions")))[0])


WORKLOAD = Workload(
    name="backlog",
    question="the first 20,000 of so many that wait, beside 20,000 that wait alone: how much slower?",
    run=_run,
    count=1_000_000,
    unit="executions that wait",
    main=("rate_per_s", "drain_per_s", "ratio"),
    repeat=1,
)
