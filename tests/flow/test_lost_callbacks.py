"""Callbacks whose transaction is lost: their starts are counted, and the end that they follow is kept."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from durable import (
    Completion,
    Durable,
    Execution,
    OnComplete,
    Retry,
    Status,
    StorageUnavailable,
    TaskContext,
    WorkflowContext,
)
from durable.storage import ExecutionFilter
from storage_postgres import PostgresStorage
from storage_postgres.statements import render

from .place import PATIENCE, PostgresPlace, running, soon, until

ATTEMPTS = 3


class Callback:
    """A callback that counts its starts and breaks its transaction in one of several ways."""

    def __init__(self, app: Durable, way: str) -> None:
        self.attempts: list[int] = []
        self.works: list[int] = []
        self.seen: list[Status] = []
        """What the callback's starts saw of the execution that ends."""

        @app.task(retry=Retry(ATTEMPTS, 0))
        async def done(ctx: TaskContext, end: Completion[int, None]) -> None:
            self.attempts.append(ctx.attempt)
            self.seen.append((await app.execution(end.execution_id)).status)
            await _break(ctx.connection, way)

        @app.task(retry=Retry(5, 0))
        async def work() -> int:
            self.works.append(1)
            return 7

        self._app = app
        self._done = done
        self._work = work

    async def end(self, is_over: Callable[[Execution], bool]) -> Execution:
        """Let an execution end with it; the callback's record, once it is over."""
        handle = await self._work.enqueue(on_complete=OnComplete(self._done, mode="transaction"))
        assert await handle.result(PATIENCE) == 7
        (call,) = await self._app.storage.search(ExecutionFilter(task_name="done"), limit=9)
        return await until(self._app, call.id, is_over)


async def _break(connection: psycopg.AsyncConnection[Any], way: str) -> None:
    match way:
        case "its connection is cut":
            await connection.execute("select pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())")
        case "its connection is cut unnoticed":
            with pytest.raises(psycopg.OperationalError):
                await connection.execute("select pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())")
        case "it idles too long":
            await connection.execute("set local idle_in_transaction_session_timeout = '20ms'")
            assert await _closed_by_server(connection)
        case "it goes on after a failed statement":
            with pytest.raises(psycopg.errors.DivisionByZero):
                await connection.execute("select 1 / 0")
        case _:
            assert way == "nothing"


