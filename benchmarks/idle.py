"""Idle: what an executor with default settings asks of the server and of its own process while it has nothing to do."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from benchmarks.bulk import declare_noop
from benchmarks.common import Bench, Figures, Workload

__all__ = ["WORKLOAD"]

_SETTLING: Final = 3.0
"""Seconds after the start that do not count; less where less is measured."""


async def _run(bench: Bench, count: int) -> Figures:
    with bench.schema() as schema:
        app = bench.app(schema)
        declare_noop(app)
        async with app, app.executor():
            bench.phase("settling")
            await asyncio.sleep(min(_SETTLING, count / 4))
            bench.phase("idle")
            before, counters = _calls(bench), bench.counters()
            began, busy = time.perf_counter(), time.process_time()
            await asyncio.sleep(count)
            took, busy = time.perf_counter() - began, time.process_time() - busy
            after, later = _calls(bench), bench.counters()
    bench.details["counted_by"] = "pg_stat_statements" if bench.statements.is_there else "commits, some seconds late"
    # Two of the calls are ours: the reading of the calls itself, and of the counters.
    statements = after - before - 2 if bench.statements.is_there else later.commits - counters.commits - 2
    return {
        "statements_per_s": max(statements, 0) / took,
        "cpu_s_per_min": busy / took * 60,
        "wal_bytes_per_s": (later.wal_bytes - counters.wal_bytes) / took,
    }


def _calls(bench: Bench) -> int:
    """All statements of the database so far."""
    return sum(spent.calls for spent in bench.statements.snapshot().values())


WORKLOAD = Workload(
    name="idle",
    question="an executor that has nothing to do: what does it ask of the server, and of its own process?",
    run=_run,
    count=30,
    unit="seconds",
    main=("statements_per_s", "cpu_s_per_min"),
    repeat=1,
    least=1,
)
