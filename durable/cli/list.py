"""durable list: executions, newest first."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime

from durable.cli.exits import Exit
from durable.cli.options import add_storage_options, count_up_to, id_argument, opened
from durable.cli.output import clean, out_console, print_json, state_text, table
from durable.cli.records import record_of
from durable.execution import Execution, Status
from durable.explain import error_of, span, state_of
from durable.storage import ExecutionFilter

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_storage_options(parser)
    parser.add_argument(
        "--status",
        action="append",
        choices=[str(status) for status in Status],
        metavar="STATUS",
        help=f"only this status, may be given several times: {', '.join(Status)}",
    )
    parser.add_argument("--task", help="only executions of this task")
    parser.add_argument("--queue", help="only executions in this queue")
    parser.add_argument("--roots", action="store_true", help="only executions without a parent")
    parser.add_argument("--limit", type=count_up_to(10_000), default=50, help="at most so many (default: 50)")
    parser.add_argument(
        "--before", type=id_argument, metavar="ID", help="only those older than this one: the next page"
    )


def run(args: argparse.Namespace) -> int:
    where = ExecutionFilter(
        statuses=tuple(Status(status) for status in args.status) if args.status else None,
        task_name=args.task,
        queue=args.queue,
        roots_only=args.roots,
    )
    with opened(args) as storage:
        found = storage.search(where, limit=args.limit, before=args.before).run()
        now = storage.now().run()
    if args.json:
        print_json([record_of(execution, now) for execution in found])
    else:
        _print(found, now, is_cut=len(found) == args.limit)
    return Exit.OK


def _print(found: Sequence[Execution], now: datetime, *, is_cut: bool) -> None:
    console = out_console()
    if not found:
        console.print("no executions")
        return
    rows = table("id", "status", "task", "queue", "age", "took", "last error")
    for execution in found:
        error = error_of(execution)
        rows.add_row(
            execution.id,
            state_text(execution.status, state_of(execution, now)),
            clean(execution.task_name),
            clean(execution.queue),
            span((now - execution.created_at).total_seconds()),
            _took(execution),
            "" if error is None else clean(str(error), 100),
        )
    console.print(rows)
    if is_cut:
        console.print(f"older ones: --before {found[-1].id}")


def _took(execution: Execution) -> str:
    if execution.finished_at is None:
        return ""
    return span((execution.finished_at - execution.created_at).total_seconds())
