"""What the entry points `durable.storages` call: a DSN in, a storage out. Neither connects nor starts anything."""

from __future__ import annotations

from pathlib import Path

from storage_postgres.source import EmbeddedSource
from storage_postgres.storage import PostgresStorage

__all__ = ["open_embedded", "open_postgres"]


def open_postgres(dsn: str, *, schema: str) -> PostgresStorage:
    """A storage on a server of the user's."""
    return PostgresStorage(dsn, schema=schema)


def open_embedded(dsn: str, *, schema: str) -> PostgresStorage:
    """A storage on the embedded server: `embedded:` for ./.durable, `embedded:PATH` for another directory."""
    path = dsn.partition(":")[2]
    return PostgresStorage(EmbeddedSource(Path(path) if path else None), schema=schema)