async def _closed_by_server(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Wait until the server has said why it ends the session, without a statement of our own."""
    loop = asyncio.get_running_loop()
    is_readable = asyncio.Event()
    loop.add_reader(connection.fileno(), is_readable.set)
    try:
        async with asyncio.timeout(PATIENCE):
            return await is_readable.wait()
    finally:
        loop.remove_reader(connection.fileno())


@pytest.mark.parametrize(
    "way",
    [
        "its connection is cut",
        "its connection is cut unnoticed",
        "it idles too long",
        "it goes on after a failed statement",
    ],
)
async def test_a_callback_that_loses_its_transaction_starts_no_more_often_than_its_attempts(
    postgres: PostgresPlace, way: str
) -> None:
    app = postgres.app()
    callback = Callback(app, way)
    async with running(app):
        record = await callback.end(lambda record: record.is_finished)
    assert (record.status, record.attempts) == (Status.FAILED, ATTEMPTS)
    assert record.error is not None
    assert callback.attempts == [1, 2, 3]
    assert callback.works == [1]


async def test_a_row_that_somebody_holds_is_no_failure_of_the_callback(postgres: PostgresPlace) -> None:
    app = postgres.app()
    attempts: list[int] = []
    was_called = asyncio.Event()
    other = await psycopg.AsyncConnection.connect(postgres.dsn)

    @app.task
    async def done(ctx: TaskContext, end: Completion[int, None]) -> None:
        attempts.append(ctx.attempt)
        was_called.set()

    @app.task
    async def work(ctx: TaskContext) -> int:
        statement = "select id from /*schema*/executions where id = %s for update"
        await other.execute(render(statement, postgres.schema), [ctx.execution_id])
        return 7

    async with running(app), other:
        handle = await work.enqueue(on_complete=OnComplete(done, mode="transaction"))
        await soon(was_called.wait())
        await other.rollback()
        assert await handle.result(PATIENCE) == 7
        (call,) = await app.storage.search(ExecutionFilter(task_name="done"), limit=9)
        record = await until(app, call.id, lambda record: record.is_finished)
    assert (record.status, record.attempts) == (Status.COMPLETED, 1)
    assert set(attempts) == {1}


async def test_ends_that_wait_for_a_held_parent_keep_no_callback_of_others_waiting(postgres: PostgresPlace) -> None:
    app = Durable(storage=PostgresStorage(postgres.dsn, schema=postgres.schema), poll_interval="50ms")
    called: set[str] = set()
    door = asyncio.Event()

    @app.task
    async def done(ctx: TaskContext, end: Completion[int, None]) -> None:
        called.add(end.execution_id)

    @app.task
    async def leaf(n: int) -> int:
        await door.wait()
        return n

    then = OnComplete(done, mode="transaction")

    @app.workflow
    async def parent(ctx: WorkflowContext) -> int:
        return sum(await ctx.gather(*(ctx.child(leaf.child(n, on_complete=then)) for n in range(8))))

    async with running(app), await psycopg.AsyncConnection.connect(postgres.dsn) as connection:
        handle = await parent.enqueue()
        await until(app, handle.execution_id, lambda record: record.status is Status.WAITING)
        async with connection.transaction():
            await handle.signal("unheard", 1, connection=connection)
            door.set()
            async with asyncio.timeout(PATIENCE):
                while len(called) < 8:
                    await handle.status()
            assert await (await leaf.enqueue(9, on_complete=then)).result(PATIENCE) == 9
        assert await handle.result(PATIENCE) == 28


async def test_an_end_waits_for_a_transaction_that_cannot_be_had_just_now(
    postgres: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = _break_transactions(monkeypatch, times=2, is_after=False)
    app = postgres.app()
    callback = Callback(app, "nothing")
    async with running(app):
        record = await callback.end(lambda record: record.is_finished)
    assert (record.status, record.attempts, callback.attempts, callback.works) == (Status.COMPLETED, 1, [1], [1])
    assert refusals == [StorageUnavailable, StorageUnavailable]
    # It ran in the transaction of the end, of which nobody else sees anything yet.
    assert callback.seen == [Status.RUNNING]


async def test_the_attempt_of_a_callback_costs_nothing_while_no_transaction_can_be_had(
    postgres: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable.rooms.complete._PATIENCE", 0.0)
    refusals = _break_transactions(monkeypatch, times=6, is_after=False)
    app = postgres.app()
    callback = Callback(app, "nothing")
    async with running(app):
        record = await callback.end(lambda record: record.is_finished)
    assert (record.status, record.attempts, callback.attempts, callback.works) == (Status.COMPLETED, 1, [1], [1])
    assert (len(refusals), callback.seen) == (6, [Status.COMPLETED])


async def test_a_commit_whose_answer_is_lost_has_happened(
    postgres: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = _break_transactions(monkeypatch, times=1, is_after=True)
    app = postgres.app()
    callback = Callback(app, "nothing")
    async with running(app):
        record = await callback.end(lambda record: record.is_finished)
    assert (record.status, record.attempts, callback.attempts, callback.works) == (Status.COMPLETED, 1, [1], [1])
    assert (losses, callback.seen) == ([StorageUnavailable], [Status.RUNNING])


def _break_transactions(monkeypatch: pytest.MonkeyPatch, *, times: int, is_after: bool) -> list[type[Exception]]:
    """Let so many transactions fail, before they begin or after they were committed; gives what was raised."""
    raised: list[type[Exception]] = []
    opened = PostgresStorage.transaction

    @asynccontextmanager
    async def transaction(storage: PostgresStorage, connection: Any = None) -> AsyncGenerator[Any]:
        if connection is None and not is_after and len(raised) < times:
            raised.append(StorageUnavailable)
            raise StorageUnavailable("refused")
        async with opened(storage, connection) as given:
            yield given
        if connection is None and is_after and len(raised) < times:
            raised.append(StorageUnavailable)
            raise StorageUnavailable("the answer was lost")

    monkeypatch.setattr(PostgresStorage, "transaction", transaction)
    return raised
