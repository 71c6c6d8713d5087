"""An app under test: nothing of production is touched, leases hold however far time jumps, and being stuck is told."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import psycopg
import pytest

from durable import ConfigurationError, Durable, Registry, Status, TaskContext
from durable.testing import StillRunning, VirtualStorage, app_under_test, virtual_storage
from storage_postgres.statements import render
from storage_postgres.testing import VirtualPostgres

LEASE = 15.0


async def test_the_app_is_as_it_was_after_the_block_also_after_an_error(app: Durable) -> None:
    before = app.storage

    async def fail() -> None:
        async with app_under_test(app):
            assert app.storage is not before
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert app.storage is before
    async with app_under_test(app) as kit:
        assert kit.enqueued() == []
    assert app.storage is before


async def test_an_app_that_is_open_is_refused(app: Durable) -> None:
    async with app_under_test(app):
        with pytest.raises(ConfigurationError, match="the app is open"):
            async with app_under_test(app):
                raise AssertionError("never")


async def test_tasks_of_an_included_registry_are_run(app: Durable, storage: VirtualStorage) -> None:
    shop = Registry()

    @shop.task
    def label(grams: int) -> str:
        return f"{grams} g"

    app.include(shop)
    async with app_under_test(app, storage=storage) as kit:
        handle = await label.enqueue(3, delay="1h")
        await kit.clock.advance("1h")
        assert await handle.result(timeout=0) == "3 g"


async def test_two_apps_each_have_their_own_time(app: Durable) -> None:
    async with app_under_test(app) as one, app_under_test(Durable("postgresql://nowhere.invalid/")) as other:
        await one.clock.advance("1d")
        assert one.clock.now() - other.clock.now() == timedelta(days=1)


async def test_the_blocking_client_enqueues_into_the_same_storage(app: Durable, storage: VirtualStorage) -> None:
    @app.task
    async def work() -> int:
        return 7

    def enqueue() -> str:
        with app.client() as client:
            return client.enqueue(work, delay="1h").execution_id

    async with app_under_test(app, storage=storage) as kit:
        execution_id = await asyncio.to_thread(enqueue)
        await kit.clock.advance("1h")
        assert await work.handle(execution_id).result(timeout=0) == 7


async def test_drain_runs_what_is_due_and_does_not_move_time(app: Durable, storage: VirtualStorage) -> None:
    @app.task
    async def work() -> None: ...

    async with app_under_test(app, storage=storage) as kit:
        start = kit.clock.now()
        now, later = await work.enqueue(), await work.enqueue(delay=timedelta(microseconds=1))
        await kit.drain()
        assert [await now.status(), await later.status()] == [Status.COMPLETED, Status.READY]
        assert kit.clock.now() == await app.storage.now() == start


# --- handlers that take real time ------------------------------------------------------------------------------------


class Gate:
    """A handler that runs until the test lets it go."""

    def __init__(self, app: Durable) -> None:
        self.started = asyncio.Event()
        self.go = asyncio.Event()

        @app.task(name="hang")
        async def hang() -> str:
            self.started.set()
            await self.go.wait()
            return "through"

        self.task = hang


async def test_time_stands_still_while_a_handler_runs_and_it_keeps_its_lease(
    app: Durable, storage: VirtualStorage
) -> None:
    gate = Gate(app)
    async with app_under_test(app, storage=storage, lease="15s") as kit:
        start = kit.clock.now()
        handle = await gate.task.enqueue(delay="1d")
        after = await gate.task.enqueue(delay="2d")
        advancing = asyncio.create_task(kit.clock.advance("30d"))
        await gate.started.wait()
        assert kit.clock.now() == start + timedelta(days=1)
        record = await handle.execution()
        assert record.lease_expires_at == kit.clock.now() + timedelta(seconds=15)
        gate.go.set()
        await advancing
        assert [await handle.result(0), await after.result(0)] == ["through"] * 2
        assert [(await each.execution()).deliveries for each in (handle, after)] == [0, 0]
        assert kit.executor.refused_count == 0


async def test_a_handler_that_does_not_end_is_named_and_time_stays_at_its_moment(app: Durable) -> None:
    gate = Gate(app)
    async with app_under_test(app, patience="1s") as kit:
        start = kit.clock.now()
        handle = await gate.task.enqueue(delay="1d")
        later = await gate.task.enqueue(delay="2d")
        with pytest.raises(StillRunning, match=f"task 'hang' .execution {handle.execution_id}, attempt 1.") as caught:
            await kit.clock.advance("30d")
        assert len(caught.value.running) == 1
        assert kit.clock.now() == start + timedelta(days=1)
        assert await later.status() == Status.READY
        gate.go.set()
        await kit.clock.advance("30d")
        assert await handle.result(0) == "through"


async def test_work_that_goes_on_for_ever_at_one_moment_is_told(app: Durable) -> None:
    seen = 0

    @app.task
    async def again() -> None:
        nonlocal seen
        seen += 1
        await again.enqueue()

    async with app_under_test(app, patience="1s") as kit:
        await again.enqueue()
        with pytest.raises(StillRunning, match=r"after 1 s of real time there is still work"):
            await kit.drain()
    assert seen > 1


async def test_a_test_that_ends_while_a_handler_runs_does_not_wait_for_it(
    app: Durable, storage: VirtualStorage
) -> None:
    gate = Gate(app)
    async with app_under_test(app, storage=storage):
        handle = await gate.task.enqueue()
        await gate.started.wait()
    with app.override(storage=storage.storage):
        async with app:
            record = await app.execution(handle.execution_id)
    assert (record.status, record.attempts) == (Status.READY, 0)


async def test_a_sync_handler_in_a_thread_is_waited_for(app: Durable, storage: VirtualStorage) -> None:
    go = threading.Event()

    @app.task
    def work() -> str:
        go.wait(30)
        return "through"

    @app.task
    async def release(ctx: TaskContext) -> None:
        go.set()

    async with app_under_test(app, storage=storage) as kit:
        handle = await work.enqueue(delay="1h")
        await release.enqueue(delay="1h")
        await kit.clock.advance("1h")
        assert await handle.result(0) == "through"


async def test_what_a_lost_executor_held_is_recovered_when_its_lease_ends_in_virtual_time(
    app: Durable, storage: VirtualStorage
) -> None:
    @app.task
    async def work(ctx: TaskContext) -> str:
        return ctx.previous_error.type if ctx.previous_error else "first"

    with app.override(storage=storage.storage):
        async with app:
            handle = await work.enqueue()
            claim = app.storage.claim(executor_id="gone", queues=["default"], task_names=["work"], limit=1, lease=LEASE)
            assert [claimed.id for claimed in await claim] == [handle.execution_id]
    async with app_under_test(app, storage=storage) as kit:
        await kit.clock.advance(LEASE - 0.001)
        assert await work.handle(handle.execution_id).status() == Status.RUNNING
        await kit.clock.advance(0.001)
        assert await work.handle(handle.execution_id).result(0) == "lease_expired"


async def test_what_another_transaction_holds_is_due_until_it_is_let_go(
    app: Durable, durable_postgres: VirtualPostgres
) -> None:
    @app.task
    async def work() -> str:
        return "done"

    async with (
        app_under_test(app, storage=durable_postgres) as kit,
        await psycopg.AsyncConnection.connect(durable_postgres.dsn) as connection,
    ):
        handle = await work.enqueue(delay="1h")
        rows = render("select 1 from /*schema*/executions for update", durable_postgres.schema)
        await connection.execute(rows)
        durable_postgres.move_to(kit.clock.now() + timedelta(hours=1))
        draining = asyncio.create_task(kit.drain())
        for _ in range(50):
            await app.storage.now()  # a round trip, in which the executor gets its turns
        assert not draining.done()
        await connection.rollback()
        await draining
        assert await handle.result(0) == "done"


# --- storages --------------------------------------------------------------------------------------------------------


async def test_a_storage_is_made_from_a_dsn_and_dropped_after(app: Durable, durable_postgres_dsn: str) -> None:
    @app.task
    async def work() -> int:
        return 1

    for dsn in ("memory:", durable_postgres_dsn):
        with virtual_storage(dsn) as storage:
            async with app_under_test(app, storage=storage) as kit:
                handle = await work.enqueue(delay="1d")
                await kit.clock.advance("1d")
                assert await handle.result(0) == 1


def test_a_storage_that_nobody_makes_is_refused() -> None:
    with (
        pytest.raises(ConfigurationError, match="no virtual storage for DSNs of the form mysql:"),
        virtual_storage("mysql://root:secret@db/x"),
    ):
        raise AssertionError("never")
