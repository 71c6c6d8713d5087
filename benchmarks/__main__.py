"""The command line: `python -m benchmarks [WORKLOAD…] [--json] [--repeat N] [--dsn …]`, and `compare` with others."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

import psycopg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import (
    backlog,
    bulk,
    compare,
    drain,
    enqueue,
    fanout,
    held,
    history,
    idle,
    instances,
    jobs,
    latency,
    limit,
    multi,
    pool,
    record,
    reference,
    slow,
    steps,
    waiting,
)
from benchmarks.common import Bench, Figures, Workload, environment, serve
from benchmarks.tables import median_of, table_of
from durable.errors import DurableError

WORKLOADS: Final[Mapping[str, Workload]] = {
    workload.name: workload
    for workload in (
        drain.WORKLOAD,
        reference.WORKLOAD,
        latency.WORKLOAD,
        enqueue.WORKLOAD,
        bulk.WORKLOAD,
        pool.WORKLOAD,
        jobs.WORKLOAD,
        instances.WORKLOAD,
        steps.WORKLOAD,
        fanout.WORKLOAD,
        waiting.WORKLOAD,
        backlog.WORKLOAD,
        history.WORKLOAD,
        held.WORKLOAD,
        idle.WORKLOAD,
        multi.WORKLOAD,
        slow.WORKLOAD,
        limit.WORKLOAD,
    )
}


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    known = "\n".join(f"  {w.name:10} {w.question} ({w.count:,} {w.unit})" for w in WORKLOADS.values())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure durable on one server; `compare` does so beside other libraries.\n"
        f"Workloads, all by default:\n{known}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="which ones")
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line of stdout: the "
                        "figures of the workload, or of several under their names")  # fmt: skip
    parser.add_argument("--repeat", type=int, metavar="N", help="runs of each, for the median (default 3; 1 for "
                        "those that repeat themselves)")  # fmt: skip
    parser.add_argument("--count", type=int, metavar="N", help="size of each run instead of the "
                        "workload's own (held: 120 seconds where all are run)")  # fmt: skip
    parser.add_argument("--concurrency", type=int, metavar="N", help="handlers at once (default: the executor's own)")
    parser.add_argument("--save", action="store_true", help="keep the figures for RESULTS.md, which "
                        "`python -m benchmarks.results` writes")  # fmt: skip
    parser.add_argument("--dsn", help="the server (default: DURABLE_DSN, else the embedded one with durable settings)")
    given = parser.parse_args(argv)
    unknown = sorted(set(given.workloads) - WORKLOADS.keys())
    if unknown:
        parser.error(f"unknown workload {unknown[0]!r}; there are {', '.join(WORKLOADS)}")
    least = max(workload.least for workload in WORKLOADS.values() if workload.name in (given.workloads or WORKLOADS))
    if (given.repeat is not None and given.repeat < 1) or (given.count is not None and given.count < least):
        parser.error(f"--repeat must be at least 1, and --count at least {least}")
    return given


def main(argv: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    if list(words[:1]) == ["compare"]:
        return compare.main(words[1:])
    given = arguments(words)
    chosen = [WORKLOADS[name] for name in given.workloads or WORKLOADS]
    console, notes = Console(), Console(stderr=True)
    try:
        with serve(given.dsn or os.environ.get("DURABLE_DSN")) as dsn:
            results, facts = measure(dsn, chosen, given, notes)
    except (DurableError, psycopg.OperationalError) as error:
        notes.print(f"[red]{type(error).__name__}:[/red] {error}", highlight=False)
        return 1
    if given.save:
        record.keep(results, facts)
    if given.json:
        figures = {name: {**result, **facts} for name, result in results.items()}
        print(json.dumps(figures[chosen[0].name] if len(chosen) == 1 else figures))
        return 0
    for workload in chosen:
        result = results[workload.name]
        console.print(f"[bold]{workload.name}[/bold]  {workload.question} ({result['count']:,} {workload.unit})")
        console.print(table_of(workload, result))
    console.print(" · ".join(f"{name} {value}" for name, value in facts["versions"].items()), style="dim")
    console.print(" · ".join(f"{name} {value}" for name, value in facts["settings"].items()), style="dim")
    return 0


def measure(
    dsn: str, chosen: Sequence[Workload], given: argparse.Namespace, notes: Console
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The figures of each workload, and the facts of the place they were measured in."""
    with ExitStack() as stack:
        # Drawn between the phases only: a bar that draws itself would be measured too.
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        progress = stack.enter_context(Progress(*columns, console=notes, auto_refresh=False, transient=True))
        bar = progress.add_task("", total=sum(given.repeat or workload.repeat for workload in chosen))

        def say(text: str) -> None:
            progress.update(bar, description=text, refresh=True)

        bench = stack.enter_context(Bench(dsn, say, concurrency=given.concurrency))
        results: dict[str, dict[str, Any]] = {}
        for workload in chosen:
            count = given.count or (workload.count if given.workloads else workload.brief or workload.count)
            repeat = given.repeat or workload.repeat
            runs: list[Figures] = []
            for number in range(1, repeat + 1):
                bench.title = f"{workload.name} {number}/{repeat}"
                bench.details = {}
                runs.append(asyncio.run(workload.run(bench, count)))
                progress.advance(bar)
            results[workload.name] = {"workload": workload.name, "count": count, **median_of(runs), "runs": runs,
                                      "details": bench.details}  # fmt: skip
        return results, environment(bench)


if __name__ == "__main__":
    sys.exit(main())
