"""Slow: the drain where each flush of the log takes as long as on slower volumes, beside the bare loop there.

The delay is the server's own: `commit_delay` with `commit_siblings = 0` makes the session that is about to flush the
log wait that long before it does, and those that commit meanwhile are flushed with it, as with a slow fsync. What only
reads is not delayed.
"""

from __future__ import annotations

from typing import Final

from benchmarks.common import Bench, Countdown, Figures, Workload, drained
from benchmarks.drain import check_results, declare_counted
from benchmarks.limits import drain_limit, enqueue_limit
from benchmarks.meter import metered

__all__ = ["WORKLOAD"]

_MILLISECONDS: Final = (0, 1, 5)
_COMMITS: Final = 200
"""To learn how long a commit takes."""


async def _at(bench: Bench, milliseconds: int, count: int) -> Figures:
    dsn = bench.with_options(f"-c commit_delay={milliseconds * 1000} -c commit_siblings=0")
    bench.phase(f"{milliseconds} ms more for each flush")
    with bench.schema() as schema:
        commits = await enqueue_limit(dsn, schema, min(_COMMITS, count))
    with bench.schema() as schema:
        limit = await drain_limit(dsn, schema, count)
    with bench.schema() as schema:
        left = Countdown(count)
        app = bench.app(schema, dsn=dsn)
        noop = declare_counted(app, left)
        async with app:
            await noop.enqueue_many(range(count))
        async with metered(bench, schema) as meter:
            took, busy = await drained(app, left, bench)
        check_results(bench, schema, count)
    found = {
        "rate_per_s": count / took,
        "limit_per_s": limit,
        "ratio": count / took / limit,
        "commit_ms": 1000 / commits,
    }
    return found | meter.figures(count, "execution", busy)


async def _run(bench: Bench, count: int) -> Figures:
    found = {milliseconds: await _at(bench, milliseconds, count) for milliseconds in _MILLISECONDS}
    bench.details["how"] = "commit_delay of the server with commit_siblings = 0: each flush of the log waits before it"
    bench.details["points"] = [{"added_ms": milliseconds, **figures} for milliseconds, figures in found.items()]
    figures: Figures = {}
    for milliseconds, each in found.items():
        figures |= {f"{name}_at_{milliseconds}_ms": each[name] for name in ("rate_per_s", "limit_per_s", "ratio")}
        figures[f"commit_ms_at_{milliseconds}_ms"] = each["commit_ms"]
    return figures | {
        f"kept_at_{milliseconds}_ms": found[milliseconds]["rate_per_s"] / found[0]["rate_per_s"]
        for milliseconds in _MILLISECONDS[1:]
    }


WORKLOAD = Workload(
    name="slow",
    question="the drain where a flush of the log takes 0, 1 and 5 ms more (commit_delay): how much is kept?",
    run=_run,
    count=20_000,
    unit="executions",
    main=tuple(f"rate_per_s_at_{milliseconds}_ms" for milliseconds in _MILLISECONDS) + ("kept_at_5_ms",),
)
