"""Options that commands share, the types of their values, and the way from them to an open storage."""

from __future__ import annotations

import argparse
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from durable.app import Durable
from durable.errors import ExecutionNotFound
from durable.ids import parse_id
from durable.storage import Storage

__all__ = ["add_storage_options", "app_of", "count_up_to", "id_argument", "opened", "parsed_ids"]


def add_storage_options(
    parser: argparse.ArgumentParser,
    *,
    without_dsn: str = "$DURABLE_DSN (better for one with a"
    " password: arguments can be seen by other users), and without that an embedded server under ./.durable",
    schema: str | None = "durable",
) -> None:
    """`schema` is the default; None where `without_dsn` tells of another storage, whose own schema it is then."""
    parser.add_argument("--dsn", help=f"the database, such as postgresql://user@host/name; without it {without_dsn}")
    default = "that of the same" if schema is None else schema
    parser.add_argument("--schema", default=schema, help=f"the schema of the tables (default: {default})")
    parser.add_argument("--json", action="store_true", help="print JSON on one line instead of tables")


def app_of(args: argparse.Namespace, **options: Any) -> Durable:
    """An app without tasks on the storage that the options name, as `Durable()` would choose it."""
    return Durable(args.dsn, schema=args.schema, **options)


@contextmanager
def opened(args: argparse.Namespace) -> Generator[Storage]:
    """The storage, open for blocking calls."""
    app = app_of(args)
    with app.client():
        yield app.storage


def parsed_ids(texts: list[str]) -> list[str | None]:
    """The ids in their stored form; None for what is no id, which is answered like an unknown one."""
    found: list[str | None] = []
    for text in texts:
        try:
            found.append(parse_id(text))
        except ExecutionNotFound:
            found.append(None)
    return found


def id_argument(text: str) -> str:
    """For an option that must be an id."""
    try:
        return parse_id(text)
    except ExecutionNotFound:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no execution id") from None


class count_up_to:  # noqa: N801 - reads as a type in `type=count_up_to(100)`
    """A whole number from 1 to `most`."""

    def __init__(self, most: int) -> None:
        self._most = most

    def __call__(self, text: str) -> int:
        if text.isascii() and text.isdigit() and 1 <= int(text[:10]) <= self._most and len(text) <= 10:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a whole number from 1 to {self._most}")
