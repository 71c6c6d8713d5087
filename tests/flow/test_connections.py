"""Enqueueing in a transaction of the caller's, on Postgres: it exists if that commits, and only then."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Final

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from pydantic import AfterValidator

from durable import (
    ConfigurationError,
    Durable,
    ExecutionNotFound,
    IdempotencyConflict,
    InvalidInput,
    SleepingIdConflict,
)
from durable.errors import DurableError, StorageError

from .place import PATIENCE, PostgresPlace, running

TRANSACTIONS: Final = """
select count(*) from pg_catalog.pg_stat_activity
where datname = pg_catalog.current_database() and pid <> pg_catalog.pg_backend_pid()
    and backend_type = 'client backend' and xact_start is not null
"""


@pytest.fixture
def app(postgres: PostgresPlace) -> Durable:
    return postgres.app()


@pytest.fixture
def place(postgres: PostgresPlace) -> PostgresPlace:
    return postgres


@pytest_asyncio.fixture
async def connection(place: PostgresPlace) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(place.dsn) as opened:
        yield opened


@pytest.fixture
def blocking(place: PostgresPlace) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(place.dsn) as opened:
        yield opened


async def test_it_commits_and_runs_with_the_callers_transaction(
    app: Durable, place: PostgresPlace, connection: psycopg.AsyncConnection[Any]
) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    async with running(app):
        async with connection.transaction():
            handle = await work.enqueue(1, connection=connection)
            many = await work.enqueue_many([2, 3], connection=connection)
            calls = await app.enqueue_calls([work.child(4)], connection=connection)
            with pytest.raises(ExecutionNotFound):
                await handle.result(0)
        assert [await each.result(PATIENCE) for each in (handle, *many, *calls)] == [1, 2, 3, 4]
    assert place.count() == 4


@pytest.mark.parametrize("late", [0, 15_000])
async def test_bad_input_is_told_before_the_transaction_is_touched(
    app: Durable, place: PostgresPlace, connection: psycopg.AsyncConnection[Any], late: int
) -> None:
    @app.task
    async def work(n: int) -> None: ...

    inputs: list[Any] = [*range(late), "x", *range(2_000)]
    async with app:
        with pytest.raises(InvalidInput, match=rf"inputs\[{late}\]"):
            await work.enqueue_many(inputs, connection=connection)
        assert connection.info.transaction_status is TransactionStatus.IDLE
        with app.client() as client, psycopg.connect(place.dsn) as blocking:
            with pytest.raises(InvalidInput, match=rf"inputs\[{late}\]"):
                client.enqueue_many(work, inputs, connection=blocking)
            assert blocking.info.transaction_status is TransactionStatus.IDLE
    assert place.count() == 0


async def test_validators_of_the_users_hold_no_transaction_open(app: Durable, place: PostgresPlace) -> None:
    found: list[Any] = []

    def looked(value: int) -> int:
        if value % 1_000 == 999:
            found.append(place.control.execute(TRANSACTIONS).fetchone())
        return value

    @app.task
    async def work(n: Annotated[int, AfterValidator(looked)]) -> None: ...

    async with app:
        await work.enqueue_many(range(3_000))
        with app.client() as client:
            client.enqueue_many(work, range(3_000))
    assert set(found) == {(0,)}
    assert place.count() == 6_000


async def test_many_are_part_of_the_callers_transaction(
    app: Durable, place: PostgresPlace, connection: psycopg.AsyncConnection[Any]
) -> None:
    @app.task
    async def work(n: int) -> None: ...

    async with app:
        async with connection.transaction(force_rollback=True):
            await work.enqueue_many(range(5_000), connection=connection)
        assert place.count() == 0
        async with connection.transaction():
            handles = await work.enqueue_many(range(5_000), connection=connection)
        assert len(handles) == place.count() == 5_000


async def test_a_rollback_takes_it_back_and_frees_its_key(
    app: Durable, place: PostgresPlace, connection: psycopg.AsyncConnection[Any]
) -> None:
    ran: list[int] = []

    @app.task
    async def work(n: int) -> int:
        ran.append(n)
        return n

    async with running(app):
        await work.enqueue(1, connection=connection, idempotency_key="once")
        await connection.rollback()
        assert place.count() == 0
        assert await (await work.enqueue(2, idempotency_key="once")).result(PATIENCE) == 2
    assert ran == [2]


async def test_a_conflict_leaves_the_callers_transaction_usable(
    app: Durable, place: PostgresPlace, connection: psycopg.AsyncConnection[Any]
) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    sleep = app.sleeping("sleep", int)
    async with app:
        await work.enqueue(1, idempotency_key="once")
        await sleep.enqueue("taken")
        async with connection.transaction():
            with pytest.raises(IdempotencyConflict):
                await work.enqueue(2, connection=connection, idempotency_key="once")
            with pytest.raises(SleepingIdConflict):
                await sleep.enqueue("taken", connection=connection)
            await work.enqueue(3, connection=connection)
    assert place.count() == 3


async def test_autocommit_makes_it_exist_at_once(app: Durable, place: PostgresPlace) -> None:
    @app.task
    async def work() -> int:
        return 1

    async with (
        running(app),
        await psycopg.AsyncConnection.connect(place.dsn, autocommit=True) as connection,
    ):
        assert await (await work.enqueue(connection=connection)).result(PATIENCE) == 1


async def test_in_a_failed_transaction_the_error_is_clear(
    app: Durable, place: PostgresPlace, connection: psycopg.AsyncConnection[Any]
) -> None:
    @app.task
    async def work() -> None: ...

    async with app:
        with pytest.raises(psycopg.errors.DivisionByZero):
            await connection.execute("select 1 / 0")
        with pytest.raises(StorageError, match="aborted"):
            await work.enqueue(connection=connection)
        await connection.rollback()
        await work.enqueue(connection=connection)
        await connection.commit()
    assert place.count() == 1


async def test_a_closed_connection_is_an_error_of_the_storage(
    app: Durable, place: PostgresPlace, connection: psycopg.AsyncConnection[Any]
) -> None:
    @app.task
    async def work() -> None: ...

    await connection.close()
    async with app:
        with pytest.raises(DurableError):
            await work.enqueue(connection=connection)
        await work.enqueue()
    assert place.count() == 1


async def test_a_connection_of_the_other_colour_or_of_none_is_refused(
    app: Durable, place: PostgresPlace, connection: psycopg.AsyncConnection[Any], blocking: psycopg.Connection[Any]
) -> None:
    @app.task
    async def work() -> None: ...

    async with app:
        for wrong in (blocking, "postgresql://", 5):
            with pytest.raises(ConfigurationError, match=r"takes a psycopg\.AsyncConnection"):
                await work.enqueue(connection=wrong)
        with app.client() as client:
            for wrong in (connection, object()):
                with pytest.raises(ConfigurationError, match=r"takes a psycopg\.Connection"):
                    client.enqueue(work, connection=wrong)
    assert place.count() == 0


async def test_the_callers_settings_adapters_and_rows_stay_as_they_were(app: Durable, place: PostgresPlace) -> None:
    @app.task
    async def work() -> None: ...

    row: dict[str, Any] | None
    async with app, await psycopg.AsyncConnection.connect(place.dsn, row_factory=dict_row) as connection:
        await connection.execute("set local search_path = pg_catalog")
        handle = await work.enqueue(connection=connection)
        cursor = await connection.execute(
            sql.SQL("select id, pg_catalog.current_setting('search_path') as path from {}.executions").format(
                sql.Identifier(place.schema)
            )
        )
        row = await cursor.fetchone()
    assert row is not None
    assert (str(row["id"]), type(row["id"]).__name__, row["path"]) == (handle.execution_id, "UUID", "pg_catalog")


def test_the_blocking_client_joins_a_transaction_too(
    app: Durable, place: PostgresPlace, blocking: psycopg.Connection[Any]
) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    with app.client() as client:
        with blocking.transaction(force_rollback=True):
            client.enqueue(work, 1, connection=blocking)
        assert place.count() == 0
        with blocking.transaction():
            client.enqueue(work, 2, connection=blocking)
            client.enqueue_many(work, [3, 4], connection=blocking)
            client.enqueue_calls([work.child(5)], connection=blocking)
        with blocking.transaction(force_rollback=True):
            client.enqueue(work, 6, connection=blocking, idempotency_key="k")
            with pytest.raises(IdempotencyConflict):
                client.enqueue(work, 7, connection=blocking, idempotency_key="k")
    assert place.count() == 4


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
async def test_any_isolation_level_will_do(
    app: Durable, place: PostgresPlace, connection: psycopg.AsyncConnection[Any], level: str
) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    async with running(app):
        await connection.set_isolation_level(psycopg.IsolationLevel[level.upper().replace(" ", "_")])
        async with connection.transaction():
            handle = await work.enqueue(1, connection=connection, idempotency_key="k")
            again = await work.enqueue(1, connection=connection, idempotency_key="k")
            assert again.execution_id == handle.execution_id
        assert await handle.result(PATIENCE) == 1
