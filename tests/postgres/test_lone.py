"""A lone root without keys goes in by a statement of its own, and nobody can tell by what is stored or answered."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

import psycopg
import pytest

from durable.execution import Enqueued, Kind, NewExecution
from durable.storage import Operation
from durable.testing import Maker
from storage_postgres.operation import HopefulOperation
from tests.support.locks import until_waiting
from tests.support.subject import PostgresSubject

MAKE: Final = Maker()
OTHERS: Final[list[dict[str, Any]]] = [
    {"idempotency_key": "k", "idempotency_hash": "h"},
    {"idempotency_hash": "h"},
    {"kind": Kind.SLEEPING, "sleeping_id": "door"},
    {"sleeping_id": "door"},
    {"root_id": MAKE.id()},
    {"parent_id": MAKE.id()},
    {"child_index": 1},
    {"depth": 1},
    {"is_finalize": True},
    {"outlives_parent": True},
]


async def run(colour: str, operation: Operation[list[Enqueued]]) -> list[Enqueued]:
    return await (operation if colour == "async" else asyncio.to_thread(operation.run))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"kind": Kind.WORKFLOW, "task_name": 'a "name"', "task_version": 70_000, "queue": "a'b", "priority": -2},
        {"delay": 0.25, "timeout": 1e-3, "retry": '{"max_attempts": 2}', "max_attempts": 40_000, "max_deliveries": 1},
        {"is_pooled": True, "serial_key": "a€", "on_complete": MAKE.callback(), "input": '"\\u0000 € \\\\ {,}"'},
        {"delay": 30.0, "run_at": timedelta(days=1)},
        {"delay": 30.0, "run_at": timedelta(days=-1)},
    ],
)
async def test_it_is_stored_as_by_the_statement_for_every_row(
    postgres_subject: PostgresSubject, postgres_dsn: str, fields: dict[str, Any]
) -> None:
    storage = postgres_subject.handles[0]
    if "run_at" in fields:
        fields = {**fields, "run_at": await postgres_subject.now() + fields["run_at"]}
    alone, careful = MAKE.rows(2, **fields)

    assert await storage.enqueue([alone]) == [Enqueued(alone.id, True, False)]
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as connection:
        await storage.enqueue([careful]).await_on(connection)

    one, other = await storage.get([alone.id, careful.id])
    assert one is not None
    assert one._replace(id=careful.id, root_id=careful.id) == other


def test_what_may_meet_more_than_its_id_takes_the_statement_for_every_row(postgres_subject: PostgresSubject) -> None:
    def is_hopeful(row: NewExecution) -> bool:
        return isinstance(postgres_subject.handles[0].enqueue([row]), HopefulOperation)

    assert is_hopeful(MAKE.row())
    assert [fields for fields in OTHERS if is_hopeful(MAKE.row(**fields))] == []


@pytest.mark.parametrize("colour", ["async", "blocking"])
async def test_a_try_that_meets_an_earlier_one_while_it_commits_answers_as_that_did(
    postgres_subject: PostgresSubject, postgres_dsn: str, colour: str
) -> None:
    one, two, _ = postgres_subject.handles
    row = MAKE.row()
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as connection:
        await two.enqueue([row]).await_on(connection)
        again = asyncio.ensure_future(run(colour, one.enqueue([row])))
        await until_waiting(postgres_subject.control, 1)
        await connection.commit()

    assert await again == [Enqueued(row.id, True, False)]


@pytest.mark.parametrize("colour", ["async", "blocking"])
async def test_in_a_transaction_of_the_callers_an_id_that_is_stored_undoes_nothing(
    postgres_subject: PostgresSubject, postgres_dsn: str, colour: str
) -> None:
    storage = postgres_subject.handles[0]
    mine, theirs = MAKE.rows(2)
    await storage.enqueue([theirs])

    if colour == "async":
        async with await psycopg.AsyncConnection.connect(postgres_dsn) as connection:
            await storage.enqueue([mine]).await_on(connection)
            found = await storage.enqueue([theirs]).await_on(connection)
    else:
        with psycopg.connect(postgres_dsn) as blocking:
            storage.enqueue([mine]).run_on(blocking)
            found = storage.enqueue([theirs]).run_on(blocking)

    assert found == [Enqueued(theirs.id, True, False)]
    assert await storage.existing([mine.id, theirs.id]) == {mine.id, theirs.id}
