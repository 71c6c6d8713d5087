"""What is called when an execution has ended: once, whatever ended it, alone or in the transaction of the end."""

import asyncio
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from durable import (
    ChildResult,
    Completion,
    ConfigurationError,
    Durable,
    ErrorInfo,
    ExecutionFailed,
    ExecutionTimedOut,
    OnComplete,
    Retry,
    Spawn,
    Status,
    TaskContext,
)
from durable.execution import Execution, Kind
from durable.storage import ExecutionFilter
from storage_postgres.statements import render

from .place import LONG_AGO, PATIENCE, Place, PostgresPlace, running, soon, until


@dataclass
class Order:
    id: str


@dataclass
class Receipt:
    number: int


class Calls:
    """The completions that a callback of the app was given."""

    def __init__(self, app: Durable, **options: Any) -> None:
        self.seen: list[Completion[Receipt, Order]] = []
        self._queue: asyncio.Queue[Completion[Receipt, Order]] = asyncio.Queue()

        @app.task(**options)
        async def done(end: Completion[Receipt, Order]) -> None:
            self.seen.append(end)
            self._queue.put_nowait(end)

        self.task = done

    async def next(self) -> Completion[Receipt, Order]:
        return await soon(self._queue.get())

    def on_complete(self, context: str = "ctx", **options: Any) -> OnComplete:
        return OnComplete(self.task, context=Order(context), **options)


async def callbacks_of(app: Durable) -> list[Execution]:
    found = await app.storage.search(ExecutionFilter(), limit=1_000)
    return [record for record in found if record.kind is Kind.CALLBACK]


async def test_pool_08_a_success_is_called_back_once_with_result_and_context(app: Durable) -> None:
    calls = Calls(app)

    @app.task
    async def charge(order: Order) -> Receipt:
        return Receipt(len(order.id))

    async with running(app):
        handle = await charge.enqueue(Order("abc"), on_complete=calls.on_complete())
        end = await calls.next()
        assert end == Completion(handle.execution_id, "charge", Status.COMPLETED, Order("ctx"), Receipt(3))
        assert end.result() == await handle.result(PATIENCE)
        (call,) = await callbacks_of(app)
        await until(app, call.id, lambda record: record.status is Status.COMPLETED)
    assert len(calls.seen) == 1


async def test_pool_08_a_failure_is_called_back_after_its_last_attempt_only(app: Durable) -> None:
    calls = Calls(app)
    attempts: list[int] = []

    @app.task(retry=Retry(3, 0))
    async def work(ctx: TaskContext) -> Receipt:
        attempts.append(ctx.attempt)
        assert calls.seen == []
        assert await callbacks_of(app) == []
        raise ValueError("no")

    async with running(app):
        await work.enqueue(on_complete=calls.on_complete())
        end = await calls.next()
    assert attempts == [1, 2, 3]
    assert (end.status, end.output) == (Status.FAILED, None)
    assert isinstance(end.error, ErrorInfo)
    assert (end.error.type, end.error.message) == ("ValueError", "no")
    with pytest.raises(ExecutionFailed):
        end.result()


async def test_pool_08_a_cancel_and_a_deadline_are_called_back(app: Durable) -> None:
    calls = Calls(app)
    door = app.sleeping("door", Receipt, timeout="10ms")

    @app.task(queue="nobody")
    async def work() -> Receipt:
        return Receipt(1)

    async with running(app):
        handle = await work.enqueue(on_complete=calls.on_complete())
        await handle.cancel(reason="not needed")
        end = await calls.next()
        assert (end.execution_id, end.status, end.reason) == (handle.execution_id, Status.CANCELLED, "not needed")
        await door.enqueue("one", on_complete=calls.on_complete())
        late = await calls.next()
    assert (late.task_name, late.status, late.reason) == ("door", Status.TIMED_OUT, "expired")
    with pytest.raises(ExecutionTimedOut):
        late.result()


