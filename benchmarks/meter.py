"""What a stretch of work cost: WAL, commits, dead tuples and statements by cost, beside the CPU of this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from psycopg import sql

from benchmarks.common import Bench, Counters, Figures
from benchmarks.statements import Spent, by_cost

__all__ = ["Meter", "metered"]

_DEAD = sql.SQL("select coalesce(sum(n_dead_tup), 0)::bigint from pg_catalog.pg_stat_user_tables where schemaname = {}")


@dataclass(slots=True)
class Meter:
    """Filled when its block has ended."""

    bench: Bench
    wal_bytes: int = 0
    commits: int = 0
    dead_tuples: int = 0
    before: dict[int, Spent] = field(default_factory=dict)
    after: dict[int, Spent] = field(default_factory=dict)

    def figures(self, count: int, unit: str, busy: float | None = None) -> Figures:
        """Per execution, or whatever the unit is; `busy` is the CPU seconds of this process, None: not known.

        Keeps the statements by cost among the details of the run.
        """
        self.bench.details["statements"] = by_cost(self.before, self.after, count)
        cpu = {} if busy is None else {f"cpu_us_per_{unit}": busy / count * 1e6}
        return cpu | {
            f"wal_bytes_per_{unit}": self.wal_bytes / count,
            f"commits_per_{unit}": self.commits / count,
            "dead_tuples": self.dead_tuples,
        }


@asynccontextmanager
async def metered(bench: Bench, schema: str) -> AsyncGenerator[Meter]:
    """Meter what happens in the block. The app is opened and closed in it: a session reports as it ends."""
    await bench.left()
    meter = Meter(bench, before=bench.statements.snapshot())
    counters = bench.counters()
    yield meter
    await bench.left()
    after = bench.counters()
    meter.wal_bytes, meter.commits = Counters(*(b - a for a, b in zip(counters, after, strict=True)))
    meter.after = bench.statements.snapshot()
    (meter.dead_tuples,) = bench.one(_DEAD.format(sql.Literal(schema)))
