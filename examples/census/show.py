"""What the census prints: a progress bar, a table of both counts, and the evidence."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples.census.counting import Counts
from examples.census.run import Outcome, Show

__all__ = ["bar", "report", "summary"]


@contextmanager
def bar(console: Console, title: str, total: int) -> Generator[Show]:
    """A progress bar; call what it gives with how many are done, and how many there are."""
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        row = progress.add_task("", total=total)

        def show(done: int, of: int) -> None:
            progress.update(row, completed=done, total=of or total)

        yield show


def report(console: Console, outcome: Outcome, direct: Counts, direct_seconds: float) -> None:
    """The two counts side by side, and what the records say."""
    console.print(_table(outcome.census.counts, direct))
    for each in outcome.census.started_again[:3]:
        console.print(
            f"  [yellow]↻[/yellow] {escape(Path(each.path).name)} was started again "
            f"({escape(each.previous_error or '')})",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    if len(outcome.census.started_again) > 3:
        console.print(f"  [yellow]↻[/yellow] and {len(outcome.census.started_again) - 3} more", highlight=False)
    for is_true, sentence in _sentences(outcome, direct, direct_seconds):
        mark = "[green]✔[/green]" if is_true else "[bold red]✘[/bold red]"
        console.print(f"  {mark} {escape(sentence)}", highlight=False, soft_wrap=True)
    for fault in outcome.evidence.faults[:10]:
        console.print(f"    [red]{escape(fault)}[/red]", highlight=False)


def _table(counted: Counts, direct: Counts) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("counted")
    table.add_column("by executions", justify="right")
    table.add_column("directly", justify="right")
    table.add_column("")
    mine, theirs = asdict(counted), asdict(direct)
    for name, value in mine.items():
        mark = "[green]=[/green]" if value == theirs[name] else "[bold red]≠[/bold red]"
        table.add_row(name.replace("_", " "), f"{value:,}", f"{theirs[name]:,}", mark)
    return table


def _sentences(outcome: Outcome, direct: Counts, direct_seconds: float) -> list[tuple[bool, str]]:
    evidence, crash = outcome.evidence, outcome.crash
    sentences: list[tuple[bool, str]] = []
    if crash is not None:
        sentences.append(
            (
                crash.recovered == crash.held > 0,
                f"process {crash.pid} was killed with {crash.held} executions in its hands; "
                f"{crash.recovered} were recovered within {crash.recovery_seconds:.1f} s",
            )
        )
    sentences += [
        (
            not evidence.faults,
            f"{evidence.completed:,} of {evidence.children:,} children completed, each counted exactly once; "
            f"{evidence.delivered_again} were handed out more than once",
        ),
        (
            outcome.census.counts == direct,
            f"both counts are {'equal' if outcome.census.counts == direct else 'different'} "
            f"({outcome.seconds:.1f} s by executions, {direct_seconds:.1f} s directly)",
        ),
    ]
    return sentences


def summary(folder: Path, outcome: Outcome, direct: Counts, direct_seconds: float) -> dict[str, Any]:
    """The same for a program."""
    return {
        "folder": str(folder),
        "is_equal": outcome.census.counts == direct,
        "counts": asdict(outcome.census.counts),
        "direct": asdict(direct),
        "seconds": outcome.seconds,
        "direct_seconds": direct_seconds,
        "started_again": [asdict(each) for each in outcome.census.started_again],
        "evidence": asdict(outcome.evidence),
        "crash": None if outcome.crash is None else asdict(outcome.crash),
    }
