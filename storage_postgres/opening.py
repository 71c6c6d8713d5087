"""What the entry points `durable.storages` call: a DSN in, a storage out."""

from __future__ import annotations

from storage_postgres.storage import PostgresStorage

__all__ = ["open_embedded", "open_postgres"]


def open_postgres(dsn: str, *, schema: str) -> PostgresStorage:
    return PostgresStorage(dsn, schema=schema)


def open_embedded(dsn: str, *, schema: str) -> PostgresStorage:
    raise NotImplementedError
