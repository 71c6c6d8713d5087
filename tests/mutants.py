"""Breaks the SQL in one way after the other, and tells which test of the storage's contract notices each.

    python -m tests.mutants [--only NAME] [--jobs N] [--json]

Each mutation runs in a pytest of its own, with this module as its plugin: the text is changed in memory, where the
package has loaded it, and nothing on disk. Exits with 1 if a mutation is noticed by no test.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from storage_postgres import migrate, statements
from storage_postgres.testing import DSN_VARIABLE, find_server
from tests.support.mutations import MUTATIONS, Mutation, mutate_migrations, mutate_statements

OPTION: Final = "--mutation"
CONTRACT: Final = "tests/contract/test_postgres.py"
ROOT: Final = Path(__file__).parent.parent
LONGEST_RUN: Final = 900.0
"""Seconds for one run of the contract, which itself gives up on what hangs."""


class Result(NamedTuple):
    """What became of one mutation. `problem` is set where no test could tell: the run itself went wrong."""

    name: str
    caught_by: str | None
    seconds: float
    problem: str | None = None


# --- the plugin ----------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, choices=sorted(MUTATIONS), help="break the SQL in this way, in memory")


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption(OPTION)
    if name is None:
        return
    mutation = MUTATIONS[name]
    mutated = mutate_statements(mutation, statements.load())
    migrations = mutate_migrations(mutation, migrate._migrations())
    patch = pytest.MonkeyPatch()
    patch.setattr(statements, "load", lambda: mutated)
    patch.setattr(migrate, "_migrations", lambda: migrations)


# --- the command ---------------------------------------------------------------------------------------------


def run(mutation: Mutation, environment: dict[str, str]) -> Result:
    """Run the tests that should notice, then all others until one does."""
    started = time.monotonic()
    selections = [["-k", mutation.first], []] if mutation.first else [[]]
    for selection in selections:
        caught_by, problem = _run_contract(mutation, selection, environment)
        if caught_by or problem:
            break
    return Result(mutation.name, caught_by, time.monotonic() - started, problem)


def _run_contract(
    mutation: Mutation, selection: Sequence[str], environment: dict[str, str]
) -> tuple[str | None, str | None]:
    command = [sys.executable, "-m", "pytest", "-p", "tests.mutants", OPTION, mutation.name, CONTRACT, "-x", "-q"]
    command += ["--tb=no", "-rfE", "-p", "no:cacheprovider", *selection]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=LONGEST_RUN
        )
    except subprocess.TimeoutExpired:
        return None, f"its tests did not end within {LONGEST_RUN:g} s"
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    if failed:
        return failed[0].removeprefix("FAILED ").split(" - ")[0].rsplit("::", 1)[-1], None
    if done.returncode in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        return None, None
    return None, f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


@contextmanager
def _server_for_all() -> Iterator[dict[str, str]]:
    """An environment in which every pytest uses one server, which stays up between them."""
    server = find_server()
    try:
        yield {**os.environ, DSN_VARIABLE: server.maintenance_dsn}
    finally:
        server.stop()


def run_all(chosen: Sequence[Mutation], jobs: int) -> list[Result]:
    progress = Progress(
        TextColumn("mutants"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"),
        console=Console(stderr=True),
    )  # fmt: skip
    results: dict[str, Result] = {}
    with progress, _server_for_all() as environment, ThreadPoolExecutor(jobs) as pool:
        bar = progress.add_task("", total=len(chosen))
        for done in as_completed([pool.submit(run, mutation, environment) for mutation in chosen]):
            result = done.result()
            results[result.name] = result
            progress.update(bar, advance=1, description=result.name)
    return [results[mutation.name] for mutation in chosen]


def show(results: Sequence[Result], console: Console) -> None:
    table = Table("mutation", "noticed by", "seconds")
    for result in results:
        verdict = result.caught_by or ("[bold]could not be run[/]" if result.problem else "[bold red]nothing[/]")
        table.add_row(result.name, verdict, f"{result.seconds:.1f}")
    console.print(table)
    for result in results:
        if result.problem:
            console.print(f"{result.name}: {result.problem}", markup=False)
    caught = sum(result.caught_by is not None for result in results)
    console.print(f"{caught} of {len(results)} mutations were noticed")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.mutants", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", metavar="NAME", help="mutations whose name has this in it")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 4), help="how many run at once")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    options = parser.parse_args(arguments)
    chosen = [
        mutation
        for mutation in MUTATIONS.values()
        if not options.only or any(part in mutation.name for part in options.only)
    ]
    if not chosen:
        parser.error(f"no mutation has that in its name; there are: {', '.join(MUTATIONS)}")
    results = run_all(chosen, options.jobs)
    if options.json:
        print(json.dumps([result._asdict() for result in results], indent=2))
    else:
        show(results, Console())
    return 0 if all(result.caught_by for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
