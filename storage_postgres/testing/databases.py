"""A database of this run's own on the server, for as long as the run lasts."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final
from uuid import uuid4

import psycopg
from psycopg import errors, sql

from storage_postgres.testing.servers import Server

__all__ = ["own_database"]

_PREFIX: Final = "durable_test_"
_LOCK: Final = 0x6475_7261_7465_7374
"""Held while databases come and go, so that no run takes another's newborn one for a leftover."""


@contextmanager
def own_database(server: Server) -> Generator[str]:
    """The DSN of a new, empty database, dropped at the end; leftovers of runs that were killed are dropped first."""
    name = f"{_PREFIX}{uuid4().hex[:12]}"
    with psycopg.connect(server.maintenance_dsn, autocommit=True) as control:
        control.execute("select pg_catalog.pg_advisory_lock(%s)", [_LOCK])
        _drop_leftovers(control)
        control.execute(sql.SQL("create database {} template template0 encoding 'UTF8'").format(sql.Identifier(name)))
        # A connection that stays tells other runs that this database is in use.
        with psycopg.connect(server.dsn(name), autocommit=True):
            control.execute("select pg_catalog.pg_advisory_unlock(%s)", [_LOCK])
            yield server.dsn(name)
        control.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _drop_leftovers(control: psycopg.Connection[tuple[str]]) -> None:
    names = control.execute(
        "select d.datname from pg_catalog.pg_database as d where d.datname like %s"
        " and not exists (select 1 from pg_catalog.pg_stat_activity as a where a.datid = d.oid)",
        [_PREFIX.replace("_", r"\_") + "%"],
    ).fetchall()
    for (name,) in names:
        try:
            control.execute(sql.SQL("drop database if exists {}").format(sql.Identifier(name)))
        except errors.ObjectInUse:
            continue  # a run that does not know the lock has come back to it
