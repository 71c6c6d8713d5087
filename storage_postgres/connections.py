"""Pools, the lane of a thread, and how a plan gets a connection: direct or behind a transaction pooler."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from durable.errors import ConfigurationError, NotOpen, RowsHeld, StorageUnavailable, TransactionEnded
from durable.storage import Operation
from storage_postgres.failures import is_connection_spent, translated
from storage_postgres.keeping import Keeping
from storage_postgres.lending import PREPARE_AFTER, LentConnection
from storage_postgres.loaders import register_loaders
from storage_postgres.operation import HopefulOperation, PostgresOperation
from storage_postgres.plan import drive, drive_async, drive_on, drive_on_async
from storage_postgres.prepared import BlockingOwn, Own, Prepared
from storage_postgres.source import Source
from storage_postgres.statements import Statements

__all__ = ["KEPT_FOR_EXECUTOR", "Connections", "PostgresLane"]

T = TypeVar("T")
_log = logging.getLogger("durable.postgres")
_ENDED: Final = (
    "the step has ended its transaction, by a COMMIT or ROLLBACK of its own: what it has written is not tied to its "
    "result any more; let durable commit, and use `async with connection.transaction()` for a part"
)

_NETWORK: Final = {"connect_timeout": "5", "keepalives_idle": "5", "keepalives_interval": "2", "keepalives_count": "3",
                   "tcp_user_timeout": "10000", "target_session_attrs": "read-write"}  # fmt: skip
_OWN_SETTINGS: Final[dict[str, Any]] = {"autocommit": True, "prepare_threshold": None}
"""psycopg itself prepares nothing on our own: after a rollback it takes away all that the session has prepared."""
KEPT_FOR_EXECUTOR: Final = 3
"""Connections that calls of clients leave free: for a claim, a settle, and all else that an executor asks. A call may
wait for a row that somebody's open transaction holds, and as many such calls as there are connections would stop it."""
_MOST_TRANSACTIONS: Final = 4
"""Transactions at once that user code runs in."""
_DIRECT_OPTIONS: Final = (
    "-c timezone=UTC -c lock_timeout=10s -c idle_in_transaction_session_timeout=30s "
    "-c jit=off -c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_bitmapscan=off"
)
# jit: the estimates of a claim on a large table can pass jit_above_cost, and compiling costs more than the claim.
# plan_cache_mode: planning a claim takes 2 ms, running it 0.1 ms; by itself the server would plan it each time.
# enable_seqscan, enable_bitmapscan: a plan cached while the table was small must neither scan the table that it has
# become nor read and sort all that is late to take the first of it.
# Behind a pooler none of this can be set: plans are then made anew each time, right but slower.


