"""Task jobs: many senders, several executors, the order of events, and turns that meet."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import psycopg
import pytest

from durable import Durable
from durable.jobs import EventContext, ExecuteContext, IdleContext, ShownStatus, Task
from durable.testing import VirtualStorage, app_under_test
from tests.flow.place import PATIENCE, Place, PostgresPlace, running, soon

from .stage import Gate

HOUR = timedelta(hours=1)


@dataclass
class Sum:
    total: int
    events: list[int]


Adder = Task[Sum, int]


def adder(place: Place) -> tuple[Durable, Adder]:
    app = place.app()
    job = app.task_job("adder", state=Sum, event=int)

    @job.on_event
    async def on_event(ctx: EventContext[Sum, int], event: int) -> None:
        before = ctx.state or Sum(0, [])
        await app.storage.now()
        ctx.set_state(Sum(before.total + 1, [*before.events, event]))

    return app, job


@asynccontextmanager
async def adders(place: Place, *, executors: int, clients: int) -> AsyncIterator[list[Adder]]:
    """The jobs of the clients, on connections of their own."""
    async with AsyncExitStack() as stack:
        for _ in range(executors):
            await stack.enter_async_context(running(adder(place)[0]))
        members = [adder(place) for _ in range(clients)]
        for app, _ in members:
            await stack.enter_async_context(app)
        yield [job for _, job in members]


async def test_tsk_18_no_update_of_100_concurrent_sends_is_lost(place: Place) -> None:
    async with adders(place, executors=3, clients=8) as jobs:
        sends = (jobs[event % 8].send("k", event, wait=True) for event in range(100))
        sent = await soon(asyncio.gather(*sends))
        assert sum(result.created for result in sent) == 1
        found = (await jobs[0].state("k")).state
        assert found is not None
        assert (found.total, sorted(found.events)) == (100, list(range(100)))
        status = await jobs[0].status("k")
        assert (status.status, status.event_count, status.pending_count) == (ShownStatus.IDLE, 100, 0)


async def test_tsk_18_blocking_clients_in_threads_lose_none_either(postgres: PostgresPlace) -> None:
    def send(number: int) -> None:
        app, job = adder(postgres)
        with app.client() as client:
            for event in range(10):
                client.job(job).send("k", number * 10 + event)

    app, job = adder(postgres)
    async with running(app):
        threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        await asyncio.gather(*(asyncio.to_thread(thread.join, PATIENCE) for thread in threads))
        await soon(job.send("k", 40, wait=True))
        found = (await job.state("k")).state
        assert found is not None
        assert sorted(found.events) == list(range(41))
        # Each thread sent its own in their order.
        for number in range(4):
            own = [event for event in found.events if event // 10 == number]
            assert own == sorted(own)


async def test_tsk_19_events_of_one_sender_are_handled_in_their_order(place: Place) -> None:
    async with adders(place, executors=2, clients=1) as (job,):
        for event in range(30):
            await job.send("k", event)
        await soon(job.send("k", 30, wait=True))
        found = (await job.state("k")).state
        assert found is not None
        assert found.events == list(range(31))


async def test_tsk_25_a_slow_handler_does_not_delay_other_keys(place: Place) -> None:
    app = place.app()
    gate = Gate()
    handled: list[str] = []
    job = app.task_job("order", state=Sum, event=int)

    @job.on_event
    async def on_event(ctx: EventContext[Sum, int], event: int) -> None:
        if ctx.key == "slow":
            await gate.hold()
        handled.append(ctx.key)

    async with running(app, concurrency=2):
        await job.send("slow", 1)
        await gate.reached()
        await job.send("slow", 2)
        for number in range(5):
            await soon(job.send(f"quick {number}", 1, wait=True))
        assert handled == [f"quick {number}" for number in range(5)]
        gate.open()
        await soon(job.send("slow", 3, wait=True))
        assert handled[5:] == ["slow"] * 3


def planning(app: Durable, gate: Gate, *, execute: str | None, event: str | None) -> tuple[Task[Sum, str], list[str]]:
    """A job whose first event plans an hour; its execute stops at the gate, then plans, as a later event does."""
    notes: list[str] = []
    job = app.task_job("order", state=Sum, event=str)

    @job.on_event
    async def on_event(ctx: EventContext[Sum, str], name: str) -> None:
        notes.append(name)
        if name == "first":
            ctx.schedule("1h")
        elif event is None:
            ctx.cancel_schedule()
        else:
            ctx.schedule(event)

    @job.execute
    async def on_execute(ctx: ExecuteContext[Sum]) -> None:
        notes.append("execute")
        if ctx.execute_count == 1:
            await gate.hold()
            if execute is None:
                ctx.cancel_schedule()
            else:
                ctx.schedule(execute)

    @job.on_idle
    def on_idle(ctx: IdleContext[Sum]) -> None:
        notes.append("idle")

    return job, notes


@pytest.mark.parametrize(("execute", "event", "hours"), [(None, "3h", 3), ("3h", None, None), ("3h", "2h", 2)])
async def test_tsk_20_of_an_execute_and_an_event_during_it_the_event_has_the_last_word(
    app: Durable, storage: VirtualStorage, execute: str | None, event: str | None, hours: int | None
) -> None:
    gate = Gate()
    job, notes = planning(app, gate, execute=execute, event=event)
    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "first")
        await kit.drain()
        advancing = asyncio.ensure_future(kit.clock.advance("1h"))
        await gate.reached()
        await job.send("k", "second")
        assert notes == ["first", "execute"]
        gate.open()
        now = await advancing
        # An execute that plans nothing is followed by on_idle: when it began, no event waited.
        assert [note for note in notes if note != "idle"] == ["first", "execute", "second"]
        assert (await job.status("k")).scheduled_at == (None if hours is None else now + hours * HOUR)
        await kit.clock.advance("1d")
        assert notes.count("execute") == (1 if hours is None else 2)


async def test_tsk_20_an_execute_during_an_event_has_the_last_word(app: Durable, storage: VirtualStorage) -> None:
    gate = Gate()
    job = app.task_job("order", state=Sum, event=str)
    notes: list[str] = []

    @job.on_event
    async def on_event(ctx: EventContext[Sum, str], event: str) -> None:
        notes.append(event)
        await gate.hold()
        ctx.schedule("3h")

    @job.execute
    async def execute(ctx: ExecuteContext[Sum]) -> None:
        notes.append("execute")
        ctx.cancel_schedule()

    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "a")
        await gate.reached()
        assert (await job.trigger("k")).queued
        gate.open()
        await kit.drain()
        assert notes == ["a", "execute"]
        assert (await job.status("k")).scheduled_at is None


async def test_tsk_21_what_was_due_first_runs_first_and_at_one_moment_the_plan(
    app: Durable, storage: VirtualStorage
) -> None:
    """The executor was away while both came due."""
    notes: list[str] = []
    job = app.task_job("order", state=Sum, event=str)

    @job.on_event
    async def on_event(ctx: EventContext[Sum, str], event: str) -> None:
        notes.append(event)
        if event == "plan":
            ctx.schedule("1h")

    @job.execute
    async def execute(ctx: ExecuteContext[Sum]) -> None:
        notes.append("execute")

    for minutes in (59, 60, 61):
        async with app_under_test(app, storage=storage) as kit:
            start = kit.clock.now()
            await job.send("k", "plan", wait=True)
        async with client_only(app, storage):
            storage.move_to(start + timedelta(minutes=minutes))
            await job.send("k", f"event at {minutes}")
            storage.move_to(start + timedelta(hours=2))
        async with app_under_test(app, storage=storage) as kit:
            await kit.drain()
            assert (await job.status("k")).status is ShownStatus.IDLE
    assert notes == [
        *("plan", "event at 59", "execute"),
        *("plan", "execute", "event at 60"),
        *("plan", "execute", "event at 61"),
    ]


@asynccontextmanager
async def client_only(app: Durable, storage: VirtualStorage) -> AsyncIterator[None]:
    with app.override(storage=storage.storage):
        async with app:
            yield


async def test_tsk_23_a_send_that_races_an_end_is_handled_before_it_or_by_the_next_incarnation(place: Place) -> None:
    async with adders(place, executors=2, clients=2) as (one, other):
        for round_ in range(20):
            key = f"k{round_}"
            await soon(one.send(key, 1, wait=True))
            ended, sent = await asyncio.gather(one.terminate(key), other.send(key, 2))
            assert ended.terminated
            if sent.created:
                await soon(one.send(key, 3, wait=True))
                assert (await one.state(key)).state == Sum(2, [2, 3])
            else:
                assert (await one.status(key)).status is ShownStatus.TERMINATED
                found = (await one.state(key)).state
                assert found is not None
                assert found.events in ([1], [1, 2])


async def test_tsk_23_a_send_in_a_transaction_that_ends_later_begins_the_next_incarnation(
    postgres: PostgresPlace,
) -> None:
    app, job = adder(postgres)
    async with running(app), await psycopg.AsyncConnection.connect(postgres.dsn) as connection:
        await soon(job.send("k", 1, wait=True))
        assert (await job.terminate("k", connection=connection)).terminated
        assert (await job.status("k")).status is ShownStatus.IDLE
        assert (await job.send("k", 2, connection=connection)).created
        await connection.commit()
        await soon(job.send("k", 3, wait=True))
        assert (await job.state("k")).state == Sum(2, [2, 3])
