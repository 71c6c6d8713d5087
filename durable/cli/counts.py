"""durable counts: unfinished executions by queue and status, and the executors."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from rich.table import Table

from durable.cli.exits import Exit
from durable.cli.options import add_storage_options, opened
from durable.cli.output import clean, out_console, print_json, table
from durable.execution import FINISHED, Status
from durable.explain import is_alive, span
from durable.storage import ExecutorRow

__all__ = ["add_arguments", "run"]

_UNFINISHED: Final = tuple(status for status in Status if status not in FINISHED)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_storage_options(parser)


def run(args: argparse.Namespace) -> int:
    with opened(args) as storage:
        counts = storage.counts().run()
        executors = storage.executors().run()
        now = storage.now().run()
    alive = [row for row in executors if is_alive(row, now)]
    queues = sorted({queue for queue, _ in counts} | {queue for row in alive for queue in row.queues})
    if args.json:
        by_queue = {queue: {status: counts.get((queue, status), 0) for status in _UNFINISHED} for queue in queues}
        print_json({"queues": by_queue, "executors": [row._asdict() for row in alive]})
        return Exit.OK
    console = out_console()
    console.print(_queues(queues, counts, alive) if queues else "no unfinished executions")
    console.print(_executors(alive, now) if alive else "no executor is alive")
    return Exit.OK


def _queues(queues: Sequence[str], counts: Mapping[tuple[str, Status], int], alive: Sequence[ExecutorRow]) -> Table:
    rows = table("queue", *(status.replace("_", " ") for status in _UNFINISHED), "executors")
    for queue in queues:
        rows.add_row(
            clean(queue),
            *(str(counts.get((queue, status), 0)) for status in _UNFINISHED),
            str(sum(queue in row.queues for row in alive)),
        )
    return rows


def _executors(alive: Sequence[ExecutorRow], now: datetime) -> Table:
    rows = table("executor", "queues", "busy", "tasks", "up", "seen")
    for row in alive:
        rows.add_row(
            clean(row.id),
            clean(", ".join(row.queues)),
            f"{row.running} of {row.concurrency}",
            str(len(row.task_names)),
            span((now - row.started_at).total_seconds()),
            f"{span((now - row.seen_at).total_seconds())} ago",
        )
    return rows