class Connections:
    """Every connection of one storage. Opens nothing by itself; knows after `probe` what the DSN leads to."""

    def __init__(self, source: Source, statements: Statements, *, min_size: int, max_size: int) -> None:
        self._source = source
        self._dsn = ""
        self._statements = statements
        self._min_size = min_size
        self._max_size = max_size
        self._async_pool: Keeping | None = None
        self._transactions: AsyncConnectionPool[LentConnection] | None = None
        """Apart, because these last as long as the user's code in them, and end by statements that need the pool."""
        self._free_transactions = asyncio.Semaphore(0)
        self._pool: ConnectionPool[BlockingOwn] | None = None
        self.is_pooled = False
        """Behind a pooler such as pgbouncer: no prepared statements, no options, no LISTEN."""

    @property
    def conninfo(self) -> str:
        try:
            given = conninfo_to_dict(self._dsn)
        except psycopg.ProgrammingError:
            raise ConfigurationError("the DSN cannot be read; use postgresql://user@host/database") from None
        defaults = {**_NETWORK, "application_name": "durable"}
        if not self.is_pooled:
            defaults["options"] = _DIRECT_OPTIONS
        if "options" in given and not self.is_pooled:
            given["options"] = f"{_DIRECT_OPTIONS} {given['options']}"
        settings: dict[str, Any] = {**defaults, **given}
        return make_conninfo(**settings)

    def _lent_settings(self) -> dict[str, Any]:
        return {"autocommit": True, "prepare_threshold": None if self.is_pooled else PREPARE_AFTER}

    @contextmanager
    def probe(self) -> Generator[psycopg.Connection[Any]]:
        """Find out whether a pooler stands between: it invents the backend's pid, the server tells the true one.

        Gives the connection on which that was asked, in autocommit and without our settings.
        """
        self._dsn = self._source.acquire()
        self.is_pooled = True
        with translated(), psycopg.connect(self.conninfo, autocommit=True, prepare_threshold=None) as connection:
            row = connection.execute("select pg_catalog.pg_backend_pid()").fetchone()
            self.is_pooled = row is None or row[0] != connection.info.backend_pid
            if self.is_pooled:
                _log.info("a connection pooler stands before the server: hints are off, polling finds new work")
            yield connection

    async def open(self) -> None:
        pool = AsyncConnectionPool(
            self.conninfo, connection_class=Own, kwargs=_OWN_SETTINGS, configure=self._configure,
            open=False, name="durable", min_size=self._min_size, max_size=self._max_size, timeout=4.0,
            reconnect_timeout=2.0, check=None,
        )  # fmt: skip
        self._async_pool = Keeping(pool)
        most = min(_MOST_TRANSACTIONS, self._max_size)
        self._transactions = AsyncConnectionPool(
            self.conninfo, connection_class=LentConnection, kwargs=self._lent_settings(), configure=_register_loaders,
            reset=self._restore, open=False, name="durable-transactions", min_size=0, max_size=most, timeout=4.0,
            reconnect_timeout=2.0, check=None,
        )  # fmt: skip
        self._free_transactions = asyncio.Semaphore(most)
        with translated():
            await self._async_pool.open()
            await self._transactions.open()

    async def _configure(self, connection: Own) -> None:
        self._make_own(connection)

    def _make_own(self, connection: Own | BlockingOwn) -> None:
        """Prepare every statement on a direct connection, none behind a pooler."""
        register_loaders(connection)
        connection.prepared = None if self.is_pooled else Prepared(connection, self._statements)

    async def _restore(self, connection: LentConnection) -> None:
        """By a worker of the pool, when the connection comes back; one that fails is closed by it."""
        await connection.restore(is_pooled=self.is_pooled)

    async def close(self) -> None:
        statements, transactions = self._async_pool, self._transactions
        self._async_pool = self._transactions = None
        if statements is not None:
            await statements.close()
        if transactions is not None:
            await transactions.close(timeout=0.5)
        self._release()

    def open_blocking(self) -> None:
        self._pool = ConnectionPool(
            self.conninfo, connection_class=BlockingOwn, kwargs=_OWN_SETTINGS, configure=self._make_own, open=False,
            name="durable-blocking", min_size=1, max_size=self._max_size, timeout=4.0, reconnect_timeout=2.0,
        )  # fmt: skip
        with translated():
            self._pool.open(wait=True, timeout=10.0)

    def close_blocking(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close(timeout=0.5)
        self._release()

    def _release(self) -> None:
        """End the use of the server when neither colour is open any more."""
        if self._pool is None and self._async_pool is None:
            self._source.release()

    def connect(self) -> BlockingOwn:
        """A blocking connection outside every pool."""
        with self._reviving(), translated():
            connection = BlockingOwn.connect(self.conninfo, **_OWN_SETTINGS)
        self._make_own(connection)
        return connection

    async def connect_async(self) -> psycopg.AsyncConnection[Any]:
        with translated():
            connection = await psycopg.AsyncConnection.connect(self.conninfo, **_OWN_SETTINGS)
        register_loaders(connection)
        return connection

    @contextmanager
    def _reviving(self) -> Generator[None]:
        try:
            yield
        except RowsHeld:
            raise  # by a server that lives
        except StorageUnavailable:
            self._source.revive()
            raise

    async def run_async(self, operation: PostgresOperation[T]) -> T:
        pool = self._async_pool
        if pool is None:
            raise NotOpen("the storage is not open for this event loop; use it inside `async with app:`")
        try:
            with translated():
                connection = pool.take() or await pool.get()
                try:
                    return await drive_async(operation.make_plan, connection, self._statements, operation.transaction)
                except Exception as error:
                    if is_connection_spent(error):
                        await connection.close()
                    raise
                finally:
                    # One that a plan left in a transaction, or with a statement under way, is for the pool to undo.
                    if not pool.keep(connection):
                        await pool.pool.putconn(connection)
        except RowsHeld:
            raise  # by a server that lives
        except StorageUnavailable:
            await asyncio.to_thread(self._source.revive)
            raise

    @asynccontextmanager
    async def transaction(
        self, connection: psycopg.AsyncConnection[Any] | None
    ) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
        """A transaction on a connection of its own, or a part of the one given. Waits while too many go on."""
        if connection is not None:
            async with _part_of(connection):
                yield connection
            return
        if self._transactions is None:
            raise NotOpen("the storage is not open for this event loop; use it inside `async with app:`")
        async with self._free_transactions, self._transactions.connection() as own, own.transaction():
            yield own

    def run(self, operation: PostgresOperation[T]) -> T:
        if self._pool is None:
            raise NotOpen("the storage is not open for blocking calls; use it inside `with app.client() as client:`")
        with self._reviving(), translated(), self._pool.connection() as connection:
            try:
                return drive(operation.make_plan, connection, self._statements, operation.transaction)
            except Exception as error:
                if is_connection_spent(error):
                    connection.close()
                raise

    def run_own(self, operation: PostgresOperation[T], connection: BlockingOwn) -> T:
        """On one of our own blocking connections, outside every pool."""
        with translated():
            return drive(operation.make_plan, connection, self._statements, operation.transaction)

    def run_on(self, operation: PostgresOperation[T], connection: psycopg.Connection[Any]) -> T:
        return drive_on(operation.make_plan, connection, self._statements, operation.transaction)

    async def await_on(self, operation: PostgresOperation[T], connection: psycopg.AsyncConnection[Any]) -> T:
        return await drive_on_async(operation.make_plan, connection, self._statements, operation.transaction)


@asynccontextmanager
async def _part_of(connection: psycopg.AsyncConnection[Any]) -> AsyncGenerator[None]:
    """A savepoint, which is gone if the block has ended the transaction, whatever it has begun since."""
    try:
        async with connection.transaction():
            yield
        if connection.closed:
            # psycopg has nothing to release then, and says nothing.
            raise psycopg.OperationalError("the connection of the transaction was lost, or closed")
    except errors.InFailedSqlTransaction:
        raise  # a statement failed, and the block went on as if it had not
    except (errors.NoActiveSqlTransaction, errors.InvalidSavepointSpecification) as error:
        raise TransactionEnded(_ENDED) from error
    except Exception as error:
        # psycopg raises what the block raised also where there was nothing to roll back to any more.
        if connection.info.transaction_status in (TransactionStatus.IDLE, TransactionStatus.INERROR):
            raise TransactionEnded(_ENDED) from error
        raise


async def _register_loaders(connection: psycopg.AsyncConnection[Any]) -> None:
    register_loaders(connection)


class PostgresLane:
    """A blocking connection of a thread's own, made anew after each failure."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._connection: BlockingOwn | None = None

    def run(self, operation: Operation[T]) -> T:
        if isinstance(operation, HopefulOperation):
            hopeful: HopefulOperation[T] = operation
            return hopeful.run_by(self._run)
        assert isinstance(operation, PostgresOperation), "a lane runs the operations of its own storage"
        plain: PostgresOperation[T] = operation
        return self._run(plain)

    def _run(self, operation: PostgresOperation[T]) -> T:
        if self._connection is None or self._connection.closed:
            self._connection = self._connections.connect()
        try:
            return self._connections.run_own(operation, self._connection)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
