"""Verbs inside the caller's own psycopg transaction, of either colour: they share its end and leave no trace on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, Protocol, TypeVar

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from psycopg.adapt import Loader
from psycopg.rows import dict_row

from durable.errors import ConfigurationError, StorageError, StorageUnavailable
from durable.storage import Operation
from durable.testing import Maker
from storage_postgres import PostgresStorage

T = TypeVar("T")
MAKE: Final = Maker()


class Caller(Protocol):
    """A connection of the user's, asked the same way whatever its colour."""

    connection: Any

    async def run(self, operation: Operation[T]) -> T: ...

    async def execute(self, query: sql.SQL | sql.Composed) -> list[Any]: ...

    async def commit(self) -> None: ...

    async def rollback(self) -> None: ...

    async def close(self) -> None: ...


class BlockingCaller:
    def __init__(self, dsn: str, **options: Any) -> None:
        self.connection = psycopg.connect(dsn, **options)

    async def run(self, operation: Operation[T]) -> T:
        return operation.run_on(self.connection)

    async def execute(self, query: sql.SQL | sql.Composed) -> list[Any]:
        cursor = self.connection.execute(query)
        return cursor.fetchall() if cursor.description else []

    async def commit(self) -> None:
        self.connection.commit()

    async def rollback(self) -> None:
        self.connection.rollback()

    async def close(self) -> None:
        self.connection.close()


class AsyncCaller:
    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection

    async def run(self, operation: Operation[T]) -> T:
        return await operation.await_on(self.connection)

    async def execute(self, query: sql.SQL | sql.Composed) -> list[Any]:
        cursor = await self.connection.execute(query)
        return await cursor.fetchall() if cursor.description else []

    async def commit(self) -> None:
        await self.connection.commit()

    async def rollback(self) -> None:
        await self.connection.rollback()

    async def close(self) -> None:
        await self.connection.close()


async def connect(colour: str, dsn: str, **options: Any) -> Caller:
    if colour == "blocking":
        return BlockingCaller(dsn, **options)
    return AsyncCaller(await psycopg.AsyncConnection.connect(dsn, **options))


@pytest.fixture(params=["blocking", "async"])
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture
async def caller(colour: str, postgres_dsn: str) -> AsyncIterator[Caller]:
    caller = await connect(colour, postgres_dsn)
    yield caller
    await caller.close()


@pytest.fixture
def storage(postgres_storage: PostgresStorage) -> PostgresStorage:
    return postgres_storage


async def is_stored(storage: PostgresStorage, id_: str) -> bool:
    return id_ in await storage.existing([id_])


@pytest.mark.parametrize("all_or_nothing", [False, True])
async def test_what_is_rolled_back_was_never_there(
    all_or_nothing: bool, caller: Caller, storage: PostgresStorage
) -> None:
    row = MAKE.row()
    await caller.run(storage.enqueue([row], all_or_nothing=all_or_nothing))
    assert not await is_stored(storage, row.id)

    await caller.rollback()

    assert not await is_stored(storage, row.id)


@pytest.mark.parametrize("all_or_nothing", [False, True])
async def test_what_is_committed_is_there(all_or_nothing: bool, caller: Caller, storage: PostgresStorage) -> None:
    row = MAKE.row()
    await caller.run(storage.enqueue([row], all_or_nothing=all_or_nothing))
    assert not await is_stored(storage, row.id)

    await caller.commit()

    assert await is_stored(storage, row.id)


async def test_it_shares_the_end_of_the_callers_own_writes(caller: Caller, storage: PostgresStorage) -> None:
    orders = sql.Identifier(storage.schema, "orders")
    await caller.execute(sql.SQL("create table {} (id text)").format(orders))
    await caller.commit()
    lost, kept = MAKE.rows(2)

    await caller.execute(sql.SQL("insert into {} values ('lost')").format(orders))
    await caller.run(storage.enqueue([lost]))
    await caller.rollback()
    await caller.execute(sql.SQL("insert into {} values ('kept')").format(orders))
    await caller.run(storage.enqueue([kept]))
    await caller.commit()

    assert await caller.execute(sql.SQL("select id from {}").format(orders)) == [("kept",)]
    assert await storage.existing([lost.id, kept.id]) == {kept.id}


async def test_in_autocommit_it_is_there_at_once(colour: str, postgres_dsn: str, storage: PostgresStorage) -> None:
    row = MAKE.row()
    caller = await connect(colour, postgres_dsn, autocommit=True)
    try:
        await caller.run(storage.enqueue([row], all_or_nothing=True))
    finally:
        await caller.close()

    assert await is_stored(storage, row.id)


