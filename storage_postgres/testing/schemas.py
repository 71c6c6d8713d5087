"""Schemas for one test after another: migrated once, emptied between two tests, thrown away when a test changed them.

To migrate a schema takes longer than most tests do, to empty one takes a millisecond.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final
from uuid import uuid4

import psycopg
from psycopg import errors, sql

from storage_postgres.migrate import migrate
from storage_postgres.statements import render
from storage_postgres.testing.clock import move_clock, stop_clock

__all__ = ["Schemas"]

_RESTING: Final = 3
"""As many schemas lie idle before one is used again: what a test left running has that long to come to its end."""
_MOST_ROWS: Final = 5000
"""Where a test has written more, later plans and scans would meet what is left of it."""


class Schemas:
    """Those of one database, lent to one test at a time. The connection is in autocommit."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._idle: dict[bool, deque[str]] = {False: deque(), True: deque()}
        self._made: dict[str, str] = {}
        """What each schema was like when it was new."""

    @contextmanager
    def lend(self, *, at: datetime | None = None) -> Generator[str]:
        """The name of an empty, migrated schema, whose clock stands `at` that moment; None: it goes."""
        idle = self._idle[at is not None]
        name = self._emptied(idle) or self._make(at)
        if at is not None:
            move_clock(self._connection, name, at)
        try:
            yield name
        finally:
            idle.append(name)

    def _emptied(self, idle: deque[str]) -> str | None:
        while len(idle) > _RESTING:
            name = idle.popleft()
            if self._is_as_made(name) and self._empty(name):
                return name
            self._drop(name)
        return None

    def _make(self, at: datetime | None) -> str:
        name = f"durable_test_{uuid4().hex[:12]}"
        migrate(self._connection, name)
        if at is not None:
            stop_clock(self._connection, name, at)
        self._made[name] = self._fingerprint(name) or ""
        return name

    def _is_as_made(self, name: str) -> bool:
        return self._fingerprint(name) == self._made[name]

    def _fingerprint(self, name: str) -> str | None:
        try:
            row = self._connection.execute(_text("fingerprint", name), {"schema": _quoted(name)}).fetchone()
        except (errors.InvalidSchemaName, errors.UndefinedTable):
            return None
        return row[0] if row else None

    def _empty(self, name: str) -> bool:
        """False if somebody still holds rows, or there were too many."""
        found = self._connection.execute(_text("tables", name), {"schema": _quoted(name)}).fetchall()
        count = 0
        try:
            with self._connection.transaction():
                self._connection.execute("set local lock_timeout = '1s'")
                for (table,) in found:
                    delete = sql.SQL("delete from {}").format(sql.Identifier(name, table))
                    count += self._connection.execute(delete).rowcount
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            return False
        return count <= _MOST_ROWS

    def _drop(self, name: str) -> None:
        """What somebody holds stays until the database goes."""
        del self._made[name]
        try:
            with self._connection.transaction():
                self._connection.execute("set local lock_timeout = '1s'")
                self._connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(name)))
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            return


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()


def _text(name: str, schema: str) -> sql.Composed:
    return render(_read(name), schema)


@cache
def _read(name: str) -> str:
    return files("storage_postgres").joinpath("sql", "testing", f"{name}.sql").read_text(encoding="utf-8")
