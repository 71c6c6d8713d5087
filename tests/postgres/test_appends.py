"""A sender whose job is held by a transaction waits alone; everybody else's events go on meanwhile."""

from __future__ import annotations

import asyncio

import psycopg

from durable import Durable
from durable.jobs import EventContext, Task
from durable.testing import Maker
from durable.testing.contract.jobs_scene import OTHER, SUBJECT
from tests.support.locks import PATIENCE, until_waiting
from tests.support.subject import PostgresSubject


def declare(app: Durable) -> Task[int, int]:
    order = app.task_job("order", state=int, event=int)

    @order.on_event
    async def on_event(ctx: EventContext[int, int], event: int) -> None: ...

    return order


async def test_a_job_that_a_transaction_holds_keeps_no_other_sender_waiting(
    postgres_dsn: str, empty_schema: str
) -> None:
    app = Durable(postgres_dsn, schema=empty_schema)
    order = declare(app)
    async with app, await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as control:
        await order.send("held", 0)
        await order.send("free", 0)
        async with asyncio.timeout(PATIENCE), await psycopg.AsyncConnection.connect(postgres_dsn) as connection:
            await order.send("held", 1, connection=connection)
            await order.send("not yet there", 1, connection=connection)
            waiting = [asyncio.create_task(order.send(key, 2)) for key in ("held", "held", "held", "not yet there")]
            await until_waiting(control, 2)
            await asyncio.gather(*(order.send("free", number) for number in range(20)), order.send("another", 1))
            assert not any(task.done() for task in waiting)
        results = await asyncio.gather(*waiting)
        assert not any(result.created for result in results)
        counts = [(await order.status(key)).event_count for key in ("held", "not yet there", "free", "another")]
        assert counts == [5, 2, 21, 1]


async def test_append_free_events_leaves_out_what_a_transaction_holds(postgres_subject: PostgresSubject) -> None:
    storage, make = postgres_subject.handles[0], Maker()
    await storage.append_events([make.event(SUBJECT), make.event(OTHER)])
    async with asyncio.timeout(PATIENCE), postgres_subject.rolled_back() as connection:
        await storage.append_events([make.event(SUBJECT)]).await_on(connection)
        held, free = await storage.append_free_events([make.event(SUBJECT), make.event(OTHER)])
    assert held is None
    assert free is not None
    assert free.number == 2
    assert [event.number for event in await storage.pending_events(SUBJECT)] == [1]
