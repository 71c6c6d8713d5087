"""The command line of the fault runs: `kill` and `freeze`. Exits with 1 when a promise was broken."""

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
from tests.faults.kill import KillOptions, run_kill
from tests.faults.progress import Progress
from tests.faults.server import database

__all__ = ["main"]

LIMIT = 480.0
"""Seconds for the load; with the start of the server, a minute of rest at the end and the checks below ten minutes."""


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    seed = SystemRandom().randrange(2**31) if options.seed is None else options.seed
    progress = Progress()
    progress.say(f"seed {seed}")
    folder = Path(tempfile.mkdtemp(prefix="durable-ledgers-"))
    with database(options.dsn, f"faults_{seed}") as opened:
        report: dict[str, Any]
        if options.fault == "kill":
            kill = KillOptions(options.executions, options.kills, seed, options.lease, options.limit)
            report = run_kill(kill, opened, folder, progress)
        else:
            freeze = FreezeOptions(options.executions, seed, options.lease, options.limit)
            report = run_freeze(freeze, opened, folder, progress)
    has_failed = bool(report["problem_count"])
    if has_failed:
        progress.say(f"the ledgers and logs are kept in {folder}")
    else:
        shutil.rmtree(folder)
    sys.stdout.write(json.dumps(report) + "\n" if options.json else _as_text(report))
    return 1 if has_failed else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    faults = parser.add_subparsers(dest="fault", required=True)
    kill = faults.add_parser("kill", help="kill executors with SIGKILL while they run executions")
    kill.add_argument("--executions", type=int, default=5000, help="root executions to enqueue (default 5000)")
    kill.add_argument("--kills", type=int, default=20, help="kills that must each interrupt a handler (default 20)")
    kill.add_argument("--lease", type=float, default=3.0, help="seconds (default 3)")
    freeze = faults.add_parser("freeze", help="freeze executors past their leases, and thaw them")
    freeze.add_argument("--executions", type=int, default=60, help="executions to re-claim while frozen (default 60)")
    freeze.add_argument("--lease", type=float, default=2.0, help="seconds (default 2)")
    for each in (kill, freeze):
        each.add_argument("--seed", type=int, help="repeats a run's choices; drawn and printed when not given")
        each.add_argument("--dsn", help="a server to use; without it a temporary one with durable settings is started")
        each.add_argument("--limit", type=float, default=LIMIT, help=f"seconds for the load (default {LIMIT:g})")
        each.add_argument("--json", action="store_true", help="print the report as one JSON object")
    return parser.parse_args(arguments)


def _as_text(report: dict[str, Any]) -> str:
    return "".join(f"{name:24} {value}\n" for name, value in report.items())


if __name__ == "__main__":
    sys.exit(main())
