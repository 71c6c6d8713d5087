"""A storage in a fresh schema whose clock stands still, made for a test and dropped after it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psycopg
from psycopg import sql

from storage_postgres.failures import translated
from storage_postgres.migrate import migrate
from storage_postgres.source import EmbeddedSource
from storage_postgres.storage import PostgresStorage
from storage_postgres.testing.clock import move_clock, stop_clock
from storage_postgres.testing.schemas import Schemas

__all__ = ["LentSchemas", "VirtualPostgres", "open_virtual_embedded", "open_virtual_postgres"]

_OPTIONS: Final = "-c timezone=UTC -c lock_timeout=10s -c synchronous_commit=off"
# synchronous_commit: the clock of a schema that is dropped in a moment need not survive a crash.


class VirtualPostgres:
    """See durable.testing.VirtualStorage. Made by `open_virtual_postgres`."""

    def __init__(self, dsn: str, schema: str, control: psycopg.Connection[Any], at: datetime) -> None:
        self.storage = PostgresStorage(dsn, schema=schema, min_size=1)
        self.dsn = dsn
        self.schema = schema
        self._control = control
        self._at = at

    def now(self) -> datetime:
        return self._at

    def move_to(self, at: datetime) -> None:
        with translated():
            move_clock(self._control, self.schema, at)
        self._at = at


@contextmanager
def open_virtual_postgres(dsn: str, *, schema: str | None, at: datetime) -> Generator[VirtualPostgres]:
    """What the entry point `durable.virtual_storages` calls: a schema that must not be there yet, until the block ends.

    None gives it a name that nobody else has.
    """
    name = schema or f"durable_test_{uuid4().hex[:12]}"
    # What the test itself raises goes through the block below, and must not be translated.
    with translated():
        control = psycopg.connect(dsn, autocommit=True, options=_OPTIONS)
    with control:
        with translated():
            control.execute(sql.SQL("create schema {}").format(sql.Identifier(name)))
        try:
            with translated():
                migrate(control, name)
                stop_clock(control, name, at)
            yield VirtualPostgres(dsn, name, control, at)
        finally:
            with translated():
                control.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(name)))


class LentSchemas:
    """Virtual storages of one database for one test after another, with schemas that are used again."""

    def __init__(self, dsn: str, control: psycopg.Connection[Any]) -> None:
        self._dsn = dsn
        self._control = control
        self._schemas = Schemas(control)

    @classmethod
    @contextmanager
    def open(cls, dsn: str) -> Generator[LentSchemas]:
        with psycopg.connect(dsn, autocommit=True, options=_OPTIONS) as control:
            yield cls(dsn, control)

    @contextmanager
    def virtual(self, at: datetime) -> Generator[VirtualPostgres]:
        """A storage in an empty schema whose clock stands at that moment."""
        with self._schemas.lend(at=at) as name:
            yield VirtualPostgres(self._dsn, name, self._control, at)


@contextmanager
def open_virtual_embedded(dsn: str, *, schema: str | None, at: datetime) -> Generator[VirtualPostgres]:
    """The same on the embedded server: `embedded:` for ./.durable, `embedded:PATH` for another directory."""
    path = dsn.partition(":")[2]
    source = EmbeddedSource(Path(path) if path else None)
    try:
        with open_virtual_postgres(source.acquire(), schema=schema, at=at) as storage:
            yield storage
    finally:
        source.release()
