"""Rows that a caller's open transaction holds: calls wait for them, and the executor of their process does not."""

import asyncio
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from durable import Durable, StorageUnavailable, WorkflowContext, live
from durable.execution import Status
from durable.jobs import ContinuousContext, every
from storage_postgres import PostgresStorage

from .place import PATIENCE, PostgresPlace, running, soon, until

WAITING = 20


@pytest.fixture
def app(postgres: PostgresPlace) -> Durable:
    """With the connections that a process has unless it says otherwise."""
    return Durable(storage=PostgresStorage(postgres.dsn, schema=postgres.schema), poll_interval="50ms")


def declared(app: Durable) -> tuple[Any, Any]:
    @app.continuous(state=int, schedule=every("1h"))
    async def job(ctx: ContinuousContext[int]) -> None:
        ctx.set_state((ctx.state or 0) + 1)

    @app.task
    async def work(n: int) -> int:
        return n

    return job, work


async def one() -> int:
    return 1


async def said_to_wait(app: Durable, execution_id: str) -> None:
    await until(app, execution_id, lambda record: record.status is Status.WAITING)


def blocked(postgres: PostgresPlace) -> int:
    """Statements that wait for a lock."""
    row = postgres.control.execute(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    ).fetchone()
    assert row is not None
    return int(row[0])


async def test_an_executor_goes_on_while_many_calls_wait_for_a_held_row(app: Durable, postgres: PostgresPlace) -> None:
    job, work = declared(app)
    async with running(app), await psycopg.AsyncConnection.connect(postgres.dsn) as connection:
        await soon(job.start("k", 0))
        async with connection.transaction():
            assert (await job.trigger("k", connection=connection)).triggered
            triggers = [asyncio.ensure_future(job.trigger("k")) for _ in range(WAITING)]
            async with asyncio.timeout(PATIENCE):
                while blocked(postgres) < 5:
                    assert await (await work.enqueue(0)).result(PATIENCE) == 0
            handles = await work.enqueue_many(range(300))
            done, left = await app.wait(handles, timeout=PATIENCE)
            assert (len(done), left) == (300, set())
            assert not any(trigger.done() for trigger in triggers)
        assert all(done.triggered for done in await soon(asyncio.gather(*triggers)))


async def test_a_call_that_has_no_turn_in_time_says_what_it_waits_for(
    app: Durable, postgres: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = declared(app)
    async with app, await psycopg.AsyncConnection.connect(postgres.dsn) as connection:
        await soon(job.start("k", 0))
        async with connection.transaction():
            await job.trigger("k", connection=connection)
            triggers = [asyncio.ensure_future(job.trigger("k")) for _ in range(5)]
            async with asyncio.timeout(PATIENCE):
                while blocked(postgres) < 5:
                    assert await job.status("k")
            monkeypatch.setattr(live, "_PATIENCE", 0.0)
            with pytest.raises(StorageUnavailable, match="waits behind calls of this process"):
                await job.trigger("k")
        assert all(done.triggered for done in await soon(asyncio.gather(*triggers)))


async def test_a_key_that_somebody_holds_keeps_nobody_else_waiting(postgres: PostgresPlace) -> None:
    # Connections that wait as long as it takes, so only a group's own limit ends its waiting.
    patient = make_conninfo(postgres.dsn, options="-c lock_timeout=0")
    app = Durable(storage=PostgresStorage(patient, schema=postgres.schema), poll_interval="50ms")
    _, work = declared(app)
    async with app, await psycopg.AsyncConnection.connect(postgres.dsn) as connection:
        async with connection.transaction():
            first = await work.with_options(idempotency_key="held", connection=connection).enqueue(0)
            held = asyncio.ensure_future(work.with_options(idempotency_key="held").enqueue(0))
            async with asyncio.timeout(PATIENCE):
                while blocked(postgres) < 1:
                    assert await work.enqueue(1)
                # These go out together with another one of the held key, which must not keep them.
                again = asyncio.ensure_future(work.with_options(idempotency_key="held").enqueue(0))
                others = [work.with_options(idempotency_key=f"free {n}").enqueue(n) for n in range(WAITING)]
                assert len({handle.execution_id for handle in await asyncio.gather(*others)}) == WAITING
            assert not held.done()
            assert not again.done()
        handles = await soon(asyncio.gather(held, again))
        assert {handle.execution_id for handle in handles} == {first.execution_id}


async def test_a_running_workflow_that_somebody_holds_keeps_no_other_from_its_checkpoints(
    app: Durable, postgres: PostgresPlace
) -> None:
    has_begun, door = asyncio.Event(), asyncio.Event()
    _, work = declared(app)

    async def guarded() -> int:
        has_begun.set()
        await door.wait()
        return 1

    @app.workflow
    async def held(ctx: WorkflowContext) -> int:
        return await ctx.step(guarded) + await ctx.wait_signal("go", int)

    @app.workflow
    async def steps(ctx: WorkflowContext, count: int) -> int:
        return sum([await ctx.step(one) for _ in range(count)])

    async with running(app), await psycopg.AsyncConnection.connect(postgres.dsn) as connection:
        handle = await held.enqueue()
        await soon(has_begun.wait())
        async with connection.transaction():
            await handle.signal("go", 1, connection=connection)
            door.set()
            for _ in range(3):
                many = await steps.enqueue(5), await work.enqueue(3)
                assert [await each.result(PATIENCE) for each in many] == [5, 3]
            assert await handle.status() == "running"
        assert await handle.result(PATIENCE) == 2


async def test_a_parent_that_somebody_holds_keeps_only_the_ends_of_its_children_waiting(
    app: Durable, postgres: PostgresPlace
) -> None:
    door = asyncio.Event()
    _, work = declared(app)

    @app.task
    async def guarded(number: int) -> int:
        await door.wait()
        return number

    @app.workflow
    async def parent(ctx: WorkflowContext) -> int:
        return sum(await ctx.gather(*(ctx.child(guarded, number) for number in range(3))))

    async with running(app), await psycopg.AsyncConnection.connect(postgres.dsn) as connection:
        handle = await parent.enqueue()
        await said_to_wait(app, handle.execution_id)
        async with connection.transaction():
            await handle.signal("unheard", 1, connection=connection)
            door.set()
            for number in range(WAITING):
                assert await (await work.enqueue(number)).result(PATIENCE) == number
            assert await handle.status() == "waiting"
        assert await handle.result(PATIENCE) == 3


@pytest.mark.parametrize(("size", "limit"), [(1, 1), (2, 1), (4, 1), (5, 2), (8, 5), (20, 17)])
def test_calls_leave_connections_to_the_executor_where_there_are_several(size: int, limit: int) -> None:
    assert PostgresStorage("postgresql://nowhere.invalid/nothing", max_size=size).client_limit == limit
