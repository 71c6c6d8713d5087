"""One verb with its arguments, ready to run on the storage's own connections or inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import psycopg

from durable.errors import ConfigurationError, StorageError
from storage_postgres.failures import is_id_taken
from storage_postgres.plan import Plan

if TYPE_CHECKING:
    from storage_postgres.connections import Connections

__all__ = ["HopefulOperation", "PostgresOperation"]

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


class HopefulOperation(Generic[T]):
    """Takes the short way, on which one stored id undoes all, and after that the careful one, which goes round it.

    In a transaction of the caller's the short way needs a savepoint; where it takes none it is not tried.
    """

    __slots__ = ("_make_careful", "_short")

    def __init__(self, short: PostgresOperation[T], make_careful: Callable[[], PostgresOperation[T]]) -> None:
        self._short = short
        self._make_careful = make_careful

    def __await__(self) -> Generator[Any, None, T]:
        try:
            return (yield from self._short.__await__())
        except StorageError as error:
            if not is_id_taken(error):
                raise
        return (yield from self._make_careful().__await__())

    def run(self) -> T:
        return self.run_by(lambda operation: operation.run())

    def run_on(self, connection: Any) -> T:
        if not self._short.transaction:
            return self._make_careful().run_on(connection)
        return self.run_by(lambda operation: operation.run_on(connection))

    def await_on(self, connection: Any) -> Awaitable[T]:
        if not self._short.transaction:
            return self._make_careful().await_on(connection)
        return self._await_on(connection)

    def run_by(self, run: Callable[[PostgresOperation[T]], T]) -> T:
        """Run it by whatever runs one of the two, blocking."""
        try:
            return run(self._short)
        except StorageError as error:
            if not is_id_taken(error):
                raise
        return run(self._make_careful())

    async def _await_on(self, connection: Any) -> T:
        try:
            return await self._short.await_on(connection)
        except StorageError as error:
            if not is_id_taken(error):
                raise
        return await self._make_careful().await_on(connection)


def driver_connection(connection: Any) -> Any:
    """The psycopg connection inside a SQLAlchemy one (sync or async), or the object itself.

    SQLAlchemy's AsyncConnection wraps a sync one whose DBAPI connection is an adapter; `driver_connection` is its
    documented way to the driver's own object.
    """
    sync = getattr(connection, "sync_connection", None) or connection
    pooled = getattr(sync, "connection", None)
    return getattr(pooled, "driver_connection", None) or connection
