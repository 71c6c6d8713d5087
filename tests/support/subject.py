"""What the contract needs of Postgres: three storages on one fresh schema, its clock, and ways past the verbs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, Final, TypeVar

import psycopg
from psycopg import sql

from storage_postgres import PostgresStorage
from storage_postgres.arrays import plain
from storage_postgres.connections import Connections
from storage_postgres.operation import PostgresOperation
from storage_postgres.source import DsnSource
from storage_postgres.statements import Statements, render
from tests.support import clock
from tests.support.locks import PATIENCE

__all__ = ["PostgresSubject", "RowsHeld", "open_storage", "open_subject"]

T = TypeVar("T")
HANDLES: Final = 3
_WAITS_FOR: Final = (
    "select exists (select 1 from pg_catalog.pg_stat_activity as a"
    " where a.wait_event_type = 'Lock' and %s = any(pg_catalog.pg_blocking_pids(a.pid)))"
)


class RowsHeld:
    """See durable.testing.contract.subject.Held."""

    def __init__(self, watch: psycopg.AsyncConnection[Any], holder_pid: int) -> None:
        self._watch = watch
        self._holder_pid = holder_pid

    async def contended(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while not await self._is_waited_for():
                pass  # each round is a round trip, so the waiter gets its turns

    async def _is_waited_for(self) -> bool:
        row = await (await self._watch.execute(_WAITS_FOR, [self._holder_pid])).fetchone()
        return bool(row and row[0])


class PostgresSubject:
    """See durable.testing.contract.subject.ContractSubject. Made by `open_subject`."""

    has_row_locks = True
    has_transactions = True

    def __init__(
        self, dsn: str, schema: str, handles: Sequence[PostgresStorage], control: psycopg.AsyncConnection[Any]
    ) -> None:
        self.handles = handles
        self._dsn = dsn
        self.schema = schema
        self.control = control
        """In autocommit, for what a test does beside the verbs."""

    async def advance(self, seconds: float) -> None:
        await clock.advance(self.control, self.schema, seconds)

    async def now(self) -> datetime:
        return await clock.now(self.control, self.schema)

    @asynccontextmanager
    async def hold(self, ids: Sequence[str]) -> AsyncGenerator[RowsHeld]:
        lock = render("select 1 from /*schema*/executions where id = any(%s::uuid[]) for update", self.schema)
        async with await psycopg.AsyncConnection.connect(self._dsn) as holder:
            found = await (await holder.execute(lock, [plain(ids)])).fetchall()
            assert len(found) == len(ids), "every row to be held must be there"
            yield RowsHeld(self.control, holder.info.backend_pid)

    @asynccontextmanager
    async def rolled_back(self) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
        async with (
            await psycopg.AsyncConnection.connect(self._dsn) as connection,
            connection.transaction(force_rollback=True),
        ):
            yield connection

    @contextmanager
    def rolled_back_blocking(self) -> Generator[psycopg.Connection[Any]]:
        with psycopg.connect(self._dsn) as connection, connection.transaction(force_rollback=True):
            yield connection

    async def tamper(self, execution_id: str, **columns: object) -> None:
        assignments = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in columns
        )
        update = render("update /*schema*/executions set ", self.schema) + assignments
        values = {name: str(value) if isinstance(value, str) else value for name, value in columns.items()}
        cursor = await self.control.execute(update + sql.SQL(" where id = %(_id)s"), {**values, "_id": execution_id})
        assert cursor.rowcount == 1, f"execution {execution_id} is not stored"


@asynccontextmanager
async def open_storage(storage: PostgresStorage) -> AsyncGenerator[PostgresStorage]:
    """Open in both colours until the block ends."""
    await storage.open()
    try:
        await asyncio.to_thread(storage.open_blocking)
        try:
            yield storage
        finally:
            await asyncio.to_thread(storage.close_blocking)
    finally:
        await storage.close()


class Lazy(Connections):
    """Connections that open at their first use: most cases use one handle of three, and one of its two colours."""

    def __init__(self, dsn: str, schema: str, *, is_pooled: bool) -> None:
        # One connection: no verb may need a second one while it holds one.
        super().__init__(DsnSource(dsn), Statements(schema), min_size=1, max_size=1)
        self._dsn = dsn
        self.is_pooled = is_pooled
        self._opening = asyncio.Lock()
        self._opening_blocking = threading.Lock()

    async def run_async(self, operation: PostgresOperation[T]) -> T:
        await self._open_once()
        return await super().run_async(operation)

    @asynccontextmanager
    async def transaction(
        self, connection: psycopg.AsyncConnection[Any] | None
    ) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
        await self._open_once()
        async with super().transaction(connection) as own:
            yield own

    def run(self, operation: PostgresOperation[T]) -> T:
        with self._opening_blocking:
            if self._pool is None:
                self.open_blocking()
        return super().run(operation)

    async def _open_once(self) -> None:
        async with self._opening:
            if self._async_pool is None:
                await self.open()


@asynccontextmanager
async def _handle(dsn: str, schema: str, *, is_pooled: bool) -> AsyncGenerator[PostgresStorage]:
    storage = PostgresStorage(dsn, schema=schema)
    storage.connections = Lazy(dsn, schema, is_pooled=is_pooled)
    try:
        yield storage
    finally:
        await storage.close()
        await asyncio.to_thread(storage.close_blocking)


@asynccontextmanager
async def open_subject(dsn: str, schema: str, *, through: str | None = None) -> AsyncGenerator[PostgresSubject]:
    """A subject on a schema that is migrated and whose clock stands; its handles connect to `through`, a pooler."""
    async with AsyncExitStack() as stack:
        opening = [_handle(through or dsn, schema, is_pooled=through is not None) for _ in range(HANDLES)]
        handles = [await stack.enter_async_context(handle) for handle in opening]
        control = await stack.enter_async_context(await psycopg.AsyncConnection.connect(dsn, autocommit=True))
        yield PostgresSubject(dsn, schema, handles, control)
