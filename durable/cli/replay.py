"""durable replay: run a workflow's history against the code of an app, without touching anything."""

from __future__ import annotations

import argparse
import pdb
from ast import AsyncFunctionDef, Constant, Expr, parse, stmt
from collections.abc import Generator
from contextlib import contextmanager
from inspect import getsourcelines
from pathlib import Path
from textwrap import dedent
from typing import Final

from durable.app import Durable
from durable.cli.exits import Exit
from durable.cli.history import stored_history
from durable.cli.load import load_app
from durable.cli.options import add_storage_options
from durable.cli.output import clean, out_console, print_json, table
from durable.definition import Definition
from durable.errors import ConfigurationError
from durable.registry import Registry
from durable.storage import Storage
from durable.workflow.dry import ReplayedHistory, replay_history
from durable.workflow.entries import EntryKind
from durable.workflow.stored import StoredHistory, load_history

__all__ = ["add_arguments", "run"]

_SILENT: Final = frozenset({EntryKind.CODE, EntryKind.SAID})
"""What the body does not hear of."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_storage_options(parser, without_dsn="that of --app", schema=None)
    parser.add_argument("id", nargs="?", help="the workflow's execution id; not with --file")
    parser.add_argument("--app", required=True, metavar="MODULE:APP", help="whose code it is run against")
    parser.add_argument("--file", type=Path, help="a history that `durable history ID --json` has written")
    parser.add_argument("--pdb", action="store_true", help="stop in the debugger at the first line of the body")


def run(args: argparse.Namespace) -> int:
    app = load_app(args.app)
    stored = _stored(args, app)
    found = _debugged(app, stored) if args.pdb else replay_history(app.find, stored)
    if args.json:
        print_json({name: getattr(found, name) for name in ReplayedHistory.__slots__})
    else:
        _show(stored, found)
    return Exit.OK if found.fits else Exit.FAILED


def _stored(args: argparse.Namespace, app: Durable) -> StoredHistory:
    if (args.id is None) == (args.file is None):
        raise ConfigurationError("give the id of a workflow, or --file with its exported history")
    if args.file is None:
        with _storage_of(args, app) as storage:
            return stored_history(storage, args.id)
    try:
        return load_history(args.file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{args.file} cannot be read: {error}") from None


@contextmanager
def _storage_of(args: argparse.Namespace, app: Durable) -> Generator[Storage]:
    """That of the app, for blocking calls, as far as the options do not name another. It is not migrated."""
    named = app.storage_of(dsn=args.dsn, schema=args.schema)
    named.open_blocking()
    try:
        yield named
    finally:
        named.close_blocking()


def _show(stored: StoredHistory, found: ReplayedHistory) -> None:
    shown = table("seq", "what", "of", "what the code makes of it")
    for entry in stored.entries:
        if entry.kind not in _SILENT:
            shown.add_row(str(entry.seq), entry.kind, clean(entry.key), _met(entry.seq, entry.key, entry.error, found))
    console = out_console()
    console.print(shown)
    if found.problem is not None:
        console.print(f"It cannot go on with this code: {clean(found.problem, 1000)}")
    elif found.end is not None:
        console.print(f"The body has ended: {clean(found.end, 1000)}")
    else:
        console.print(f"The body waits for {', '.join(map(clean, found.waits_for)) or 'nothing'}")


def _met(seq: int, key: str, error: str | None, found: ReplayedHistory) -> str:
    if seq > found.entry_count:
        return "not reached"
    if seq == found.entry_count and found.problem is not None:
        return "here it does not fit"
    if key in found.ignored:
        return "it does not ask for this"
    return "met" if error is None else "met, it had failed"


def _debugged(registry: Registry, stored: StoredHistory) -> ReplayedHistory:
    """In the debugger, which stops at the first line of the body."""
    debugger = pdb.Pdb()
    definition = registry.find(stored.claimed.task_name)
    if definition is not None:
        debugger.set_break(*_first_line(definition))
        # It would stop here first, where nobody knows anything.
        debugger.rcLines.append("continue")
    found = debugger.runcall(replay_history, registry.find, stored)
    assert found is not None
    return found


def _first_line(definition: Definition) -> tuple[str, int]:
    """Of the body: the first that is none of its signature's and none of its decorators'."""
    function = definition.function
    lines, first = getsourcelines(function)
    body = parse(dedent("".join(lines))).body[0]
    assert isinstance(body, AsyncFunctionDef)
    statement = next((each for each in body.body if not _is_text(each)), body.body[0])
    return function.__code__.co_filename, first + statement.lineno - 1


def _is_text(statement: stmt) -> bool:
    """A docstring, where no debugger stops."""
    return isinstance(statement, Expr) and isinstance(statement.value, Constant)
