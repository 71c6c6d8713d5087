"""The command line of the fault runs: kill, freeze, jobs, workflows. Exits with 1 when a promise was broken."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from random import SystemRandom
from typing import Any

from tests.faults.freeze import FreezeOptions, run_freeze
from tests.faults.jobs import JobsOptions, run_jobs
from tests.faults.kill import KillOptions, run_kill
from tests.faults.progress import Progress
from tests.faults.server import database
from tests.faults.workflows import WorkflowsOptions, run_workflows

__all__ = ["main"]

COMMANDS = ("kill", "freeze", "jobs", "workflows")
_ADDED = ("lost", "seconds", "problems", "problem_count")
LIMIT = 480.0
"""Seconds for the load; with the start of the server, a minute of rest at the end and the checks below ten minutes."""


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    seed = SystemRandom().randrange(2**31) if options.seed is None else options.seed
    progress = Progress()
    progress.say(f"seed {seed}")
    report: dict[str, Any] = {}
    for fault in options.faults or COMMANDS:
        report = _merged(report, _run(fault, options, seed, progress))
    for problem in report["problems"]:
        progress.say(problem)
    sys.stdout.write(json.dumps(report) + "\n" if options.json else _as_text(report))
    return 1 if report["problem_count"] else 0


def _run(fault: str, options: argparse.Namespace, seed: int, progress: Progress) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="durable-ledgers-"))
    with database(options.dsn, f"faults_{fault}_{seed}") as opened:
        if fault == "kill":
            kill = KillOptions(options.executions, options.kills or 20, seed, options.lease, options.limit)
            report = run_kill(kill, opened, folder, progress)
        elif fault == "jobs":
            jobs = JobsOptions(
                options.instances,
                options.seconds,
                options.least_kills,
                options.rate,
                seed,
                options.lease,
                options.limit,
            )
            report = run_jobs(jobs, opened, folder, progress)
        elif fault == "workflows":
            workflows = WorkflowsOptions(
                options.workflows, options.kills or 60, options.freezes, seed, options.lease, options.limit
            )
            report = run_workflows(workflows, opened, folder, progress)
        else:
            freeze = FreezeOptions(options.reclaims, seed, options.lease, options.limit)
            report = run_freeze(freeze, opened, folder, progress)
    if report["problem_count"]:
        progress.say(f"the ledgers and logs are kept in {folder}")
    else:
        shutil.rmtree(folder)
    return report


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Both reports as one: what both count is added up, otherwise the first one's word stands."""
    added = {name: first[name] + second[name] for name in _ADDED if name in first}
    return {**second, **first, **added}


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "faults", nargs="*", metavar="fault", help="kill, freeze, jobs, workflows; all when none is named"
    )
    parser.add_argument("--executions", type=int, default=5000, help="kill: root executions to enqueue (default 5000)")
    parser.add_argument("--kills", type=int, help="kill: kills that each interrupt a handler (default 20); "
                        "workflows: that each interrupt a turn (default 60)")  # fmt: skip
    parser.add_argument("--reclaims", type=int, default=60, help="freeze: executions to be taken over (default 60)")
    parser.add_argument("--instances", type=int, default=1000, help="jobs: instances of all kinds (default 1000)")
    parser.add_argument("--seconds", type=float, default=60.0, help="jobs: of load with a kill each (default 60)")
    parser.add_argument("--least-kills", type=int, default=50, help="jobs: fewer are a failure (default 50)")
    parser.add_argument("--rate", type=float, default=100.0, help="jobs: calls per second (default 100)")
    parser.add_argument("--workflows", type=int, default=2000, help="workflows: to be enqueued (default 2000)")
    parser.add_argument("--freezes", type=int, default=20, help="workflows: beyond a lease each (default 20)")
    parser.add_argument("--lease", type=float, default=2.0, help="seconds (default 2)")
    parser.add_argument("--seed", type=int, help="repeats a run's choices; drawn and printed when not given")
    parser.add_argument("--dsn", help="a server to use; without it a temporary one with durable settings is started")
    parser.add_argument("--limit", type=float, default=LIMIT, help=f"seconds for the load of each (default {LIMIT:g})")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    options = parser.parse_args(arguments)
    for name in options.faults:
        if name not in COMMANDS:
            parser.error(f"there is no fault {name!r}; there are {', '.join(COMMANDS)}")
    return options


def _as_text(report: dict[str, Any]) -> str:
    return "".join(f"{name:28} {value}\n" for name, value in report.items())


if __name__ == "__main__":
    sys.exit(main())
