"""One verb with its arguments, ready to run on the storage's own connections or inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import psycopg

from durable.errors import ConfigurationError
from storage_postgres.plan import Plan

if TYPE_CHECKING:
    from storage_postgres.connections import Connections

__all__ = ["PostgresOperation"]

T = TypeVar("T")


class PostgresOperation(Generic[T]):
    """See durable.storage.Operation. `transaction` is for plans of several statements that stand or fall together."""

    __slots__ = ("_connections", "make_plan", "transaction")

    def __init__(self, connections: Connections, make_plan: Callable[[], Plan[T]], transaction: bool = False) -> None:
        self._connections = connections
        self.make_plan = make_plan
        self.transaction = transaction

    def __await__(self) -> Generator[Any, None, T]:
        return self._connections.run_async(self).__await__()

    def run(self) -> T:
        return self._connections.run(self)

    def run_on(self, connection: Any) -> T:
        unwrapped: psycopg.Connection[Any] | None = driver_connection(connection)
        if not isinstance(unwrapped, psycopg.Connection):
            raise ConfigurationError(f"connection= takes a psycopg.Connection here, got {type(connection).__name__}")
        return self._connections.run_on(self, unwrapped)

    def await_on(self, connection: Any) -> Awaitable[T]:
        unwrapped: psycopg.AsyncConnection[Any] | None = driver_connection(connection)
        if not isinstance(unwrapped, psycopg.AsyncConnection):
            raise ConfigurationError(
                f"connection= takes a psycopg.AsyncConnection here, got {type(connection).__name__}; "
                "with a blocking connection use app.client()"
            )
        return self._connections.await_on(self, unwrapped)


def driver_connection(connection: Any) -> Any:
    """The psycopg connection inside a SQLAlchemy one (sync or async), or the object itself.

    SQLAlchemy's AsyncConnection wraps a sync one whose DBAPI connection is an adapter; `driver_connection` is its
    documented way to the driver's own object.
    """
    sync = getattr(connection, "sync_connection", None) or connection
    pooled = getattr(sync, "connection", None)
    return getattr(pooled, "driver_connection", None) or connection
