"""Behind pgbouncer in transaction mode, with two server connections for several clients, and with pools of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any, Final

import psycopg
import pytest
import pytest_asyncio

from durable.errors import StorageUnavailable
from durable.execution import Claimed, Kind, Phase, Status
from durable.storage import ExecutionFilter, Hint
from durable.testing import Maker
from durable.transitions import complete, spawn
from storage_postgres import PostgresStorage
from tests.support.bouncer import MARKER, bouncing
from tests.support.subject import open_storage

pytestmark = pytest.mark.pgbouncer
assert pytestmark.name == MARKER

CLIENTS: Final = 4
TREES: Final = 15


@pytest.fixture(scope="module")
def bouncer_dsn(postgres_dsn: str) -> Iterator[str]:
    with bouncing(postgres_dsn, pool_size=2) as dsn:
        yield dsn


@pytest_asyncio.fixture
async def clients(bouncer_dsn: str, migrated_schema: str) -> AsyncIterator[list[PostgresStorage]]:
    """Each has one connection for each colour; with the lanes there are more than five to a server connection."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                open_storage(PostgresStorage(bouncer_dsn, schema=migrated_schema, max_size=1))
            )
            for _ in range(CLIENTS)
        ]


@pytest.fixture
def client(clients: list[PostgresStorage]) -> PostgresStorage:
    return clients[0]


class Worker:
    """An executor in small: claims what there is, renews it by its lane, and ends it, until its trees are complete."""

    def __init__(self, storage: PostgresStorage, number: int) -> None:
        self._storage = storage
        self._name = f"executor-{number}"
        self._lane = storage.lane()
        self._make = Maker(series=number)
        self.started: list[tuple[str, int]] = []

    async def run(self) -> None:
        roots = self._make.rows(TREES, kind=Kind.PARENT, task_name="root")
        await self._storage.enqueue(roots)
        ids = [row.id for row in roots]
        while len(await self._storage.finished(ids)) < TREES:
            await self._take_turns()
        self._lane.close()

    async def _take_turns(self) -> None:
        turns = await self._storage.claim(
            executor_id=self._name, queues=["default"], task_names=["root", "leaf"], limit=5, lease=60
        )
        self.started += [(turn.id, turn.fence) for turn in turns]
        held = [(turn.id, turn.fence) for turn in turns]
        assert await asyncio.to_thread(self._lane.run, self._storage.renew(held, lease=60)) == {id_ for id_, _ in held}
        await self._storage.heartbeat([(*pair, '"half way"') for pair in held])
        settled = await asyncio.to_thread(self._storage.settle([self._end(turn) for turn in turns]).run)
        assert settled.accepted == {turn.id for turn in turns}

    def _end(self, turn: Claimed) -> Any:
        if turn.task_name == "root" and turn.phase is Phase.RUN:
            return spawn(turn, None, self._make.children(turn, 2, task_name="leaf"))
        return complete(turn, '"done"')


async def test_the_pooler_is_noticed(client: PostgresStorage, postgres_storage: PostgresStorage) -> None:
    assert client.connections.is_pooled
    assert not postgres_storage.connections.is_pooled


async def test_several_clients_run_all_their_trees_over_two_connections(clients: list[PostgresStorage]) -> None:
    workers = [Worker(storage, number) for number, storage in enumerate(clients, 1)]

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(worker.run())

    started = [start for worker in workers for start in worker.started]
    records = await clients[0].search(ExecutionFilter(), limit=10_000)
    assert len(started) == len(set(started)) == CLIENTS * TREES * 4
    assert len(records) == CLIENTS * TREES * 3
    assert {record.status for record in records} == {Status.COMPLETED}
    assert await clients[0].defects(limit=10) == []


async def test_no_statement_is_left_prepared_on_a_server_connection(
    client: PostgresStorage, postgres_control: psycopg.Connection[Any]
) -> None:
    """With pgbouncer below 1.21 the next client would meet it under a name it takes for its own."""
    for _ in range(10):
        await client.now()
        client.now().run()

    (row,) = await asyncio.to_thread(prepared_statements, client)
    assert row == (0,)


def prepared_statements(client: PostgresStorage) -> list[tuple[Any, ...]]:
    with client.connections.connect() as connection:
        return connection.execute("select count(*) from pg_catalog.pg_prepared_statements").fetchall()


async def test_migrations_run_through_it(bouncer_dsn: str, schema: str) -> None:
    storage = PostgresStorage(bouncer_dsn, schema=schema, max_size=1)

    assert storage.migrate() != []
    assert storage.migrate() == []


async def test_hints_are_sent_and_listening_ends_at_once(client: PostgresStorage) -> None:
    await client.hint([Hint("ready", "default")])

    assert [hint async for hint in client.listen()] == []


async def test_several_statements_of_one_verb_stand_or_fall_together(client: PostgresStorage) -> None:
    make = Maker()
    await client.enqueue([make.row(idempotency_key="order-1", idempotency_hash="a")])
    row, clash = make.row(), make.row(idempotency_key="order-1", idempotency_hash="b")

    results = await client.enqueue([row, clash], all_or_nothing=True)

    assert [result.is_conflict for result in results] == [False, True]
    assert await client.existing([row.id]) == frozenset()


async def test_a_verb_joins_a_transaction_of_the_caller(client: PostgresStorage, bouncer_dsn: str) -> None:
    lost, kept = Maker().rows(2)
    async with await psycopg.AsyncConnection.connect(bouncer_dsn, prepare_threshold=None) as connection:
        await client.enqueue([lost]).await_on(connection)
        await connection.rollback()
        await client.enqueue([kept]).await_on(connection)
        await connection.commit()

    assert await client.existing([lost.id, kept.id]) == {kept.id}


async def test_a_server_connection_that_was_ended_is_an_outage_and_the_next_calls_work(
    client: PostgresStorage, postgres_control: psycopg.Connection[Any]
) -> None:
    await client.now()
    postgres_control.execute(
        "select pg_catalog.pg_terminate_backend(pid, 30000) from pg_catalog.pg_stat_activity"
        " where application_name = 'durable' and datname = pg_catalog.current_database()"
    )
    row = Maker().row()

    while True:
        try:
            (result,) = await client.enqueue([row])
        except StorageUnavailable:
            continue  # a server connection that pgbouncer has not yet found dead
        break

    assert result.id == row.id
