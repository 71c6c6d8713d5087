"""Which statements the server spent its time on, from pg_stat_statements where it is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from itertools import takewhile
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql

from storage_postgres.statements import SCHEMA_TAG, load

__all__ = ["Spent", "StatementStatistics", "by_cost"]

_MOST: Final = 8
_LEAST_PART: Final = 0.005
_SHOWN_CHARACTERS: Final = 80
_TELLING_CHARACTERS: Final = 200
"""Statements of ours that are as long as that differ before."""
# The server's text has $1 for every constant and parameter; ours has %(name)s and the constants themselves.
_VALUES: Final = re.compile(r"(?<=extract\()\w+|\$\d+|%\(\w+\)s|'[^']*'|\b(null|true|false)\b|(?<![\w.])\d+(\.\d+)?")
_LISTS: Final = re.compile(r"\?(, \?)+")
_SNAPSHOT: Final = sql.SQL("""
select s.queryid, s.calls, s.total_exec_time, s.wal_bytes, s.query
from {statements} as s
    join pg_catalog.pg_database as d on d.oid = s.dbid
where d.datname = pg_catalog.current_database()
""")


class Spent(NamedTuple):
    """What one statement has cost so far."""

    calls: int
    ms: float
    wal_bytes: int
    query: str


class StatementStatistics:
    """The statistics of one database; `is_there` is False where the server does not keep them."""

    def __init__(self, connection: psycopg.Connection[Any], name: str) -> None:
        self._connection = connection
        self._own_schema = f"{name}_statements"
        self._view: sql.Identifier | None = None
        self._is_own = False

    @property
    def is_there(self) -> bool:
        return self._view is not None

    def open(self) -> None:
        """Find the view, or put the extension into a schema of its own until `close`."""
        with suppress(psycopg.Error):
            found = self._connection.execute(
                "select n.nspname from pg_catalog.pg_extension as e"
                " join pg_catalog.pg_namespace as n on n.oid = e.extnamespace where e.extname = 'pg_stat_statements'"
            ).fetchone()
            if found is None:
                with self._connection.transaction():
                    own = sql.Identifier(self._own_schema)
                    self._connection.execute(sql.SQL("create schema {}").format(own))
                    self._connection.execute(sql.SQL("create extension pg_stat_statements schema {}").format(own))
                self._is_own = True
            view = sql.Identifier(found[0] if found else self._own_schema, "pg_stat_statements")
            # It can be installed and yet not be loaded: then only reading says so.
            self._connection.execute(_SNAPSHOT.format(statements=view))
            self._view = view

    def close(self) -> None:
        if self._is_own:
            self._connection.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(self._own_schema)))

    def snapshot(self) -> dict[int, Spent]:
        """What each statement of the database has cost so far; nothing where nothing is kept."""
        if self._view is None:
            return {}
        rows = self._connection.execute(_SNAPSHOT.format(statements=self._view)).fetchall()
        return {query_id: Spent(calls, ms, int(wal), query) for query_id, calls, ms, wal, query in rows}


def by_cost(before: Mapping[int, Spent], after: Mapping[int, Spent], count: int) -> list[dict[str, Any]]:
    """The statements that took the server longest in between, named as in storage_postgres/sql, dearest first.

    `count` is that of the executions, to which the microseconds are related.
    """
    spent: list[dict[str, Any]] = []
    for query_id, now in after.items():
        then = before.get(query_id, Spent(0, 0.0, 0, ""))
        calls, ms = now.calls - then.calls, now.ms - then.ms
        name = name_of(now.query)
        if calls > 0 and "pg_stat_statements" not in now.query:
            wal = (now.wal_bytes - then.wal_bytes) / count
            each = {"us_per_execution": round(ms * 1000 / count, 3), "wal_bytes_per_execution": round(wal, 1)}
            spent.append({"statement": name, "calls": calls, "ms": round(ms, 2), **each})
    least = sum(line["ms"] for line in spent) * _LEAST_PART
    return [line for line in sorted(spent, key=lambda line: -line["ms"])[:_MOST] if line["ms"] >= least]


def name_of(query: str) -> str:
    """The name of the statement in storage_postgres/sql; for any other its beginning."""
    plain = _plain(re.sub(r'"?bench_[0-9a-f]+"?\.', "", query))
    # The server's text differs from ours in spots that its version decides, so the longest common beginning counts.
    shared, name = max((_shared(plain, text), name) for text, name in _names().items())
    return name if shared >= min(_TELLING_CHARACTERS, len(plain)) else plain[:_SHOWN_CHARACTERS]


def _shared(one: str, other: str) -> int:
    """How many characters both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


@cache
def _names() -> Mapping[str, str]:
    return {_plain(text.replace(SCHEMA_TAG, "")): name for name, text in load().items()}


def _plain(text: str) -> str:
    # Newer servers write a list of constants as one with a comment.
    text = " ".join(re.sub(r"/\*.*?\*/", "", _VALUES.sub("?", text)).split())
    return _LISTS.sub("?", text)
