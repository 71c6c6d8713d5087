"""A database for each run, and what the server counted in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager
from secrets import token_hex
from types import TracebackType
from typing import Any, Final, LiteralString, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

__all__ = ["Databases"]

_VARIABLES: Final = {
    "host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
}  # fmt: skip
_CREATE: Final = sql.SQL("create database {}")
_DROP: Final = sql.SQL("drop database if exists {} with (force)")


class Databases:
    """Makes databases on one server and drops them, and reads the server's counters from one of its own."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._token = token_hex(4)
        self._made = 0
        self._server = psycopg.connect(dsn, autocommit=True)
        self._own: psycopg.Connection[Any] | None = None
        self.counts_statements = False

    def __enter__(self) -> Self:
        try:
            name = self._create()
            self._own = psycopg.connect(make_conninfo(self._dsn, dbname=name), autocommit=True)
            self.counts_statements = self._try_statements()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @contextmanager
    def fresh(self) -> Generator[tuple[str, dict[str, str]]]:
        """An empty database: its name, and the variables by which libpq and its like find it."""
        name = self._create()
        try:
            self._settle()
            yield name, {**self._variables(), "PGDATABASE": name}
        finally:
            self._server.execute(_DROP.format(sql.Identifier(name)))

    async def count(self, name: str, seconds: float) -> dict[str, float]:
        """What reaches the database of that name during so many seconds, per second."""
        before, began = self._counters(name), time.monotonic()
        await asyncio.sleep(seconds)
        after, took = self._counters(name), time.monotonic() - began
        return {f"{counter}_per_s": (after[counter] - before[counter]) / took for counter in before}

    def _create(self) -> str:
        name = f"bench_{self._token}_{self._made}"
        self._made += 1
        self._server.execute(_CREATE.format(sql.Identifier(name)))
        return name

    def _close(self) -> None:
        if self._own is not None:
            self._own.close()
        self._server.execute(_DROP.format(sql.Identifier(f"bench_{self._token}_0")))
        self._server.close()

    def _settle(self) -> None:
        """So that nobody pays for what the one before has left to be written."""
        try:
            self._server.execute("checkpoint")
        except psycopg.errors.InsufficientPrivilege:
            return

    def _variables(self) -> dict[str, str]:
        known: dict[str, Any] = conninfo_to_dict(self._dsn)
        given = {variable: str(known[key]) for key, variable in _VARIABLES.items() if known.get(key)}
        info = self._server.info
        return {"PGHOST": info.host, "PGPORT": str(info.port), "PGUSER": info.user, **given}

    def _try_statements(self) -> bool:
        """Whether the server counts statements: it must have loaded the extension at its start."""
        assert self._own is not None
        try:
            self._own.execute("create extension pg_stat_statements")
            self._own.execute("select 1 from pg_stat_statements(false) limit 1")
        except psycopg.DatabaseError:
            return False
        return True

    def _counters(self, name: str) -> dict[str, int]:
        assert self._own is not None
        found: dict[str, LiteralString] = {
            "transactions": "select xact_commit + xact_rollback from pg_catalog.pg_stat_database where datname = %s"
        }
        if self.counts_statements:
            found["statements"] = (
                "select coalesce(sum(s.calls), 0)::bigint from pg_stat_statements(false) as s"
                " join pg_catalog.pg_database as d on d.oid = s.dbid where d.datname = %s"
            )
        counters: dict[str, int] = {}
        for counter, query in found.items():
            row = self._own.execute(query, (name,)).fetchone()
            counters[counter] = 0 if row is None else row[0]
        return counters
