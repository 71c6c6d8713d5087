"""durable retry: make failed executions ready again."""

from __future__ import annotations

import argparse
from typing import NamedTuple

from durable.cli.exits import Exit
from durable.cli.options import add_storage_options, opened, parsed_ids
from durable.cli.output import clean, out_console, print_json, table
from durable.execution import Execution
from durable.explain import redrive_refusal
from durable.storage import Hint, Storage

__all__ = ["add_arguments", "run"]


class _Result(NamedTuple):
    id: str
    is_ready: bool
    """This call made it ready."""
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_storage_options(parser)
    parser.add_argument("ids", nargs="+", metavar="id", help="the executions' ids")


def run(args: argparse.Namespace) -> int:
    ids = parsed_ids(args.ids)
    with opened(args) as storage:
        done = _redrive(storage, [id_ for id_ in ids if id_ is not None])
    results = [
        done.get(id_ or "") or _Result(text, False, "there is no such execution")
        for text, id_ in zip(args.ids, ids, strict=True)
    ]
    if args.json:
        print_json([result._asdict() for result in results])
    else:
        rows = table("id", "result")
        for result in results:
            rows.add_row(clean(result.id, 80), result.text)
        out_console().print(rows)
    return Exit.OK if all(result.is_ready for result in results) else Exit.FAILED


def _redrive(storage: Storage, ids: list[str]) -> dict[str, _Result]:
    """What became of those ids that are stored. The storage decides; what it refused is explained afterwards."""
    distinct = list(dict.fromkeys(ids))
    before = {record.id: record for record in storage.get(distinct).run() if record is not None}
    redriven = set(storage.redrive(list(before)).run())
    if redriven and storage.is_shared:
        storage.hint([Hint("ready", queue) for queue in sorted({before[id_].queue for id_ in redriven})]).run()
    return {id_: _result(record, is_ready=id_ in redriven) for id_, record in before.items()}


def _result(before: Execution, *, is_ready: bool) -> _Result:
    if is_ready:
        return _Result(before.id, True, f"ready again; it had ended as {before.status}")
    refusal = redrive_refusal(before) or "it changed meanwhile, try again"
    return _Result(before.id, False, f"refused: {refusal}")
