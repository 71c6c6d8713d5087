"""History: whether work goes on as fast beside very many finished executions, and while retention deletes them."""

from __future__ import annotations

from datetime import timedelta
from statistics import median
from typing import Any, Final, NamedTuple

from psycopg import sql

from benchmarks.common import Bench, Countdown, Figures, Workload
from benchmarks.copies import copied, set_aside, settled_in
from benchmarks.drain import declare_counted
from benchmarks.meter import metered
from benchmarks.pace import Alone, pace
from durable import Durable, Task

__all__ = ["WORKLOAD"]

_TAKEN: Final = 20_000
_ROUNDS: Final = 3
_ENDED: Final = (timedelta(days=60), timedelta(hours=1))
"""Half of them are older than an executor keeps them by default."""
_RETENTION: Final[dict[str, Any]] = {"retention": "30d", "upkeep_interval": "100ms"}
"""Without a pause between its steps, so that it runs for as long as the load."""
_DELETED = sql.SQL("""
select coalesce(sum(n_tup_del), 0)::bigint from pg_catalog.pg_stat_user_tables
where schemaname = {} and relname = 'executions'
""")


class _Round(NamedTuple):
    alone: float
    beside: float
    retiring: float
    retired: int


class _Place:
    """The schema with the finished executions, and the app that works in it."""

    def __init__(self, bench: Bench, schema: str) -> None:
        self._bench = bench
        self._schema = schema
        self._left = Countdown()
        self._app: Durable = bench.app(schema)
        self._noop: Task[[int], int] = declare_counted(self._app, self._left)

    async def template(self) -> str:
        """An execution that ran to its end."""
        self._left.begin(1)
        async with self._app, self._app.executor():
            handle = await self._noop.enqueue(0)
            await handle.result()
        return set_aside(self._bench, self._schema)

    async def pace(self, count: int, **settings: Any) -> tuple[float, Figures]:
        async with self._app:
            await self._noop.enqueue_many(range(count))
        await self._bench.left()
        self._bench.checkpoint()
        async with metered(self._bench, self._schema) as meter:
            rate, busy = await pace(self._bench, self._app, self._left, count, **settings)
        return rate, meter.figures(count, "execution", busy)

    def deleted(self) -> int:
        return int(self._bench.one(_DELETED.format(sql.Literal(self._schema)))[0])


async def _run(bench: Bench, count: int) -> Figures:
    taken = max(min(_TAKEN, count // 10), 1)
    points: list[dict[str, float]] = []
    figures: Figures = {}
    with bench.schema() as schema, bench.schema() as other_schema:
        solo, place = Alone(bench, other_schema), _Place(bench, schema)
        template = await place.template()
        made = 0
        for size in (count // 10, count):
            copied(bench, schema, template, size - made, ages=_ENDED)
            made = size
            settled_in(bench, schema)
            rounds: list[_Round] = []
            for number in range(_ROUNDS):
                bench.phase(f"alone, beside {size:,}, and while these are deleted: {number + 1} of {_ROUNDS}")
                alone = await solo.pace(taken)
                beside, figures = await place.pace(taken, retention=None)
                statements = bench.details["statements"]
                deleted = place.deleted()
                retiring, _ = await place.pace(taken, **_RETENTION)
                bench.details["statements"] = statements
                rounds.append(_Round(alone, beside, retiring, place.deleted() - deleted))
            figures = _summed(rounds) | figures
            points.append({"finished": size, **_summed(rounds)})
    first = {"finished": 0, "rate_per_s": figures["drain_per_s"], "drain_per_s": figures["drain_per_s"], "ratio": 1.0}
    bench.details["points"] = [first, *points]
    return figures


def _summed(rounds: list[_Round]) -> Figures:
    """The medians; a ratio is that of each round with its own drain, then the median."""
    return {
        "rate_per_s": median(r.beside for r in rounds),
        "drain_per_s": median(r.alone for r in rounds),
        "ratio": median(r.beside / r.alone for r in rounds),
        "retention_rate_per_s": median(r.retiring for r in rounds),
        "retention_ratio": median(r.retiring / r.alone for r in rounds),
        "retired_beside": sum(r.retired for r in rounds),
    }


WORKLOAD = Workload(
    name="history",
    question="20,000 beside so many finished ones, and while these are deleted, and alone: how much slower?",
    run=_run,
    count=10_000_000,
    unit="finished executions",
    main=("rate_per_s", "drain_per_s", "ratio", "retention_ratio"),
    repeat=1,
)
