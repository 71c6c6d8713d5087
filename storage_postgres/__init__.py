"""Durable executions on Postgres: the storage, and the embedded server for a machine without one."""

from storage_postgres.opening import open_embedded, open_postgres
from storage_postgres.storage import PostgresStorage

__all__ = ["PostgresStorage", "open_embedded", "open_postgres"]