async def test_pool_08_a_wakeup_a_parent_and_its_children_are_called_back(app: Durable) -> None:
    calls = Calls(app)
    door = app.sleeping("door", Receipt)

    @app.task
    async def leaf(n: int) -> Receipt:
        return Receipt(n)

    def total(output: int, children: list[ChildResult[Receipt]]) -> Receipt:
        return Receipt(output + len(children))

    @app.parent(finalize=total)
    async def top() -> Spawn[int]:
        return Spawn(1, [leaf.child(7, on_complete=calls.on_complete("leaf"))])

    async with running(app):
        await door.enqueue("one", on_complete=calls.on_complete())
        await door.wakeup("one", Receipt(5))
        assert (await calls.next()).result() == Receipt(5)
        await top.enqueue(on_complete=calls.on_complete("top"))
        ends = {end.context.id: end.result() for end in (await calls.next(), await calls.next())}
    assert ends == {"leaf": Receipt(7), "top": Receipt(2)}


async def test_pool_08_items_of_a_batch_share_one_context(app: Durable) -> None:
    calls = Calls(app)

    @app.task
    async def work(n: int) -> Receipt:
        return Receipt(n)

    async with running(app):
        handles = await work.enqueue_many(range(20), on_complete=calls.on_complete("batch"))
        ends = [await calls.next() for _ in handles]
    assert {end.execution_id: end.result().number for end in ends} == {
        handle.execution_id: n for n, handle in enumerate(handles)
    }
    assert {end.context.id for end in ends} == {"batch"}


async def test_a_callback_may_be_given_apart_from_the_arguments_and_by_the_blocking_client(app: Durable) -> None:
    calls = Calls(app)

    @app.task
    async def work(n: int) -> Receipt:
        return Receipt(n)

    def enqueue() -> None:
        with app.client() as client:
            client.enqueue(work, 2, on_complete=calls.on_complete())
            client.enqueue_many(work, [3], on_complete=calls.on_complete())

    async with running(app):
        await work.with_options(on_complete=calls.on_complete()).enqueue(n=1)
        await asyncio.to_thread(enqueue)
        assert sorted([(await calls.next()).result().number for _ in range(3)]) == [1, 2, 3]


async def test_pool_09_a_callback_outlives_the_executor_that_ended_the_work(place: Place) -> None:
    first, second = place.app(), place.app()
    calls = Calls(second, queue="calls")
    Calls(first, queue="calls")

    for app in (first, second):

        @app.task(name="work")
        async def work() -> Receipt:
            return Receipt(1)

    async with running(first):
        handle = await first.enqueue_calls([work.child(on_complete=calls.on_complete())])
        await handle[0].result(PATIENCE)
        (call,) = await callbacks_of(first)
        assert call.status is Status.READY
    async with running(second, queues=["calls"]):
        assert (await calls.next()).execution_id == handle[0].execution_id


async def test_pool_10_a_failing_callback_is_retried_and_the_result_kept(app: Durable) -> None:
    attempts: list[int] = []

    @app.task(retry=Retry(2, 0))
    async def done(ctx: TaskContext, end: Completion[int, None]) -> None:
        attempts.append(ctx.attempt)
        raise ValueError("not now")

    @app.task
    async def work() -> int:
        return 7

    async with running(app):
        handle = await work.enqueue(on_complete=OnComplete(done))
        assert await handle.result(PATIENCE) == 7
        (call,) = await callbacks_of(app)
        record = await until(app, call.id, lambda record: record.is_finished)
        assert record.status is Status.FAILED
        with pytest.raises(ExecutionFailed, match="not now"):
            await app.handle_of(call.id, "done").result(0)
        assert await handle.status() is Status.COMPLETED
    assert attempts == [1, 2]


async def test_pool_11_the_filter_leaves_ends_out(app: Durable) -> None:
    calls = Calls(app)

    @app.task
    async def work(fails: bool) -> Receipt:
        if fails:
            raise ValueError
        return Receipt(1)

    async with running(app):
        good = await work.enqueue(False, on_complete=calls.on_complete(when=["failed", "timed_out"]))
        bad = await work.enqueue(True, on_complete=calls.on_complete(when=["completed", "cancelled"]))
        await app.wait([good, bad], timeout=PATIENCE)
        await work.enqueue(True, on_complete=calls.on_complete(when=["failed"]))
        assert (await calls.next()).status is Status.FAILED
    assert len(calls.seen) == 1


