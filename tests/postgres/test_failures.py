"""What Postgres does to us, in durable's words: which errors come, which are worth another try, and what works next."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from durable.errors import (
    ConfigurationError,
    NotOpen,
    PermissionDenied,
    SchemaNotInstalled,
    SleepingIdConflict,
    StorageError,
    StorageUnavailable,
)
from durable.execution import Kind
from durable.testing import Maker
from durable.transitions import complete, spawn
from storage_postgres import PostgresStorage
from tests.support.subject import PostgresSubject, open_storage

MAKE: Final = Maker()
Control = psycopg.Connection[Any]


@asynccontextmanager
async def opened(dsn: str, schema: str, **settings: str) -> AsyncIterator[PostgresStorage]:
    """One connection for each colour, with settings of libpq."""
    storage = PostgresStorage(make_conninfo(dsn, **settings), schema=schema, min_size=1, max_size=1)
    async with open_storage(storage):
        yield storage


def end_backends(control: Control, name: str) -> None:
    rows = control.execute(
        "select pg_catalog.pg_terminate_backend(pid, 30000) from pg_catalog.pg_stat_activity"
        " where application_name = %s",
        [name],
    ).fetchall()
    # One that was closing by itself meanwhile, such as that of the first look at the server, gives False.
    assert any(ended for (ended,) in rows)


async def test_an_ended_backend_is_an_outage_and_the_next_call_works(
    postgres_dsn: str, migrated_schema: str, postgres_control: Control
) -> None:
    row = MAKE.row()
    async with opened(postgres_dsn, migrated_schema, application_name=f"ended {migrated_schema}") as storage:
        end_backends(postgres_control, f"ended {migrated_schema}")

        with pytest.raises(StorageUnavailable) as raised:
            await storage.enqueue([row])

        assert storage.is_transient(raised.value)
        assert [result.is_new for result in await storage.enqueue([row])] == [True]


async def test_an_ended_backend_is_an_outage_in_blocking_calls_too(
    postgres_dsn: str, migrated_schema: str, postgres_control: Control
) -> None:
    row = MAKE.row()
    async with opened(postgres_dsn, migrated_schema, application_name=f"ended {migrated_schema}") as storage:
        end_backends(postgres_control, f"ended {migrated_schema}")

        with pytest.raises(StorageUnavailable):
            storage.enqueue([row]).run()

        assert [result.is_new for result in storage.enqueue([row]).run()] == [True]


async def test_a_lane_makes_a_new_connection_after_its_own_was_ended(
    postgres_dsn: str, migrated_schema: str, postgres_control: Control
) -> None:
    async with opened(postgres_dsn, migrated_schema, application_name=f"ended {migrated_schema}") as storage:
        lane = storage.lane()
        before = lane.run(storage.now())
        end_backends(postgres_control, f"ended {migrated_schema}")

        with pytest.raises(StorageUnavailable):
            lane.run(storage.now())

        assert lane.run(storage.now()) > before
        lane.close()


@pytest.fixture
def read_only_dsn(postgres_dsn: str, role: str, role_dsn: str, migrated_schema: str, postgres_control: Control) -> str:
    """A role whose sessions are read-only, and a DSN that accepts that, as a connection older than a failover would."""
    schema, name = sql.Identifier(migrated_schema), sql.Identifier(role)
    postgres_control.execute(sql.SQL("grant usage on schema {} to {}").format(schema, name))
    postgres_control.execute(sql.SQL("grant all on all tables in schema {} to {}").format(schema, name))
    postgres_control.execute(sql.SQL("alter role {} set default_transaction_read_only = on").format(name))
    return make_conninfo(role_dsn, target_session_attrs="any")


async def test_a_server_that_became_read_only_is_an_outage_and_its_connection_is_not_used_again(
    read_only_dsn: str, role: str, migrated_schema: str, postgres_control: Control
) -> None:
    row = MAKE.row()
    async with opened(read_only_dsn, migrated_schema) as storage:
        # The sessions that are open stay read-only, so only a new connection can write from here on.
        postgres_control.execute(
            sql.SQL("alter role {} set default_transaction_read_only = off").format(sql.Identifier(role))
        )

        with pytest.raises(StorageUnavailable) as raised:
            await storage.enqueue([row])
        with pytest.raises(StorageUnavailable):
            storage.enqueue([row]).run()

        assert isinstance(raised.value.__cause__, errors.ReadOnlySqlTransaction)
        assert storage.is_transient(raised.value)
        assert [result.is_new for result in await storage.enqueue([row])] == [True]
        assert [result.is_new for result in storage.enqueue([MAKE.row()]).run()] == [True]


async def test_a_read_only_server_is_not_opened(read_only_dsn: str, migrated_schema: str) -> None:
    storage = PostgresStorage(make_conninfo(read_only_dsn, target_session_attrs="read-write"), schema=migrated_schema)

    with pytest.raises(StorageUnavailable):
        await storage.open()


async def test_a_statement_timeout_is_an_outage(postgres_subject: PostgresSubject, postgres_dsn: str) -> None:
    ready = MAKE.row()
    await postgres_subject.handles[0].enqueue([ready])
    (turn,) = await postgres_subject.handles[0].claim(
        executor_id="executor-a", queues=["default"], task_names=["task"], limit=1, lease=15
    )
    async with opened(postgres_dsn, postgres_subject.schema, options="-c statement_timeout=50") as storage:
        async with postgres_subject.hold([turn.id]):
            with pytest.raises(StorageUnavailable) as raised:
                await storage.settle([complete(turn, "1")])
        assert storage.is_transient(raised.value)

        assert (await storage.settle([complete(turn, "1")])).accepted == {turn.id}


async def test_a_missing_right_is_told_as_such(
    role_dsn: str, role: str, migrated_schema: str, postgres_control: Control
) -> None:
    """The role may read, and so open the storage, but not write."""
    schema, name = sql.Identifier(migrated_schema), sql.Identifier(role)
    postgres_control.execute(sql.SQL("grant usage on schema {} to {}").format(schema, name))
    postgres_control.execute(sql.SQL("grant select on all tables in schema {} to {}").format(schema, name))
    async with opened(role_dsn, migrated_schema) as storage:
        with pytest.raises(PermissionDenied, match="executions") as raised:
            await storage.enqueue([MAKE.row()])

        assert not storage.is_transient(raised.value)
        assert await storage.existing([MAKE.id()]) == frozenset()


async def test_a_schema_that_was_dropped_is_told_as_such(
    postgres_storage: PostgresStorage, postgres_control: Control
) -> None:
    postgres_control.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(postgres_storage.schema)))

    with pytest.raises(SchemaNotInstalled) as raised:
        await postgres_storage.enqueue([MAKE.row()])

    assert not postgres_storage.is_transient(raised.value)


@pytest.mark.parametrize("sleeping_id", ["door", "a, b) and (c", "ö"])
async def test_a_taken_sleeping_id_of_a_child_is_named(sleeping_id: str, postgres_storage: PostgresStorage) -> None:
    await postgres_storage.enqueue([MAKE.sleeper(sleeping_id, task_name="sleep"), MAKE.row(kind=Kind.PARENT)])
    (parent,) = await postgres_storage.claim(
        executor_id="executor-a", queues=["default"], task_names=["task"], limit=1, lease=15
    )
    child = MAKE.child(parent, 0, kind=Kind.SLEEPING, sleeping_id=sleeping_id, task_name="sleep")

    with pytest.raises(SleepingIdConflict) as raised:
        await postgres_storage.settle([spawn(parent, None, (child,))])

    assert (raised.value.task, raised.value.sleeping_id) == ("sleep", sleeping_id)


async def test_what_the_tables_refuse_is_an_error_of_the_storage_that_stays(postgres_storage: PostgresStorage) -> None:
    with pytest.raises(StorageError, match="executions_priority") as raised:
        await postgres_storage.enqueue([MAKE.row(priority=9)])

    assert not postgres_storage.is_transient(raised.value)
    assert isinstance(raised.value.__cause__, errors.CheckViolation)
    assert await postgres_storage.enqueue([MAKE.row()])


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://postgres:s3cret@127.0.0.1:1/postgres",
        "host=127.0.0.1 port=1 user=postgres password=s3cret dbname=postgres",
    ],
)
async def test_a_server_that_is_not_there_is_an_outage_without_the_password(dsn: str) -> None:
    storage = PostgresStorage(dsn)

    with pytest.raises(StorageUnavailable) as raised:
        await storage.open()
    with pytest.raises(StorageUnavailable):
        storage.open_blocking()

    assert storage.is_transient(raised.value)
    assert "s3cret" not in str(raised.value)


async def test_a_dsn_that_nobody_can_read_is_refused_without_its_text() -> None:
    storage = PostgresStorage("postgresql://postgres:s3cret@/?nonsense=1")

    with pytest.raises(ConfigurationError) as raised:
        await storage.open()

    assert "s3cret" not in f"{raised.value}{raised.value.__cause__}"


async def test_a_wrong_database_is_told(postgres_dsn: str) -> None:
    storage = PostgresStorage(make_conninfo(postgres_dsn, dbname="durable_test_nowhere"))

    with pytest.raises(StorageError, match="does not exist"):
        await storage.open()


async def test_a_storage_that_is_not_open_says_so(postgres_dsn: str, migrated_schema: str) -> None:
    storage = PostgresStorage(postgres_dsn, schema=migrated_schema)

    with pytest.raises(NotOpen):
        await storage.now()
    with pytest.raises(NotOpen):
        storage.now().run()


async def test_a_storage_that_was_closed_says_so(postgres_dsn: str, migrated_schema: str) -> None:
    async with opened(postgres_dsn, migrated_schema) as storage:
        await storage.now()

    with pytest.raises(NotOpen):
        await storage.now()
    with pytest.raises(NotOpen):
        storage.now().run()
