"""Statements on connections of ours: prepared once, whatever their parameters are, and read as by any cursor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio
from psycopg import errors

from durable.errors import StorageError
from durable.execution import Enqueued
from durable.storage import Operation
from durable.testing import Maker
from storage_postgres import PostgresStorage
from storage_postgres.loaders import register_loaders
from storage_postgres.prepared import BlockingOwn, Own, Prepared
from storage_postgres.statements import Statements, numbered
from storage_postgres.verbs import PART
from tests.support.subject import open_storage

ID: Final = "00000000-0000-7000-8000-000000000001"
PREPARED: Final = "select name from pg_catalog.pg_prepared_statements where not statement like '%pg_prepared%'"


@pytest_asyncio.fixture
async def own(postgres_dsn: str, migrated_schema: str) -> AsyncIterator[Own]:
    async with await Own.connect(postgres_dsn, autocommit=True) as connection:
        register_loaders(connection)
        connection.prepared = Prepared(connection, Statements(migrated_schema))
        yield connection


async def ask(connection: Own, name: str, **params: object) -> list[tuple[object, ...]]:
    assert connection.prepared is not None
    return await connection.wait(connection.prepared.ask(name, params))


async def prepared_names(connection: Own) -> list[str]:
    return [name for (name,) in await (await connection.execute(PREPARED, prepare=False)).fetchall()]


async def test_numbers_of_any_size_and_null_take_the_same_statement(own: Own) -> None:
    for limit in (1, 70_000, 5_000_000_000, None):
        await ask(own, "redrive", ids="{}")
        assert await ask(own, "recover_closes", limit=limit) == []

    assert sorted(await prepared_names(own)) == ["recover_closes", "redrive"]


async def test_a_statement_that_fails_at_its_first_run_is_prepared_all_the_same(own: Own) -> None:
    for _ in range(2):
        with pytest.raises(errors.InvalidTextRepresentation):
            await ask(own, "redrive", ids="{no id}")

    assert await ask(own, "redrive", ids=f"{{{ID}}}") == []


async def test_a_statement_that_cannot_be_prepared_says_so_each_time(own: Own) -> None:
    own.prepared = Prepared(own, Statements("nowhere"))
    for _ in range(2):
        with pytest.raises(errors.UndefinedTable):
            await ask(own, "redrive", ids="{}")


async def test_values_are_read_in_every_run_as_in_the_first(own: Own) -> None:
    first = await ask(own, "duties")
    assert [await ask(own, "duties"), len(first), {type(value) for value in first[0]}] == [first, 1, {bool}]


def test_a_blocking_connection_runs_them_as_well(postgres_dsn: str, migrated_schema: str) -> None:
    with BlockingOwn.connect(postgres_dsn, autocommit=True) as connection:
        prepared = Prepared(connection, Statements(migrated_schema))
        assert [connection.wait(prepared.ask("redrive", {"ids": "{}"})) for _ in range(2)] == [[], []]


async def test_a_nul_is_refused_and_nothing_is_cut_off(postgres_dsn: str, migrated_schema: str) -> None:
    row = Maker().row(input='"a\0b"')
    async with open_storage(PostgresStorage(postgres_dsn, schema=migrated_schema)) as storage:
        with pytest.raises(StorageError, match="NUL"):
            await storage.enqueue([row])
        with pytest.raises(StorageError, match="NUL"):
            await asyncio.to_thread(storage.enqueue([row]).run)

        assert await storage.get([row.id]) == [None]


def test_parameters_are_numbered_by_their_first_place() -> None:
    given = b"select %(b)s::text, %(a)s::text, %(b)s::text like 'x%%'"

    assert numbered(given) == (b"select $1::text, $2::text, $1::text like 'x%'", ("b", "a"))


@pytest.mark.parametrize("colour", ["async", "blocking"])
async def test_what_is_prepared_outlasts_a_large_insert_and_a_rollback(
    postgres_dsn: str, migrated_schema: str, colour: str
) -> None:
    make = Maker()

    async def run(operation: Operation[list[Enqueued]]) -> list[Enqueued]:
        return await (operation if colour == "async" else asyncio.to_thread(operation.run))

    async with open_storage(PostgresStorage(postgres_dsn, schema=migrated_schema, min_size=1, max_size=1)) as storage:
        first, second, taken = make.row(), make.row(), make.sleeper("door")
        await run(storage.enqueue([first]))
        await run(storage.enqueue([taken]))
        await run(storage.enqueue(make.rows(PART + 1), all_or_nothing=True))

        conflicting = [make.sleeper("other"), make.sleeper("door")]
        assert [done.is_conflict for done in await run(storage.enqueue(conflicting, all_or_nothing=True))] == [
            False, True,
        ]  # fmt: skip

        assert await run(storage.enqueue([second])) == [Enqueued(second.id, True, False)]


async def test_a_session_that_has_lost_what_was_prepared_is_replaced(postgres_dsn: str, migrated_schema: str) -> None:
    make = Maker()
    async with open_storage(PostgresStorage(postgres_dsn, schema=migrated_schema, min_size=1, max_size=1)) as storage:
        await storage.enqueue([make.row()])
        pool = storage.connections._async_pool
        assert pool is not None
        connection = pool.take() or await pool.get()
        await connection.execute("deallocate all", prepare=False)
        pool.keep(connection)

        with pytest.raises(StorageError) as caught:
            await storage.enqueue([make.row()])

        assert storage.is_transient(caught.value)
        assert len(await storage.enqueue([make.row()])) == 1
