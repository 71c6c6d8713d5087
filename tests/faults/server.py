"""The database of a fault run: a temporary server with durable settings, or one that is given; a schema of its own."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import psycopg
from psycopg import sql

from storage_postgres.embedded import start
from storage_postgres.migrate import migrate
from storage_postgres.statements import render
from tests.embedded.support import is_gone

__all__ = ["Database", "database", "wait_until"]

_AUDIT = """
create table /*schema*/effects (execution_id uuid, fence bigint, attempt integer, pid integer, at timestamptz);
create table /*schema*/audit (
    execution_id uuid, status_before text, status text, fence_before bigint, fence bigint,
    at timestamptz not null default clock_timestamp());
create function /*schema*/note_change() returns trigger language plpgsql as $$
begin
    insert into /*schema*/audit values (new.id, old.status, new.status, old.fence, new.fence);
    return null;
end $$;
create trigger audit after update on /*schema*/executions for each row
when (old.status is distinct from new.status or old.fence is distinct from new.fence)
execute function /*schema*/note_change();
"""
# No unique constraint on effects: an effect that happened twice must stay visible.


class Database:
    """One schema with the library's tables, the effects of handlers and an audit of every change of state."""

    def __init__(self, dsn: str, schema: str) -> None:
        self.dsn = dsn
        self.schema = schema
        self._connection = psycopg.connect(dsn, autocommit=True)
        migrate(self._connection, schema)
        self._connection.execute(render(_AUDIT, schema))

    def rows(self, text: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run one statement, in which /*schema*/ stands for the schema."""
        cursor = self._connection.execute(render(text, self.schema), params)
        return cursor.fetchall() if cursor.description else []

    def value(self, text: str, *params: Any) -> Any:
        return self.rows(text, *params)[0][0]

    def close(self) -> None:
        self._connection.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(self.schema)))
        self._connection.close()


@contextmanager
def database(dsn: str | None, schema: str) -> Iterator[Database]:
    """The schema on the server of the DSN, or on a temporary one; gone at the end."""
    if dsn is not None:
        opened = Database(dsn, schema)
        try:
            yield opened
        finally:
            opened.close()
        return
    place = Path(tempfile.mkdtemp(prefix="durable-faults-", dir="/var/tmp"))
    place.chmod(0o755)  # the server may run as another user
    home = place / "home"
    try:
        with start(home) as server:
            yield from _once(server.dsn(), schema)
        wait_until(lambda: is_gone(home), limit=30.0)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _once(dsn: str, schema: str) -> Iterator[Database]:
    opened = Database(dsn, schema)
    try:
        yield opened
    finally:
        opened.close()


def wait_until(is_true: Callable[[], object], *, limit: float, interval: float = 0.02) -> bool:
    """Look again and again; gives whether it became true within `limit` seconds."""
    end = time.monotonic() + limit
    never = Event()
    while not is_true():
        if time.monotonic() >= end:
            return False
        never.wait(interval)
    return True
