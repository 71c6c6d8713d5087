"""durable cancel: end executions and what runs below them."""

from __future__ import annotations

import argparse
import asyncio

from durable.app import Durable
from durable.cli.exits import Exit
from durable.cli.options import add_storage_options, app_of, parsed_ids
from durable.cli.output import clean, out_console, print_json, table
from durable.execution import CancelResult, Status
from durable.storage import Hint

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_storage_options(parser)
    parser.add_argument("ids", nargs="+", metavar="id", help="the executions' ids")
    parser.add_argument("--reason", default="cancelled from the command line", help="kept with the executions")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--finish", action="store_true", help="let running attempts finish; only do not run them again")
    how.add_argument("--force", action="store_true", help="end workflows without asking them: nothing is undone")


def run(args: argparse.Namespace) -> int:
    ids = parsed_ids(args.ids)
    known = list(dict.fromkeys(id_ for id_ in ids if id_ is not None))
    done = {result.id: result for result in asyncio.run(_cancel(app_of(args), known, args))}
    results = [done.get(id_ or "") or CancelResult(text, None, False) for text, id_ in zip(args.ids, ids, strict=True)]
    if args.json:
        print_json([{**result._asdict(), "text": _text(result, args.finish)} for result in results])
    else:
        rows = table("id", "result")
        for result in results:
            rows.add_row(clean(result.id, 80), _text(result, args.finish))
        out_console().print(rows)
    return Exit.OK if all(_is_over(result) for result in results) else Exit.FAILED


async def _cancel(app: Durable, ids: list[str], args: argparse.Namespace) -> list[CancelResult]:
    """Cancel, close the trees below, and tell the executors that run any of it."""
    async with app:
        results = await app.live.cancel(ids, reason=args.reason, may_finish=args.finish, force=args.force)
        if any(result.is_cancelled or result.is_requested for result in results):
            # The bus drops what it has not sent when it is closed, and this process ends at once.
            await app.storage.hint([Hint("cancelled", ""), Hint("finished", "")])
        return results


def _is_over(result: CancelResult) -> bool:
    return (
        result.is_cancelled
        or result.outcome in ("requested", "already_requested")
        or (result.status_before is Status.CANCELLED)
    )


def _text(result: CancelResult, may_finish: bool) -> str:
    if result.status_before is None:
        return "there is no such execution"
    if result.outcome in ("requested", "already_requested"):
        return "it runs, and will not be run again" if may_finish else "a workflow: it was asked to end"
    if result.outcome == "turn_of_job":
        return "nothing was done: it is a turn of a job, and ends with that"
    if not result.is_cancelled:
        return f"nothing to cancel: it had ended as {result.status_before}"
    if result.status_before is Status.RUNNING:
        return "cancelled; the executor that runs it is told"
    return f"cancelled; it was {result.status_before}"
