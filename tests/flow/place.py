"""Where a flow test runs: one store of executions, in memory or on Postgres, and ways to look at it from the side."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

import psycopg
from psycopg import sql

from durable import Durable, Execution, Executor
from durable.memory import MemoryStorage
from durable.memory.store import Store
from durable.storage import Defect, Storage
from storage_postgres import PostgresStorage
from storage_postgres.statements import render

__all__ = [
    "FAR_AHEAD",
    "LONG_AGO",
    "PATIENCE",
    "MemoryPlace",
    "Place",
    "PostgresPlace",
    "running",
    "soon",
    "turns",
    "until",
]

T = TypeVar("T")

PATIENCE: Final = 30.0
"""Seconds after which what should have happened is taken for broken; when all is well no test waits that long."""

LONG_AGO: Final = datetime.now(UTC) - timedelta(days=1)
FAR_AHEAD: Final = datetime.now(UTC) + timedelta(days=1)

_QUICK: Final[dict[str, Any]] = {"poll_interval": "50ms", "lease": "10m", "upkeep_interval": "100ms", "grace": "5s"}
# The lease is so long that no renewal comes to notice what should have been noticed without one.


class Place(Protocol):
    """One store of executions, seen through as many handles as a test wants."""

    name: str
    is_spoiled: bool
    """Set by a test that breaks records on purpose: then nothing is asserted of them at its end."""

    def storage(self) -> Storage:
        """Another handle, as another process would have; not open."""
        ...

    def app(self, **options: Any) -> Durable: ...

    def count(self) -> int:
        """All executions that are stored."""
        ...

    def tamper(self, execution_id: str, **columns: Any) -> None:
        """Write columns of a record past every rule."""
        ...

    def defects(self) -> list[Defect]: ...


class _Apps:
    """What both places share."""

    is_spoiled = False

    def storage(self) -> Storage:
        raise NotImplementedError

    def app(self, **options: Any) -> Durable:
        return Durable(storage=self.storage(), **{"poll_interval": "50ms", **options})


class MemoryPlace(_Apps):
    name = "memory"

    def __init__(self) -> None:
        self._store = Store(lambda: datetime.now(UTC))

    def storage(self) -> Storage:
        return MemoryStorage(store=self._store)

    def count(self) -> int:
        return len(self._store.executions)

    def tamper(self, execution_id: str, **columns: Any) -> None:
        self._store.executions[execution_id] = self._store.executions[execution_id]._replace(**columns)

    def defects(self) -> list[Defect]:
        return self.storage().defects(limit=100).run()


class PostgresPlace(_Apps):
    name = "postgres"

    def __init__(self, dsn: str, schema: str, control: psycopg.Connection[Any]) -> None:
        self.dsn = dsn
        self.schema = schema
        self.control = control

    def storage(self) -> PostgresStorage:
        # One connection: whatever holds one while it asks for another hangs here.
        return PostgresStorage(self.dsn, schema=self.schema, min_size=1, max_size=1)

    def count(self) -> int:
        row = self.control.execute(render("select count(*) from /*schema*/executions", self.schema)).fetchone()
        assert row is not None
        return int(row[0])

    def tamper(self, execution_id: str, **columns: Any) -> None:
        changes = sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(c), sql.Placeholder(c)) for c in columns)
        update = render("update /*schema*/executions set ", self.schema) + changes + sql.SQL(" where id = %(_id)s")
        values = {name: str(value) if isinstance(value, str) else value for name, value in columns.items()}
        assert self.control.execute(update, {**values, "_id": execution_id}).rowcount == 1

    def defects(self) -> list[Defect]:
        storage = self.storage()
        storage.open_blocking()
        try:
            return storage.defects(limit=100).run()
        finally:
            storage.close_blocking()


@asynccontextmanager
async def running(app: Durable, **settings: Any) -> AsyncIterator[Executor]:
    """The app, open, with an executor of short intervals."""
    async with app, app.executor(**{**_QUICK, **settings}) as executor:
        yield executor


async def soon(awaited: Awaitable[T]) -> T:
    """Its result, which must come before the patience is over."""
    async with asyncio.timeout(PATIENCE):
        return await awaited


async def turns(count: int) -> None:
    """Let the event loop go round so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(app: Durable, execution_id: str, is_so: Callable[[Execution], bool]) -> Execution:
    """The record as soon as it is so. Each look is a round trip, so whatever is to change it gets its turns."""
    async with asyncio.timeout(PATIENCE):
        while True:
            record = await app.execution(execution_id)
            if is_so(record):
                return record
