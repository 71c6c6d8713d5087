"""Print for people with rich, and for programs as one line of JSON."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from durable.execution import FINISHED, SUCCEEDED, Status

__all__ = ["clean", "error_console", "out_console", "print_json", "state_text", "table"]

_PIPE_WIDTH: Final = 200
"""A pipe has no width; wide enough that no id is cut in two."""
_STYLES: Final = {Status.RUNNING: "cyan", Status.READY: "blue"}


def out_console() -> Console:
    """For tables and trees. Text from the database is never read as markup."""
    return _console(is_terminal=sys.stdout.isatty(), stderr=False)


def error_console() -> Console:
    return _console(is_terminal=sys.stderr.isatty(), stderr=True)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `main`, which has an exit code for it."""
        raise BrokenPipeError


def _console(*, is_terminal: bool, stderr: bool) -> Console:
    return _Console(
        stderr=stderr, width=None if is_terminal else _PIPE_WIDTH, markup=False, highlight=False, emoji=False
    )


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table; a column named `id` is never wrapped, so that it can be copied."""
    made = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, no_wrap=column == "id", overflow="fold")
    return made


def state_text(status: Status, text: str) -> Text:
    if status in SUCCEEDED:
        return Text(text, style="green")
    if status in FINISHED:
        return Text(text, style="red")
    return Text(text, style=_STYLES.get(status, "yellow"))


def clean(text: str, limit: int = 200) -> str:
    """Text from the database on one line: control characters could act on the terminal."""
    line = "".join(char if char.isprintable() else " " for char in text[:limit])
    return line if len(text) <= limit else f"{line}…"


def print_json(value: Any) -> None:
    print(json.dumps(value, default=_plain))


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")