# --- in the transaction of the end -----------------------------------------------------------------------------------


async def test_a_storage_without_transactions_refuses_a_callback_in_one() -> None:
    app = Durable("memory:")

    @app.task
    async def done(ctx: TaskContext, end: Completion[int, None]) -> None: ...

    @app.task
    async def work() -> int:
        return 1

    async with app:
        with pytest.raises(ConfigurationError, match="needs a storage with transactions"):
            await work.enqueue(on_complete=OnComplete(done, mode="transaction"))
        with app.client() as client, pytest.raises(ConfigurationError, match="needs a storage with transactions"):
            client.enqueue(work, on_complete=OnComplete(done, mode="transaction"))


class Ledger:
    """A table of the user's beside the executions, and a callback that writes to it."""

    def __init__(self, postgres: PostgresPlace, app: Durable) -> None:
        self._schema = postgres.schema
        self._control = postgres.control
        self._control.execute(render("create table /*schema*/ledger (id text, line text)", self._schema))
        self.failures = 0
        """How many calls fail after they have written."""
        self.attempts: list[int] = []
        self.next_tasks: list[Any] = []

        @app.task(retry=Retry(5, 0))
        async def book(ctx: TaskContext, end: Completion[int, str]) -> None:
            self.attempts.append(ctx.attempt)
            connection: psycopg.AsyncConnection[Any] = ctx.connection
            await connection.execute(self._insert, [end.execution_id, f"{end.status} {end.output} {end.context}"])
            for task in self.next_tasks:
                await task.enqueue(connection=connection)
            if self.failures:
                self.failures -= 1
                raise ValueError("after the write")

        self.book = book

    @property
    def _insert(self) -> sql.Composed:
        return render("insert into /*schema*/ledger values (%s, %s)", self._schema)

    def on_complete(self, **options: Any) -> OnComplete:
        return OnComplete(self.book, context="x", mode="transaction", **options)

    def lines(self) -> list[tuple[str, str]]:
        return self._control.execute(render("select id, line from /*schema*/ledger", self._schema)).fetchall()


async def test_pool_09_a_callback_commits_together_with_the_end(postgres: PostgresPlace) -> None:
    app = postgres.app()
    ledger = Ledger(postgres, app)

    @app.task
    async def work() -> int:
        assert ledger.lines() == []
        return 7

    async with running(app):
        handle = await work.enqueue(on_complete=ledger.on_complete())
        assert await handle.result(PATIENCE) == 7
        # Who sees the result sees the line, without another wait.
        assert ledger.lines() == [(handle.execution_id, "completed 7 x")]
        (call,) = await callbacks_of(app)
        assert (call.status, call.attempts, call.reason) == (Status.COMPLETED, 1, None)
        ended = await handle.execution()
        assert (call.created_at, ended.close_status) == (ended.finished_at, "closed")


async def test_pool_10_a_callback_that_raises_in_the_transaction_becomes_an_execution(postgres: PostgresPlace) -> None:
    app = postgres.app()
    ledger = Ledger(postgres, app)
    ledger.failures = 2

    @app.task
    async def work() -> int:
        return 7

    async with running(app):
        handle = await work.enqueue(on_complete=ledger.on_complete())
        assert await handle.result(PATIENCE) == 7
        (call,) = await callbacks_of(app)
        record = await until(app, call.id, lambda record: record.is_finished)
        assert (record.status, record.attempts) == (Status.COMPLETED, 3)
    assert ledger.attempts == [1, 2, 3]
    assert ledger.lines() == [(handle.execution_id, "completed 7 x")]


