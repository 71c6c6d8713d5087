"""durable history: what a workflow has done, entry by entry, or the whole of it as JSON."""

from __future__ import annotations

import argparse
import json
from typing import Any, TypeVar

from durable.cli.exits import Exit
from durable.cli.options import add_storage_options, opened
from durable.cli.output import clean, out_console, print_json, table
from durable.errors import ConfigurationError, ExecutionNotFound
from durable.execution import Kind
from durable.explain import moment
from durable.ids import parse_id
from durable.script import Ask, Script
from durable.storage import Storage
from durable.workflow.stored import StoredHistory, dump_history, read_histories
from durable.workflow_rows import Entry

__all__ = ["add_arguments", "run", "stored_history"]

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_storage_options(parser)
    parser.add_argument("id", help="the workflow's execution id")


def run(args: argparse.Namespace) -> int:
    with opened(args) as storage:
        stored = stored_history(storage, args.id)
    if args.json:
        print_json(dump_history(stored))
        return Exit.OK
    shown = table("seq", "at", "what", "of", "details")
    for entry in stored.entries:
        shown.add_row(str(entry.seq), moment(entry.at), entry.kind, clean(entry.key), clean(_details(entry), 100))
    out_console().print(shown)
    return Exit.OK


def stored_history(storage: Storage, execution_id: str) -> StoredHistory:
    """Raises ExecutionNotFound, and ConfigurationError for what is no workflow."""
    (record,) = storage.get([parse_id(execution_id)]).run()
    if record is None:
        raise ExecutionNotFound(execution_id)
    if record.kind is not Kind.WORKFLOW:
        raise ConfigurationError(f"execution {record.id} is a {record.kind}; only workflows have a history")
    (stored,) = _played(storage, read_histories([record]))
    return stored


def _played(storage: Storage, script: Script[T]) -> T:
    answer: Any = None
    try:
        while True:
            step = script.send(answer)
            assert isinstance(step, Ask)
            answer = step.make(storage).run()
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def _details(entry: Entry) -> str:
    if entry.error is not None:
        return f"error: {entry.error}"
    said = {name: value for name, value in json.loads(entry.detail or "{}").items() if name != "at"}
    output = [] if entry.output is None else [entry.output]
    return " ".join([*output, *(f"{name}={value}" for name, value in said.items())])
