"""durable show: an execution and the tree below it."""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from typing import Any, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text
from rich.tree import Tree as Branch

from durable.cli.exits import Exit
from durable.cli.options import add_storage_options, count_up_to, opened
from durable.cli.output import clean, out_console, print_json, state_text
from durable.cli.records import payloads_of, record_of
from durable.cli.tree import Node, Tree, read_tree
from durable.execution import FINISHED, SUCCEEDED, Execution, Status
from durable.explain import error_of, moment, span, state_of

__all__ = ["add_arguments", "run"]

_SHOWN_PAYLOAD: Final = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_storage_options(parser)
    parser.add_argument("id", help="the execution's id")
    parser.add_argument("--payloads", action="store_true", help="also what went in and came out, and tracebacks")
    parser.add_argument("--limit", type=count_up_to(100_000), default=200, help="at most so many executions of the tree"
                        " (default: 200); how many were left out is said")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    with opened(args) as storage:
        tree = read_tree(storage, args.id, limit=args.limit)
    if args.json:
        print_json(_nested(tree.root, tree.now, has_payloads=args.payloads))
    else:
        console = out_console()
        console.print(_facts(tree.root.execution, tree.now))
        console.print(_branch(tree, has_payloads=args.payloads))
    status = tree.root.execution.status
    return Exit.FAILED if status in FINISHED - SUCCEEDED else Exit.OK


def _nested(node: Node, now: datetime, *, has_payloads: bool) -> dict[str, Any]:
    record = record_of(node.execution, now)
    if has_payloads:
        record["payloads"] = payloads_of(node.execution)
    record["children"] = [_nested(child, now, has_payloads=has_payloads) for child in node.children]
    record["left_out_children_count"] = node.left_out_count
    return record


def _facts(execution: Execution, now: datetime) -> Table:
    """What is said of the execution that was asked for, and not of those below it."""
    grid = Table.grid(padding=(0, 2))
    facts: dict[str, object] = {
        "kind": execution.kind,
        "queue": f"{clean(execution.queue)}, priority {execution.priority}",
        "parent": execution.parent_id,
        "root": execution.root_id if execution.parent_id else None,
        "sleeping id": execution.sleeping_id,
        "idempotency key": execution.idempotency_key,
        "created": _when(execution.created_at, now),
        "due": _when(execution.due_at, now) if execution.status is Status.READY else None,
        "last started": _when(execution.started_at, now),
        "deadline": _when(execution.wait_expires_at, now),
        "finished": _when(execution.finished_at, now),
        "executor": execution.executor_id,
        "deliveries": f"{execution.deliveries} of {execution.max_deliveries}" if execution.deliveries > 1 else None,
        "reason": execution.reason,
        "closing": execution.close_status if execution.is_finished else None,
    }
    for name, value in facts.items():
        if value is not None:
            grid.add_row(Text(name, style="dim"), clean(str(value)))
    return grid


def _when(at: datetime | None, now: datetime) -> str | None:
    if at is None:
        return None
    distance = (at - now).total_seconds()
    return f"{moment(at)} ({f'in {span(distance)}' if distance > 0 else f'{span(distance)} ago'})"


def _branch(tree: Tree, *, has_payloads: bool) -> Branch:
    """The tree for rich, made with a list of what is left to do: trees are deeper than a call stack."""
    top = Branch(_label(tree.root.execution, tree.now, has_payloads=has_payloads), guide_style="dim")
    left = [(tree.root, top)]
    while left:
        node, branch = left.pop()
        left += [
            (child, branch.add(_label(child.execution, tree.now, has_payloads=has_payloads))) for child in node.children
        ]
        if node.left_out_count:
            branch.add(Text(f"… and {node.left_out_count} more; --limit shows more of them", style="dim"))
    return top


def _label(execution: Execution, now: datetime, *, has_payloads: bool) -> Group | Text:
    text = state_text(execution.status, state_of(execution, now))
    text.append(f"  {clean(execution.task_name)}", style="bold")
    text.append("  finalize" if execution.is_finalize else "")
    text.append(f"  {execution.id}", style="dim")
    details = [*_effort(execution), *([_ran(execution)] if _ran(execution) else [])]
    text.append(f"  {', '.join(details)}" if details else "")
    error = error_of(execution)
    if error is not None:
        text.append(f"  {clean(str(error), 160)}", style="red")
    if not has_payloads:
        return text
    return Group(text, *_payloads(execution))


def _payloads(execution: Execution) -> list[Text]:
    """Every payload on a line of its own, cut; the error as its traceback, which is what one looks for."""
    found = payloads_of(execution)
    error = error_of(execution)
    if error is not None and error.traceback:
        found.pop("error", None)
    lines = [f"{name}: {clean(json.dumps(value, ensure_ascii=False), _SHOWN_PAYLOAD)}" for name, value in found.items()]
    if error is not None and error.traceback:
        lines += [clean(line, _SHOWN_PAYLOAD) for line in error.traceback.splitlines()]
    return [Text(line, style="dim") for line in lines]


def _effort(execution: Execution) -> list[str]:
    """Attempts and turns where they say more than the status does."""
    effort = [f"{execution.attempts} of {execution.max_attempts} attempts"] if execution.attempts > 1 else []
    return effort + ([f"{execution.iteration} turns"] if execution.iteration else [])


def _ran(execution: Execution) -> str:
    """From creation to the end."""
    if execution.finished_at is None:
        return ""
    return f"took {span((execution.finished_at - execution.created_at).total_seconds())}"