async def test_a_conflict_leaves_the_callers_transaction_usable(caller: Caller, storage: PostgresStorage) -> None:
    await storage.enqueue([MAKE.row(idempotency_key="order-1", idempotency_hash="a")])
    other, clash, kept = MAKE.row(), MAKE.row(idempotency_key="order-1", idempotency_hash="b"), MAKE.row()

    results = await caller.run(storage.enqueue([other, clash], all_or_nothing=True))
    await caller.run(storage.enqueue([kept]))
    await caller.commit()

    assert [result.is_conflict for result in results] == [False, True]
    assert await storage.existing([other.id, clash.id, kept.id]) == {kept.id}


async def test_a_failed_transaction_says_so_and_stores_nothing(caller: Caller, storage: PostgresStorage) -> None:
    row = MAKE.row()
    with pytest.raises(psycopg.errors.DivisionByZero):
        await caller.execute(sql.SQL("select 1 / 0"))

    with pytest.raises(StorageError, match="transaction is aborted"):
        await caller.run(storage.enqueue([row]))
    await caller.rollback()

    assert not await is_stored(storage, row.id)
    await caller.run(storage.enqueue([row]))
    await caller.commit()
    assert await is_stored(storage, row.id)


async def test_a_key_that_a_snapshot_cannot_see_is_worth_another_try(caller: Caller, storage: PostgresStorage) -> None:
    await caller.execute(sql.SQL("set transaction isolation level repeatable read"))
    await caller.execute(sql.SQL("select 1 from pg_catalog.pg_class limit 1"))
    (there,) = await storage.enqueue([MAKE.row(idempotency_key="order-1", idempotency_hash="a")])
    again = storage.enqueue([MAKE.row(idempotency_key="order-1", idempotency_hash="a")])

    with pytest.raises(StorageUnavailable) as raised:
        await caller.run(again)
    await caller.rollback()

    assert storage.is_transient(raised.value)
    assert [result.id for result in await caller.run(again)] == [there.id]


class Shout(Loader):
    """A loader that nobody else would expect."""

    def load(self, data: Any) -> str:
        return f"<{bytes(data).decode()}>"


async def test_the_callers_adapters_change_nothing_here_and_are_left_as_they_are(
    caller: Caller, storage: PostgresStorage
) -> None:
    row = MAKE.row(priority=2)
    await storage.enqueue([row])
    probe = sql.SQL("select 'a7e1f6c0-0000-7000-8000-000000000001'::uuid, 1::bigint, 'x'::text, true, 1.5::float8")
    for name in ("uuid", "int2", "int4", "int8", "text", "bool", "float8", "timestamptz"):
        caller.connection.adapters.register_loader(name, Shout)
    before = await caller.execute(probe)

    found = await caller.run(storage.get([row.id]))

    assert found == await storage.get([row.id])
    assert await caller.execute(probe) == before
    assert before[0][1] == "<1>"


async def test_the_callers_row_factory_and_cursors_change_nothing_here(
    colour: str, postgres_dsn: str, storage: PostgresStorage
) -> None:
    raw = psycopg.RawCursor if colour == "blocking" else psycopg.AsyncRawCursor
    client = psycopg.ClientCursor if colour == "blocking" else psycopg.AsyncClientCursor
    for factory in (raw, client):
        row = MAKE.row()
        caller = await connect(colour, postgres_dsn, row_factory=dict_row, cursor_factory=factory)
        try:
            await caller.run(storage.enqueue([row]))
            await caller.commit()
        finally:
            await caller.close()
        assert await is_stored(storage, row.id)


@pytest.mark.parametrize("count", [1, 2, 2_500])
async def test_a_caller_in_pipeline_mode_gets_results_at_once(
    caller: Caller, storage: PostgresStorage, count: int
) -> None:
    rows = MAKE.rows(count)
    operation = storage.enqueue(rows, all_or_nothing=count > 1)
    if isinstance(caller, BlockingCaller):
        with caller.connection.pipeline():
            results = await caller.run(operation)
    else:
        async with caller.connection.pipeline():
            results = await caller.run(operation)
    await caller.commit()

    assert [result.id for result in results] == [row.id for row in rows]
    assert len(await storage.existing([row.id for row in rows])) == count


async def test_a_connection_of_the_other_colour_is_refused(
    colour: str, caller: Caller, storage: PostgresStorage
) -> None:
    operation = storage.enqueue([MAKE.row()])

    with pytest.raises(ConfigurationError, match="connection= takes"):
        await (operation.await_on if colour == "blocking" else _in_blocking(operation))(caller.connection)


def _in_blocking(operation: Operation[T]) -> Any:
    async def run(connection: Any) -> T:
        return operation.run_on(connection)

    return run
