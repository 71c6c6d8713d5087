"""What a caller's open transaction stores, and nobody sees yet: who needs the same key waits, and nobody else does."""

import asyncio

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from durable import Durable, Spawn, WorkflowContext
from durable.execution import Status
from durable.jobs import ContinuousContext, DebounceContext, every
from storage_postgres import PostgresStorage

from .place import PATIENCE, PostgresPlace, running, soon, turns, until


@pytest.fixture
def app(postgres: PostgresPlace) -> Durable:
    # Connections that wait as long as it takes, so only the executor's own limits end its waiting.
    patient = make_conninfo(postgres.dsn, options="-c lock_timeout=0")
    return Durable(storage=PostgresStorage(patient, schema=postgres.schema), poll_interval="50ms")


async def one() -> int:
    return 1


async def some_wait(postgres: PostgresPlace) -> None:
    """Until a statement waits for a lock."""
    statement = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    async with asyncio.timeout(PATIENCE):
        while postgres.control.execute(statement).fetchone() == (0,):
            await turns(1)


async def test_a_workflow_whose_child_has_a_held_key_keeps_no_other_from_its_checkpoints(
    app: Durable, postgres: PostgresPlace
) -> None:
    door = app.sleeping("door", int)

    @app.workflow
    async def wants(ctx: WorkflowContext) -> int:
        return await ctx.child(door, "held")

    @app.workflow
    async def steps(ctx: WorkflowContext) -> int:
        return await ctx.step(one)

    async with running(app), await psycopg.AsyncConnection.connect(postgres.dsn) as connection:
        async with connection.transaction(force_rollback=True):
            await door.enqueue("held", connection=connection)
            handle = await wants.enqueue()
            await some_wait(postgres)
            for _ in range(3):
                assert await (await steps.enqueue()).result(PATIENCE) == 1
            # What waits lets go of its own row now and then, so that its lease can be renewed.
            async with asyncio.timeout(PATIENCE):
                while await app.storage.held_rows([handle.execution_id]):
                    assert await handle.status() is Status.RUNNING
        await until(app, handle.execution_id, lambda record: record.status is Status.WAITING)
        await door.wakeup("held", 7)
        assert await handle.result(PATIENCE) == 7


async def test_an_end_whose_child_has_a_held_key_keeps_no_other_waiting(app: Durable, postgres: PostgresPlace) -> None:
    door = app.sleeping("door", int)

    @app.task
    async def work(n: int) -> int:
        return n

    @app.parent()
    async def wants() -> Spawn[None]:
        return Spawn(None, [door.child("held")])

    async with running(app), await psycopg.AsyncConnection.connect(postgres.dsn) as connection:
        async with connection.transaction(force_rollback=True):
            await door.enqueue("held", connection=connection)
            handles = [await wants.enqueue() for _ in range(2)]
            await some_wait(postgres)
            for number in range(3):
                assert await (await work.enqueue(number)).result(PATIENCE) == number
            assert [await handle.status() for handle in handles] == [Status.RUNNING, Status.RUNNING]

        # One of the two gets the key. The other fails by it, and takes nobody with it.
        async def became() -> set[Status]:
            return {await handle.status() for handle in handles}

        async with asyncio.timeout(PATIENCE):
            while await became() != {Status.WAITING_FOR_CHILDREN, Status.FAILED}:
                pass


async def test_a_turn_that_sends_to_a_job_of_an_open_transaction_keeps_no_other_end_waiting(
    app: Durable, postgres: PostgresPlace
) -> None:
    events: asyncio.Queue[int] = asyncio.Queue()
    ran = asyncio.Event()

    @app.debounce(event=int, flush_after="60ms")
    async def batcher(ctx: DebounceContext[int, int]) -> None:
        for event in ctx.events:
            events.put_nowait(event)

    @app.continuous(state=int, schedule=every("1h"))
    async def ticker(ctx: ContinuousContext[int]) -> None:
        ctx.send(batcher, "k", 1)
        ran.set()

    @app.task
    async def work(n: int) -> int:
        return n

    async with running(app), await psycopg.AsyncConnection.connect(postgres.dsn) as connection:
        async with connection.transaction():
            await batcher.add("k", 0, connection=connection)
            await ticker.start("t", state=0)
            await soon(ran.wait())
            await some_wait(postgres)
            for number in range(3):
                assert await (await work.enqueue(number)).result(PATIENCE) == number
        assert sorted([await soon(events.get()), await soon(events.get())]) == [0, 1]
