"""Limit: the bare loops alone, to know the machine and the server before anything is said of durable."""

from __future__ import annotations

from benchmarks.common import Bench, Figures, Workload
from benchmarks.limits import bulk_limit, commits_limit, copy_limit, drain_limit

__all__ = ["WORKLOAD"]


async def _run(bench: Bench, count: int) -> Figures:
    figures: Figures = {}
    with bench.schema() as schema:
        bench.phase("claim loop")
        figures["claim_loop_per_s"] = await drain_limit(bench.dsn, schema, count)
    for connections in (1, 8, 32):
        with bench.schema() as schema:
            bench.phase(f"commits of {connections}")
            figures[f"commits_{connections}_per_s"] = await commits_limit(
                bench.dsn, schema, max(count // 4, connections), connections
            )
    with bench.schema() as schema:
        bench.phase("unnest")
        figures["unnest_per_s"] = await bulk_limit(bench.dsn, schema, count)
    with bench.schema() as schema:
        bench.phase("copy")
        figures["copy_per_s"] = await copy_limit(bench.dsn, schema, count)
    return figures


WORKLOAD = Workload(
    name="limit",
    question="bare psycopg on a minimal table: jobs claimed and completed, single commits, rows in bulk, per second",
    run=_run,
    count=20_000,
    unit="rows",
    main=("claim_loop_per_s", "commits_1_per_s", "unnest_per_s", "copy_per_s"),
)
