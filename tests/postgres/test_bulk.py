"""Many rows that differ in their input alone go in by one short statement: all of them or none, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, TypeVar

import psycopg
import pytest
import pytest_asyncio

from durable.errors import StorageError, StorageUnavailable
from durable.execution import Enqueued, NewExecution
from durable.storage import Operation
from durable.testing import Maker
from storage_postgres import PostgresStorage
from storage_postgres.statements import render
from tests.support.locks import until_waiting
from tests.support.subject import PostgresSubject, open_storage

T = TypeVar("T")
COUNT: Final = 3_500
"""Several parts, whose inputs do not fit into what a socket takes while nobody reads it."""
REFUSE: Final = """
create function /*schema*/refuse() returns trigger language plpgsql as
    $$ begin raise exception 'refused'; end $$;
create trigger refuse before insert on /*schema*/executions for each row when (new.input = '"refused"')
    execute function /*schema*/refuse();
"""
END_WAITING: Final = """
select pg_catalog.pg_terminate_backend(pid, 30000) from pg_catalog.pg_stat_activity
where datname = pg_catalog.current_database() and wait_event_type = 'Lock'
"""


@pytest.fixture
def rows() -> list[NewExecution]:
    return Maker().rows(COUNT, input=f'"{"x" * 1_000}"')


@pytest_asyncio.fixture
async def refusing(postgres_dsn: str, migrated_schema: str) -> AsyncIterator[PostgresStorage]:
    """Takes every input but one."""
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(render(REFUSE, migrated_schema))
    async with open_storage(PostgresStorage(postgres_dsn, schema=migrated_schema, min_size=1, max_size=2)) as storage:
        yield storage


async def stored(subject: PostgresSubject, rows: list[NewExecution]) -> int:
    return len(await subject.handles[2].existing([row.id for row in rows]))


async def run(colour: str, operation: Operation[T]) -> T:
    return await (operation if colour == "async" else asyncio.to_thread(operation.run))


def new(rows: list[NewExecution]) -> list[Enqueued]:
    return [Enqueued(row.id, True, False) for row in rows]


@pytest.mark.parametrize("colour", ["async", "blocking"])
@pytest.mark.parametrize("late", ['"refused"', '"a"\0"b"'])
async def test_an_error_in_the_last_row_stores_nothing(
    refusing: PostgresStorage, rows: list[NewExecution], late: str, colour: str
) -> None:
    rows[-1] = rows[-1]._replace(input=late)

    with pytest.raises(StorageError):
        await run(colour, refusing.enqueue(rows, all_or_nothing=True))

    assert await refusing.existing([row.id for row in rows]) == frozenset()


@pytest.mark.parametrize("place", [0, COUNT // 2, COUNT - 1])
async def test_nothing_is_seen_before_the_end_and_nothing_is_left_of_what_is_cancelled(
    postgres_subject: PostgresSubject, rows: list[NewExecution], place: int
) -> None:
    one, two, _ = postgres_subject.handles
    async with postgres_subject.rolled_back() as connection:
        await two.enqueue([rows[place]]).await_on(connection)
        storing = asyncio.ensure_future(one.enqueue(rows, all_or_nothing=True))
        await until_waiting(postgres_subject.control, 1)  # all before that one are written
        seen = await stored(postgres_subject, rows)
        storing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await storing

    assert (seen, await stored(postgres_subject, rows)) == (0, 0)


@pytest.mark.parametrize("place", [0, COUNT - 1])
@pytest.mark.parametrize("colour", ["async", "blocking"])
async def test_a_connection_lost_in_the_middle_leaves_nothing_and_the_next_try_stores_all(
    postgres_subject: PostgresSubject, rows: list[NewExecution], colour: str, place: int
) -> None:
    one, two, _ = postgres_subject.handles
    operation = one.enqueue(rows, all_or_nothing=True)
    async with postgres_subject.rolled_back() as connection:
        await two.enqueue([rows[place]]).await_on(connection)
        storing = asyncio.ensure_future(run(colour, operation))
        await until_waiting(postgres_subject.control, 1)
        await postgres_subject.control.execute(END_WAITING)
        with pytest.raises(StorageUnavailable):
            await storing
    assert await stored(postgres_subject, rows) == 0

    assert await run(colour, operation) == new(rows)

    assert await stored(postgres_subject, rows) == COUNT


@pytest.mark.parametrize("all_or_nothing", [False, True])
@pytest.mark.parametrize("colour", ["async", "blocking"])
async def test_a_try_that_meets_an_earlier_one_while_it_commits_answers_as_that_did(
    postgres_subject: PostgresSubject, postgres_dsn: str, rows: list[NewExecution], colour: str, all_or_nothing: bool
) -> None:
    one, two, _ = postgres_subject.handles
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as connection:
        await two.enqueue(rows, all_or_nothing=True).await_on(connection)
        again = asyncio.ensure_future(run(colour, one.enqueue(rows, all_or_nothing=all_or_nothing)))
        await until_waiting(postgres_subject.control, 1)
        await connection.commit()

    assert await again == new(rows)
    assert await stored(postgres_subject, rows) == COUNT


@pytest.mark.parametrize("all_or_nothing", [False, True])
@pytest.mark.parametrize("colour", ["async", "blocking"])
async def test_in_a_transaction_of_the_callers_an_id_that_is_stored_undoes_nothing(
    postgres_subject: PostgresSubject, postgres_dsn: str, rows: list[NewExecution], colour: str, all_or_nothing: bool
) -> None:
    storage = postgres_subject.handles[0]
    mine, (theirs, *rest) = rows[0], rows[1:]
    await storage.enqueue([theirs])
    operation = storage.enqueue([theirs, *rest], all_or_nothing=all_or_nothing)

    found: Any
    if colour == "async":
        async with await psycopg.AsyncConnection.connect(postgres_dsn) as connection:
            await storage.enqueue([mine]).await_on(connection)
            found = await operation.await_on(connection)
    else:
        with psycopg.connect(postgres_dsn) as blocking:
            storage.enqueue([mine]).run_on(blocking)
            found = operation.run_on(blocking)

    assert found == new([theirs, *rest])
    assert await stored(postgres_subject, rows) == COUNT