async def test_pool_10_the_failure_of_the_transaction_is_visible(postgres: PostgresPlace) -> None:
    app = postgres.app()
    ledger = Ledger(postgres, app)
    ledger.failures = 9

    @app.task
    async def work() -> int:
        return 7

    async with running(app):
        handle = await work.enqueue(on_complete=ledger.on_complete())
        assert await handle.result(PATIENCE) == 7
        (call,) = await callbacks_of(app)
        await until(app, call.id, lambda record: record.is_finished)
        with pytest.raises(ExecutionFailed, match="after the write"):
            await app.handle_of(call.id, "book").result(0)
    assert (ledger.attempts, ledger.lines()) == ([1, 2, 3, 4, 5], [])


async def test_pool_12_a_callback_enqueues_the_next_work_with_the_end(postgres: PostgresPlace) -> None:
    app = postgres.app()
    ledger = Ledger(postgres, app)
    ran: list[str] = []
    is_done = asyncio.Event()

    @app.task
    async def following() -> None:
        ran.append("following")
        is_done.set()

    @app.task
    async def work() -> int:
        return 7

    ledger.next_tasks.append(following)
    ledger.failures = 1
    async with running(app):
        await work.enqueue(on_complete=ledger.on_complete())
        await soon(is_done.wait())
        found = await app.storage.search(ExecutionFilter(task_name="following"), limit=9)
    assert ledger.attempts == [1, 2]
    assert (ran, len(found)) == (["following"], 1)


async def test_a_failure_and_a_filter_hold_in_the_transaction_too(postgres: PostgresPlace) -> None:
    app = postgres.app()
    ledger = Ledger(postgres, app)

    @app.task(retry=Retry(2, 0))
    async def work() -> int:
        raise ValueError

    async with running(app):
        left_out = await work.enqueue(on_complete=ledger.on_complete(when=["completed"]))
        handle = await work.enqueue(on_complete=ledger.on_complete(when=["failed"]))
        await app.wait([left_out, handle], timeout=PATIENCE)
        assert ledger.lines() == [(handle.execution_id, "failed None x")]
        assert len(await callbacks_of(app)) == 1


async def test_an_end_that_no_executor_writes_calls_back_by_an_execution_with_a_connection(
    postgres: PostgresPlace,
) -> None:
    app = postgres.app()
    ledger = Ledger(postgres, app)

    @app.task(queue="nobody")
    async def work() -> int:
        return 7

    async with running(app):
        handle = await work.enqueue(run_at=LONG_AGO, on_complete=ledger.on_complete())
        await handle.cancel()
        (call,) = await callbacks_of(app)
        await until(app, call.id, lambda record: record.status is Status.COMPLETED)
    assert ledger.lines() == [(handle.execution_id, "cancelled None x")]


async def test_an_end_whose_transaction_is_lost_is_kept_and_called_back(postgres: PostgresPlace) -> None:
    app = postgres.app()
    calls: list[int] = []

    @app.task(retry=Retry(3, 0))
    async def done(ctx: TaskContext, end: Completion[int, None]) -> None:
        calls.append(ctx.attempt)
        if len(calls) == 1:
            await ctx.connection.close()
            raise ConnectionError("gone")

    @app.task
    async def work() -> int:
        return 7

    async with running(app):
        handle = await work.enqueue(on_complete=OnComplete(done, mode="transaction"))
        assert await handle.result(PATIENCE) == 7
        (call,) = await callbacks_of(app)
        await until(app, call.id, lambda record: record.status is Status.COMPLETED)
    assert len(calls) == 2


async def test_an_end_whose_lease_was_lost_takes_its_callback_with_it(postgres: PostgresPlace) -> None:
    app = postgres.app()
    ledger = Ledger(postgres, app)
    is_running, go_on = asyncio.Event(), asyncio.Event()

    @app.task
    async def work() -> int:
        is_running.set()
        await go_on.wait()
        return 7

    async with running(app) as executor:
        handle = await work.enqueue(on_complete=ledger.on_complete(when=["completed"]))
        await soon(is_running.wait())
        postgres.tamper(handle.execution_id, status="cancelled", finished_at=LONG_AGO, lease_expires_at=None, fence=9,
                        close_status="closed", closed_at=LONG_AGO)  # fmt: skip
        go_on.set()
        async with asyncio.timeout(PATIENCE):
            while not executor.refused_count:
                await app.execution(handle.execution_id)
        assert (ledger.lines(), await callbacks_of(app)) == ([], [])


