"""A connection stays with its event loop between statements, and leaves it in time, however it ends."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, LiteralString

import psycopg
import pytest
import pytest_asyncio
from psycopg import errors, generators
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.waiting import Wait

from durable.testing import Maker
from storage_postgres import PostgresStorage, waiting
from storage_postgres.waiting import WaitingConnection
from tests.support.locks import PATIENCE
from tests.support.subject import open_storage
from tests.support.turns import until

Control = psycopg.Connection[Any]
LONG: Final = "select pg_catalog.pg_sleep(600)"
IS_ACTIVE: Final = "select state = 'active' and wait_event = 'PgSleep' from pg_catalog.pg_stat_activity where pid = %s"


class Readers:
    """What the running event loop has been asked to watch for reading."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self._add, self._remove = loop.add_reader, loop.remove_reader
        monkeypatch.setattr(loop, "add_reader", self._add_reader)
        monkeypatch.setattr(loop, "remove_reader", self._remove_reader)
        self.registered: set[Any] = set()
        self.added = 0
        self.called = 0
        self.after_call: Callable[[], object] = lambda: None

    def _add_reader(self, descriptor: Any, callback: Callable[..., Any], *args: Any) -> None:
        def call() -> None:
            self.called += 1
            callback(*args)
            self.after_call()

        self._add(descriptor, call)
        self.registered.add(descriptor)
        self.added += 1

    def _remove_reader(self, descriptor: Any) -> bool:
        self.registered.discard(descriptor)
        return self._remove(descriptor)


@pytest_asyncio.fixture
async def readers(monkeypatch: pytest.MonkeyPatch) -> Readers:
    return Readers(monkeypatch)


@pytest_asyncio.fixture
async def connection(postgres_dsn: str, readers: Readers) -> AsyncIterator[WaitingConnection]:
    # Without prepared statements, whose making is an answer of its own.
    connecting = WaitingConnection.connect(postgres_dsn, autocommit=True, prepare_threshold=None)
    async with await connecting as opened:
        readers.added = 0
        yield opened


@pytest.fixture
def control(postgres_dsn: str) -> Iterator[Control]:
    with psycopg.connect(postgres_dsn, autocommit=True) as opened:
        yield opened


async def begin_long(connection: WaitingConnection, control: Control) -> asyncio.Task[Any]:
    """A task whose statement the server is working on."""
    task = asyncio.create_task(connection.execute(LONG))
    await until(lambda: control.execute(IS_ACTIVE, [connection.info.backend_pid]).fetchone() == (True,))
    return task


async def one(connection: psycopg.AsyncConnection[Any]) -> object:
    return await (await connection.execute("select 1")).fetchone()


async def test_statements_in_a_row_register_the_socket_once(connection: WaitingConnection, readers: Readers) -> None:
    for _ in range(5):
        assert await one(connection) == (1,)

    assert (readers.added, len(readers.registered)) == (1, 1)


async def test_an_answer_is_told_once(connection: WaitingConnection, readers: Readers) -> None:
    assert await one(connection) == (1,)
    readers.called = 0
    for _ in range(5):
        assert await one(connection) == (1,)

    assert readers.called == 5


async def test_a_connection_that_nobody_uses_leaves_the_event_loop(
    connection: WaitingConnection, readers: Readers
) -> None:
    await one(connection)

    await until(lambda: not readers.registered)

    assert await one(connection) == (1,)
    assert readers.added == 2


