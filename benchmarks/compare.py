"""`python -m benchmarks compare`: the same workloads by other libraries and by ours, in turns on one server."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psycopg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.common import Bench, Figures, environment, serve
from benchmarks.peers.catalogue import LIMIT, OURS, PEERS
from benchmarks.peers.children import ProgramFailed, measured
from benchmarks.peers.databases import Databases
from benchmarks.peers.environments import Environment, cache_folder, is_ready, node_version, prepare
from benchmarks.peers.figures import COMPARISONS, Comparison
from benchmarks.peers.peer import PROMISES, Peer
from benchmarks.peers.plan import Run, plan
from benchmarks.peers.report import report
from benchmarks.peers.results import Results
from durable.errors import DurableError

__all__ = ["main"]

_OUTPUT: Final = Path(__file__).resolve().parent / "peers.json"
_RUN_S: Final = 300.0
"""Seconds that one program may take, installation aside."""


def _arguments(argv: Sequence[str], peers: Mapping[str, Peer]) -> argparse.Namespace:
    workloads = "\n".join(f"  {c.name:10} {c.question} ({c.count:,} {c.unit})" for c in COMPARISONS.values())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks compare",
        description="Measure durable beside other libraries on one server, each in a database and an environment of "
        "its own.\nThe environments are made at the first use, which needs the network, and kept in\n"
        f"$XDG_CACHE_HOME/durable-benchmarks. Peers: {', '.join(peers)}.\nWorkloads:\n{workloads}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peers", metavar="A,B", help="which ones beside ours (default: all)")
    parser.add_argument("--workloads", metavar="A,B", help="which ones (default: all)")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs of each, for the median (default 3)")
    parser.add_argument("--count", type=int, metavar="N", help="size of each run instead of the workload's own")
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line of stdout")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write that object here (default: "
                        "benchmarks/peers.json, if nothing is left out)")  # fmt: skip
    parser.add_argument("--dsn", help="the server, as a user that may create databases (default: DURABLE_DSN, else "
                        "the embedded one with durable settings)")  # fmt: skip
    given = parser.parse_args(argv)
    for option, there in (("peers", peers), ("workloads", COMPARISONS)):
        names = getattr(given, option)
        chosen = list(there) if names is None else [name for name in names.split(",") if name]
        unknown = sorted(set(chosen) - there.keys())
        if unknown:
            parser.error(f"--{option}: unknown {unknown[0]!r}; there are {', '.join(there)}")
        setattr(given, option, [there[name] for name in there if name in chosen])
    if given.repeat < 1 or (given.count is not None and given.count < 1):
        parser.error("--repeat and --count must be at least 1")
    if given.output is None and given.count is None and (len(given.peers), len(given.workloads)) == (
        len(peers), len(COMPARISONS),
    ):  # fmt: skip
        given.output = _OUTPUT
    return given


def main(argv: Sequence[str], known: Mapping[str, Peer] = PEERS) -> int:
    """Compare with those of `known` that the arguments name. What comes back is the exit code."""
    given = _arguments(argv, known)
    console, notes = Console(), Console(stderr=True)
    peers: list[Peer] = given.peers
    results = Results(given.workloads, [OURS, *peers, LIMIT])
    try:
        with serve(given.dsn or os.environ.get("DURABLE_DSN")) as dsn:
            asyncio.run(_Comparing(dsn, results, notes).run(given.repeat, given.count))
            facts = _facts(dsn, given)
    except (DurableError, psycopg.OperationalError, psycopg.errors.InsufficientPrivilege) as error:
        notes.print(f"[red]{type(error).__name__}:[/red] {error}", highlight=False)
        return 1
    found = {**facts, "peers": results.as_object()}
    if given.output is not None:
        given.output.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        notes.print(f"written to {given.output}", highlight=False)
    if given.json:
        print(json.dumps(found))
        return 0
    for piece in report(results, OURS, peers):
        console.print(piece)
    console.print(" · ".join(f"{name} {value}" for name, value in facts["settings"].items()), style="dim")
    return 0


def _facts(dsn: str, given: argparse.Namespace) -> dict[str, Any]:
    """When, where and how it was measured; nothing that names the machine or its folders."""
    comparisons: list[Comparison] = given.workloads
    with Bench(dsn, lambda _: None) as bench:
        place = environment(bench)
    if (node := asyncio.run(node_version())) is not None:
        place["versions"]["node"] = node
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "system": f"{platform.system()} {platform.machine()}",
        "repeat": given.repeat,
        **place,
        "questions": PROMISES,
        "workloads": {
            comparison.name: {
                "question": comparison.question,
                "count": given.count or comparison.count,
                "unit": comparison.unit,
                "main": list(comparison.main),
                "is_more_better": comparison.is_more_better,
            }
            for comparison in comparisons
        },
    }


class _Comparing:
    """Installs, runs and collects; what goes wrong with one peer is written down, and the others go on."""

    def __init__(self, dsn: str, results: Results, notes: Console) -> None:
        self._dsn = dsn
        self._results = results
        self._notes = notes
        self._environments: dict[str, Environment] = {}

    async def run(self, repeat: int, count: int | None) -> None:
        with ExitStack() as stack:
            # Drawn between the runs only: a bar that draws itself would be measured too.
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            progress = stack.enter_context(Progress(*columns, console=self._notes, auto_refresh=False, transient=True))
            bar = progress.add_task("", total=None)

            def say(text: str) -> None:
                progress.update(bar, description=text, refresh=True)

            for peer in self._results.peers:
                say(peer.name if is_ready(peer, cache_folder()) else f"installing {peer.name} {peer.version}")
                await self._prepare(peer)
            there = [peer for peer in self._results.peers if peer.name in self._environments]
            runs = list(plan(self._results.comparisons, there, repeat=repeat, count=count))
            progress.reset(bar, total=len(runs))
            databases = stack.enter_context(Databases(self._dsn))
            for run in runs:
                say(f"{run.comparison.name} {run.number}/{repeat}: {run.peer.name}")
                await self._one(run, databases)
                progress.advance(bar)

    async def _prepare(self, peer: Peer) -> None:
        try:
            self._environments[peer.name] = await prepare(peer, cache_folder())
        except (ProgramFailed, OSError, DurableError) as failure:
            self._results.not_installed[peer.name] = str(failure)
            self._notes.print(f"[red]{peer.name} is not installed:[/red] {failure}", highlight=False)

    async def _one(self, run: Run, databases: Databases) -> None:
        try:
            self._results.add(run, await self._figures(run, databases))
        except ProgramFailed as failure:
            self._results.fail(run, str(failure))
            self._notes.print(f"[red]{run.peer.name}, {run.comparison.name}:[/red] {failure}", highlight=False)

    async def _figures(self, run: Run, databases: Databases) -> Figures:
        there = self._environments[run.peer.name]
        counted: dict[str, float] = {}
        with databases.fresh() as (database, place):

            async def count() -> None:
                counted.update(await databases.count(database, run.count))

            found = await measured(
                [*there.command, run.comparison.name, str(run.count)],
                {**there.variables, **place, "PACE": "default" if run.is_default_pace else ""},
                limit_s=_RUN_S,
                at_ready=count if run.comparison.name == "idle" else None,
            )
        return run.comparison.figures({**found, **counted}, run.count)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