async def test_a_connection_is_there_in_such_a_callback_only(app: Durable) -> None:
    @app.task
    async def work(ctx: TaskContext) -> None:
        with pytest.raises(ConfigurationError, match="there is a connection only in"):
            ctx.connection  # noqa: B018 - it raises

    async with running(app):
        await (await work.enqueue()).result(PATIENCE)


async def test_an_executor_that_stops_keeps_the_end_of_a_slow_callback(postgres: PostgresPlace) -> None:
    app = postgres.app()
    is_called = asyncio.Event()
    attempts: list[int] = []

    @app.task
    async def done(ctx: TaskContext, end: Completion[int, None]) -> None:
        attempts.append(ctx.attempt)
        is_called.set()
        if len(attempts) == 1:
            await asyncio.Event().wait()

    @app.task
    async def work() -> int:
        return 7

    async with app:
        async with app.executor(poll_interval="50ms"):
            handle = await work.enqueue(on_complete=OnComplete(done, mode="transaction"))
            await soon(is_called.wait())
        assert await handle.result(0) == 7
        (call,) = await callbacks_of(app)
        assert (call.status, call.attempts) == (Status.READY, 0)
        async with app.executor(poll_interval="50ms"):
            await until(app, call.id, lambda record: record.status is Status.COMPLETED)
    assert attempts == [1, 1]


async def test_a_callback_that_takes_too_long_in_the_transaction_times_out(postgres: PostgresPlace) -> None:
    app = postgres.app()

    @app.task(timeout="20ms")
    async def done(ctx: TaskContext, end: Completion[int, None]) -> None:
        await asyncio.Event().wait()

    @app.task
    async def work() -> int:
        return 7

    async with running(app):
        handle = await work.enqueue(on_complete=OnComplete(done, mode="transaction"))
        assert await handle.result(PATIENCE) == 7
        (call,) = await callbacks_of(app)
        assert call.status is Status.TIMED_OUT


async def test_a_callback_whose_writes_cannot_be_committed_fails_and_the_end_is_kept(postgres: PostgresPlace) -> None:
    app = postgres.app()
    table = "create table /*schema*/strict (id int primary key deferrable initially deferred)"
    postgres.control.execute(render(table, postgres.schema))
    insert = render("insert into /*schema*/strict values (1), (1)", postgres.schema)

    @app.task
    async def done(ctx: TaskContext, end: Completion[int, None]) -> None:
        await ctx.connection.execute(insert)

    @app.task
    async def work() -> int:
        return 7

    async with running(app):
        handle = await work.enqueue(on_complete=OnComplete(done, mode="transaction"))
        assert await handle.result(PATIENCE) == 7
        (call,) = await callbacks_of(app)
        record = await until(app, call.id, lambda record: record.is_finished)
        assert record.status is Status.FAILED
        assert "duplicate key" in (record.error or "")


async def test_a_callback_that_cancels_itself_has_failed(postgres: PostgresPlace) -> None:
    app = postgres.app()
    attempts: list[int] = []

    @app.task(retry=Retry(2, 0))
    async def done(ctx: TaskContext, end: Completion[int, None]) -> None:
        attempts.append(ctx.attempt)
        raise asyncio.CancelledError

    @app.task
    async def work() -> int:
        return 7

    async with running(app):
        handle = await work.enqueue(on_complete=OnComplete(done, mode="transaction"))
        assert await handle.result(PATIENCE) == 7
        (call,) = await callbacks_of(app)
        record = await until(app, call.id, lambda record: record.is_finished)
        assert record.status is Status.FAILED
    assert attempts == [1, 2]