async def test_what_the_server_says_unasked_is_told_once_and_kept(
    connection: WaitingConnection, readers: Readers, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_LOOK", 600.0)
    await connection.execute("listen unasked")
    readers.called = 0
    control.execute("notify unasked, 'word'")

    await until(lambda: not readers.registered)

    assert readers.called == 1
    heard = [notify.payload async for notify in connection.notifies(stop_after=1)]
    assert heard == ["word"]


async def test_a_cancelled_statement_ends_on_the_server_and_its_connection_is_used_again(
    connection: WaitingConnection, control: Control
) -> None:
    task = await begin_long(connection, control)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert connection.pgconn.transaction_status == TransactionStatus.IDLE
    assert await one(connection) == (1,)


async def test_a_connection_whose_statement_cannot_be_cancelled_is_closed(
    connection: WaitingConnection, readers: Readers, control: Control, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    async def fail(*, timeout: float) -> None:
        raise errors.OperationalError("no way to the server")

    task = await begin_long(connection, control)
    monkeypatch.setattr(connection, "cancel_safe", fail)
    monkeypatch.setattr(waiting, "_CANCEL", 0.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert connection.closed
    assert ["no way to the server" in caplog.text, "its connection is closed" in caplog.text] == [True, True]
    await until(lambda: not readers.registered)


@pytest_asyncio.fixture
async def complaints() -> list[dict[str, Any]]:
    """What the event loop would log."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    return found


@pytest.mark.parametrize("statement", ["select 1", "select 1 / 0"])
async def test_a_task_that_is_cancelled_as_its_answer_comes_leaves_nothing_behind(
    statement: LiteralString, connection: WaitingConnection, readers: Readers, complaints: list[dict[str, Any]]
) -> None:
    task = asyncio.create_task(connection.execute(statement))
    readers.after_call = task.cancel
    with pytest.raises(asyncio.CancelledError):
        await task
    readers.after_call = lambda: None
    del task
    gc.collect()

    assert complaints == []
    assert connection.pgconn.transaction_status == TransactionStatus.IDLE
    assert await one(connection) == (1,)


async def test_a_task_that_is_cancelled_before_it_hears_of_its_answer_leaves_a_connection_that_can_be_used(
    connection: WaitingConnection, complaints: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = asyncio.create_task(connection.execute("select 1"))
    follow = waiting._Watch._go_on  # pyright: ignore[reportPrivateUsage]

    def cancel_first(watch: Any) -> None:
        if not task.cancelling():
            task.cancel()
        follow(watch)

    monkeypatch.setattr(waiting._Watch, "_go_on", cancel_first)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(asyncio.CancelledError):
        await task

    assert complaints == []
    assert connection.pgconn.transaction_status == TransactionStatus.IDLE
    assert await one(connection) == (1,)


async def test_a_connection_that_the_server_ends_is_noticed_and_its_number_is_free_for_the_next(
    postgres_dsn: str, connection: WaitingConnection, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_LOOK", 600.0)  # nothing else may clean up in time
    number = connection.fileno()
    task = await begin_long(connection, control)
    control.execute("select pg_catalog.pg_terminate_backend(%s, 30000)", [connection.info.backend_pid])
    with pytest.raises(errors.AdminShutdown):
        await task
    assert connection.closed

    async with await WaitingConnection.connect(postgres_dsn, autocommit=True) as following:
        assert following.fileno() == number
        assert [await one(following), await one(following)] == [(1,), (1,)]


async def test_a_connection_that_is_closed_meanwhile_tells_who_waits(
    connection: WaitingConnection, readers: Readers, control: Control
) -> None:
    task = await begin_long(connection, control)
    await connection.close()
    with pytest.raises(errors.OperationalError, match="closed"):
        await task

    assert readers.registered == set()


async def test_a_connection_that_is_gone_from_under_who_waits_is_noticed(
    connection: WaitingConnection, readers: Readers, control: Control
) -> None:
    task = await begin_long(connection, control)
    connection.pgconn.finish()
    with pytest.raises(errors.OperationalError):
        await task

    await until(lambda: not readers.registered)


async def test_what_cannot_clean_up_on_a_lost_connection_does_not_complain(connection: WaitingConnection) -> None:
    began: list[bool] = []

    def ask() -> PQGen[None]:
        try:
            began.append(True)
            while True:
                yield Wait.R
        finally:
            connection.pgconn.flush()

    task = asyncio.create_task(connection.wait(ask()))
    await until(lambda: bool(began))
    connection.pgconn.finish()
    with pytest.raises(errors.OperationalError):
        await task
    with pytest.raises(errors.OperationalError):
        await connection.wait(ask())
    del task
    gc.collect()  # pytest hears of what nobody could catch


async def test_what_the_socket_does_not_take_at_once_is_sent(connection: WaitingConnection) -> None:
    given = b"x" * 32_000_000

    def ask() -> PQGen[bytes | None]:
        connection.pgconn.send_query(b"select 1")
        yield from generators.execute(connection.pgconn)
        connection.pgconn.send_query_params(b"select pg_catalog.length($1::text)", [given])
        (result,) = yield from generators.execute(connection.pgconn)
        value: bytes | None = result.get_value(0, 0)
        return value

    async with asyncio.timeout(PATIENCE):
        # An interval that ends no wait: psycopg tries once more to send after each.
        assert await connection.wait(ask(), 600.0) == str(len(given)).encode()


async def test_a_pipeline_and_a_copy_work_as_on_every_connection(connection: WaitingConnection) -> None:
    async with connection.pipeline():
        cursors = [await connection.execute("select %s::integer", [number]) for number in range(50)]
        assert [await cursor.fetchone() for cursor in cursors] == [(number,) for number in range(50)]
    async with connection.cursor() as cursor, cursor.copy("copy (select 1 union all select 2) to stdout") as copy:
        assert [row async for row in copy.rows()] == [("1",), ("2",)]


async def test_where_there_are_no_descriptors_psycopg_waits(
    connection: WaitingConnection, readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_HAS_DESCRIPTORS", False)
    assert [await one(connection), await one(connection)] == [(1,), (1,)]

    assert (readers.added, readers.registered) == (2, set())


async def test_where_no_descriptor_is_left_psycopg_waits(
    connection: WaitingConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "dup", none_left)
    assert [await one(connection), await one(connection)] == [(1,), (1,)]


def test_a_connection_is_used_on_one_event_loop_after_the_other(postgres_dsn: str) -> None:
    with asyncio.Runner() as first, asyncio.Runner() as second:
        connection = first.run(WaitingConnection.connect(postgres_dsn, autocommit=True))
        assert [runner.run(one(connection)) for runner in (first, second, first)] == [(1,)] * 3
        second.run(connection.close())


async def test_a_storage_that_is_closed_leaves_nothing_in_the_event_loop(
    postgres_dsn: str, migrated_schema: str, readers: Readers
) -> None:
    async with open_storage(PostgresStorage(postgres_dsn, schema=migrated_schema)) as storage:
        await asyncio.gather(*(storage.enqueue([row]) for row in Maker().rows(20)))
        async with storage.transaction() as connection:
            assert await one(connection) == (1,)

    assert readers.registered == set()
