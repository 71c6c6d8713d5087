"""`python -m tests.faults kill|freeze`: make the faults, print the figures, and fail where a promise was broken."""

from __future__ import annotations

import argparse
import json
import random
import sys
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.faults import freeze, kill

COMMANDS = ("kill", "freeze")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("command", nargs="*", help="kill, freeze; both when none is named")
    parser.add_argument("--executions", type=int, default=5000, help="kill: records in all trees (default 5000)")
    parser.add_argument("--kills", type=int, default=20, help="kill: processes to kill (default 20)")
    parser.add_argument("--reclaims", type=int, default=60, help="freeze: executions to be taken over (default 60)")
    parser.add_argument("--seed", type=int, help="repeat a run")
    parser.add_argument("--dsn", help="a server to use; without it one of its own is started")
    parser.add_argument("--json", action="store_true", help="print one JSON object, last")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.command if name not in COMMANDS]
    if unknown:
        parser.error(f"unknown command {unknown[0]!r}; there are {', '.join(COMMANDS)}")
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**31)
    console = Console(stderr=True)
    figures: dict[str, Any] = {}
    failures: list[str] = []
    for name in options.command or COMMANDS:
        with Progress(console=console) as progress:
            if name == "kill":
                figures |= kill.run(
                    executions=options.executions, kills=options.kills, seed=seed, dsn=options.dsn, progress=progress
                )
                failures += kill_failures(figures, options.executions, options.kills)
            else:
                figures |= freeze.run(reclaims=options.reclaims, seed=seed, dsn=options.dsn, progress=progress)
                failures += freeze_failures(figures, options.reclaims)
    _show(console, figures, failures)
    if options.json:
        print(json.dumps(figures))
    return 1 if failures else 0


def kill_failures(figures: dict[str, Any], executions: int, kills: int) -> list[str]:
    """What was broken, and where the run proves nothing because too few faults hit."""
    broken = [
        f"{name} is {figures[name]}" for name in ("lost", "duplicated_results", "open_after_60s") if figures[name]
    ]
    if figures["executions"] < executions:
        broken.append(f"only {figures['executions']} executions")
    if figures["kills"] < kills:
        broken.append(f"the work ended after {figures['kills']} of {kills} kills")
    if figures["interrupted"] < kills:
        broken.append(f"{figures['kills']} kills interrupted only {figures['interrupted']} executions")
    return broken


def freeze_failures(figures: dict[str, Any], reclaims: int) -> list[str]:
    broken = [f"{name} is {figures[name]}" for name in ("late_writes_accepted", "lost") if figures[name]]
    if figures["reclaimed_while_frozen"] < reclaims:
        broken.append(f"only {figures['reclaimed_while_frozen']} of {reclaims} were claimed again")
    if figures["late_writes_refused"] < figures["reclaimed_while_frozen"]:
        broken.append(f"only {figures['late_writes_refused']} late writes were tried")
    return broken


def _show(console: Console, figures: dict[str, Any], failures: list[str]) -> None:
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, str(value))
    console.print(table)
    for failure in failures:
        console.print(f"[red]failed: {failure}[/red]")


if __name__ == "__main__":
    sys.exit(main())
