"""durable migrate: bring the schema to this library's version."""

from __future__ import annotations

import argparse

from durable.cli.exits import Exit
from durable.cli.options import add_storage_options, app_of
from durable.cli.output import print_json

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_storage_options(parser)


def run(args: argparse.Namespace) -> int:
    storage = app_of(args).storage
    try:
        applied = storage.migrate()
        # Migrating a schema of a later library changes nothing and is no success; opening says so.
        storage.open_blocking()
    finally:
        storage.close_blocking()
    if args.json:
        print_json({"schema": args.schema, "applied": applied})
    elif applied:
        print(f"schema {args.schema}: applied {', '.join(applied)}")
    else:
        print(f"schema {args.schema}: up to date")
    return Exit.OK
