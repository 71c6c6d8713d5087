"""Numbered migrations, applied one by one under one transaction-level lock; safe to run anywhere, twice, and killed."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

import psycopg
from psycopg import errors, sql

from durable.errors import SchemaNotInstalled, SchemaTooNew, SchemaTooOld
from storage_postgres.statements import render

__all__ = ["check", "latest_version", "migrate"]

_LOCK: Final = 0x6475_7261_626C_65  # "durable" in ASCII: one migration at a time in a database
_TRIES: Final = 60


def _migrations() -> list[tuple[int, str, str]]:
    folder = files("storage_postgres").joinpath("sql", "migrations")
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".sql"))
    return [(int(name[:4]), name, folder.joinpath(name).read_text(encoding="utf-8")) for name in names]


def latest_version() -> int:
    return max(number for number, _, _ in _migrations())


def migrate(connection: psycopg.Connection[Any], schema: str) -> list[str]:
    """Bring the schema up to date; gives the names of the migrations applied. The connection is in autocommit.

    Each migration is one transaction with lock_timeout 1 s, tried again while traffic holds the locks it needs.
    """
    applied: list[str] = []
    for number, name, text in _migrations():
        for tries_left in reversed(range(_TRIES)):
            try:
                if _apply(connection, schema, number, text):
                    applied.append(name)
                break
            except errors.LockNotAvailable:
                if not tries_left:
                    raise
    return applied


def _apply(connection: psycopg.Connection[Any], schema: str, number: int, text: str) -> bool:
    with connection.transaction():
        connection.execute("set local lock_timeout = '1s'")
        connection.execute("select pg_catalog.pg_advisory_xact_lock(%s)", [_LOCK])
        connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
        connection.execute(
            render("create table if not exists /*schema*/migrations ("
                   "version integer primary key, applied_at timestamptz not null)", schema)
        )  # fmt: skip
        known = connection.execute(
            render("select 1 from /*schema*/migrations where version = %s", schema), [number]
        ).fetchone()
        if known:
            return False
        connection.execute(render(text, schema))
        connection.execute(
            render("insert into /*schema*/migrations values (%s, pg_catalog.clock_timestamp())", schema), [number]
        )
        return True


def check(connection: psycopg.Connection[Any], schema: str) -> None:
    """Raise SchemaNotInstalled, SchemaTooOld or SchemaTooNew unless the schema is at this library's version."""
    try:
        row = connection.execute(render("select max(version) from /*schema*/migrations", schema)).fetchone()
    except (errors.UndefinedTable, errors.InvalidSchemaName):
        raise SchemaNotInstalled(schema) from None
    have = row[0] if row and row[0] is not None else 0
    if have < latest_version():
        raise SchemaTooOld(schema, latest_version(), have)
    if have > latest_version():
        raise SchemaTooNew(schema, latest_version(), have)
