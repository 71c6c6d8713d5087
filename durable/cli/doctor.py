"""durable doctor: find records that break an invariant, and mend those that can be mended."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from rich.progress import Progress

from durable.cli.exits import Exit
from durable.cli.options import add_storage_options, count_up_to, opened
from durable.cli.output import clean, error_console, out_console, print_json, table
from durable.storage import Defect, Storage

__all__ = ["add_arguments", "run"]

_BATCH: Final = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_storage_options(parser)
    parser.add_argument("--mend", action="store_true", help="put right what can be put right")
    parser.add_argument("--limit", type=count_up_to(100_000), default=1000, help="look for so many (default: 1000)")


def run(args: argparse.Namespace) -> int:
    with opened(args) as storage:
        found = storage.defects(limit=args.limit).run()
        mended = _mend(storage, found) if args.mend and found else []
        # Asked again, because mending one record may show or cause what is wrong with the next.
        left = storage.defects(limit=args.limit).run() if args.mend and found else found
    if args.json:
        print_json({name: [defect._asdict() for defect in defects] for name, defects in
                    (("found", found), ("mended", mended), ("left", left))})  # fmt: skip
    else:
        _print(found, mended, left, limit=args.limit)
    return Exit.DEFECTS if left else Exit.OK


def _mend(storage: Storage, found: Sequence[Defect]) -> list[Defect]:
    """Mend in batches, each a transaction, so that an interrupted run keeps what it has done."""
    ids = list(dict.fromkeys(defect.id for defect in found if defect.is_mendable))
    mended: list[Defect] = []
    console = error_console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("mending", total=len(ids))
        for start in range(0, len(ids), _BATCH):
            batch = ids[start : start + _BATCH]
            mended += storage.mend(batch).run()
            progress.advance(task, len(batch))
    return mended


def _print(found: Sequence[Defect], mended: Sequence[Defect], left: Sequence[Defect], *, limit: int) -> None:
    console = out_console()
    if not found:
        console.print("no defects")
        return
    rows = table("id", "defect", "detail", "result")
    gone = set(mended)
    for defect in found:
        result = "mended" if defect in gone else "can be mended" if defect.is_mendable else "cannot be mended"
        rows.add_row(defect.id, defect.kind, clean(defect.detail), result)
    console.print(rows)
    more = " or more" if len(left) == limit else ""
    console.print(f"{len(found)} found, {len(mended)} mended, {len(left)}{more} left")
    if any(defect.is_mendable for defect in left):
        console.print("to mend them: durable doctor --mend")
