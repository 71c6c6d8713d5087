"""The command line: `python -m examples.census [FOLDER] [--crash] [--fail-once] [--dsn …] [--json]`."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import secrets
import sys
import time
import warnings
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from psycopg import sql
from rich.console import Console
from rich.logging import RichHandler

from durable import Durable, DurableError
from examples.census.counting import LIBRARY, Counts, count_file, sources_of
from examples.census.run import Outcome, run_here, run_with_crash
from examples.census.show import bar, report, summary
from examples.census.tasks import MOST_FILES, Job, census_app
from storage_postgres import PostgresStorage


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.census",
        description="Count what is in the Python files of a folder, by one durable execution for each file, and again "
        "directly; exits with 0 if both counts are equal.",
    )
    parser.add_argument("folder", nargs="?", type=Path, default=LIBRARY, help="default: the standard library")
    parser.add_argument("--crash", action="store_true", help="run two executor processes, and kill one at work")
    parser.add_argument("--fail-once", action="store_true", help="let the first file's child fail at its first attempt")
    parser.add_argument("--pause", type=float, default=0.0, metavar="SECONDS", help="rest after each file (default 0)")
    parser.add_argument("--dsn", help="the database (default: DURABLE_DSN, else an embedded one under ./.durable)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, and the rest to stderr")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    given = arguments(argv)
    console = Console(stderr=given.json)
    folder = given.folder.resolve()
    files = sources_of(folder)
    if not 1 <= len(files) <= MOST_FILES:
        console.print(
            f"{folder} holds {len(files):,} Python files; a census takes 1 to {MOST_FILES:,}, because that is the most "
            "children one parent may start. Give another folder.",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        return 1
    # Sources are read as they are: their questionable escapes are theirs.
    warnings.simplefilter("ignore", SyntaxWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    logging.basicConfig(format="%(message)s", handlers=[RichHandler(console=console, show_time=False, show_path=False)])
    if not given.crash:
        logging.getLogger("durable").setLevel(logging.INFO)
    try:
        outcome = asyncio.run(take_census(given, folder, files, console))
    except DurableError as error:
        console.print(f"[red]{type(error).__name__}:[/red] {error}", highlight=False)
        return 1
    direct, direct_seconds = count_directly(files, console)
    report(console, outcome, direct, direct_seconds)
    if given.json:
        print(json.dumps(summary(folder, outcome, direct, direct_seconds)))
    return 0 if outcome.census.counts == direct and not outcome.evidence.faults else 1


async def take_census(given: argparse.Namespace, folder: Path, files: list[Path], console: Console) -> Outcome:
    console.print(f"[bold]A census of {len(files):,} Python files[/bold] below {folder}", highlight=False)
    schema = f"census_{secrets.token_hex(4)}"
    job = Job(str(folder), fails_once=given.fail_once, pause=given.pause)
    async with own_tables(given.dsn, schema) as app:
        with bar(console, "by executions", len(files)) as show:
            if not given.crash:
                return await run_here(app, job, files, show)

            def say(text: str) -> None:
                console.print(f"  [cyan]{text}[/cyan]", highlight=False)

            return await run_with_crash(app, given.dsn, schema, job, files, show, say)


@asynccontextmanager
async def own_tables(dsn: str | None, schema: str) -> AsyncGenerator[Durable]:
    """The app, open as a client, on a schema of this run's own that is dropped at the end."""
    app = census_app(dsn, schema)
    async with app:
        try:
            yield app
        finally:
            if isinstance(app.storage, PostgresStorage):
                with app.storage.connections.connect() as connection:
                    connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(schema)))


def count_directly(files: list[Path], console: Console) -> tuple[Counts, float]:
    """The same counts by a plain loop, and the seconds that took."""
    began = time.monotonic()
    counts: list[Counts] = []
    with bar(console, "directly     ", len(files)) as show:
        for path in files:
            counts.append(count_file(path))
            show(len(counts), len(files))
    return Counts.total(counts), time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
