"""Signals: typed, in order, once each, kept between waits, and part of the sender's transaction."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from durable import (
    ConfigurationError,
    Durable,
    ExecutionNotFound,
    SendOutcome,
    SerializationError,
    Status,
    WorkflowContext,
)
from durable.testing import VirtualStorage, app_under_test
from storage_postgres.testing.virtual import VirtualPostgres
from tests.flow.place import PATIENCE, Place, running, soon
from tests.jobs.crew import client_only, crew


async def test_an_iterator_gives_all_signals_of_a_name_and_no_others(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def adder(ctx: WorkflowContext) -> list[int]:
        got: list[int] = []
        async for n in ctx.signals("n", int):
            if n < 0:
                break
            got.append(n)
        return [*got, await ctx.wait_signal("other", int)]

    async with app_under_test(app, storage=storage) as kit:
        handle = await adder.enqueue()
        for n in (1, 2):
            await handle.signal("n", n)
            await handle.signal("other", 10 * n)
            await kit.drain()
        await handle.signal("n", -1)
        await kit.drain()
        assert await handle.result(timeout=0) == [1, 2, 10]


async def test_a_thousand_senders_at_once_are_all_heard_once(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def counter(ctx: WorkflowContext) -> list[int]:
        return [await ctx.wait_signal("n", int) for _ in range(1000)]

    async with app_under_test(app, storage=storage, patience="60s") as kit:
        handle = await counter.enqueue()
        await kit.drain()
        sending = asyncio.gather(*(handle.signal("n", n, signal_id=str(n)) for n in range(1000)))
        kit.executor.wake()
        assert set(await sending) == {SendOutcome.ACCEPTED}
        await kit.drain()
        assert sorted(await handle.result(timeout=0)) == list(range(1000))
        assert await handle.signal("n", 7, signal_id="7") is SendOutcome.DUPLICATE


async def test_each_sender_is_heard_in_its_own_order(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def listener(ctx: WorkflowContext) -> list[tuple[str, int]]:
        return [await ctx.wait_signal("said", tuple[str, int]) for _ in range(60)]

    async with app_under_test(app, storage=storage) as kit:
        handle = await listener.enqueue()

        async def speak(who: str) -> None:
            for n in range(20):
                await handle.signal("said", (who, n))

        await asyncio.gather(speak("a"), speak("b"), speak("c"))
        await kit.drain()
        heard = await handle.result(timeout=0)
        assert {who: [n for each, n in heard if each == who] for who in "abc"} == {who: [*range(20)] for who in "abc"}


async def test_signals_are_kept_in_order_over_restarts(app: Durable, storage: VirtualStorage) -> None:
    async def note(n: int) -> int:
        return n

    @app.workflow
    async def listener(ctx: WorkflowContext) -> list[int]:
        return [await ctx.step(note, await ctx.wait_signal("n", int)) for _ in range(4)]

    async with client_only(storage, app):
        handle = await listener.enqueue()
        await handle.signal("n", 0)
    for n in range(1, 4):
        async with crew(storage, app) as (kit,):
            await kit.drain()
            await listener.handle(handle.execution_id).signal("n", n)
    async with crew(storage, app) as (kit,):
        await kit.drain()
        assert await listener.handle(handle.execution_id).result(timeout=0) == [0, 1, 2, 3]


@pytest.mark.parametrize("commits", [True, False])
async def test_a_signal_is_sent_if_the_senders_transaction_commits(
    app: Durable, durable_postgres: VirtualPostgres, commits: bool
) -> None:
    @app.workflow
    async def listener(ctx: WorkflowContext) -> str:
        return await ctx.wait_signal("go", str)

    async with app_under_test(app, storage=durable_postgres) as kit:
        handle = await listener.enqueue()
        await kit.drain()
        async with await psycopg.AsyncConnection.connect(durable_postgres.dsn) as connection:
            assert await handle.signal("go", "now", connection=connection) is SendOutcome.ACCEPTED
            await kit.drain()
            assert await handle.status() is Status.WAITING
            await (connection.commit() if commits else connection.rollback())
        await kit.drain()
        assert await handle.status() is (Status.COMPLETED if commits else Status.WAITING)


@pytest.mark.parametrize("commits", [True, False])
async def test_a_blocking_transaction_sends_a_signal_as_well(
    app: Durable, durable_postgres: VirtualPostgres, commits: bool
) -> None:
    @app.workflow
    async def listener(ctx: WorkflowContext) -> str:
        return await ctx.wait_signal("go", str)

    async with app_under_test(app, storage=durable_postgres) as kit:
        with app.client() as client, psycopg.connect(durable_postgres.dsn) as connection:
            handle = client.enqueue(listener)
            await kit.drain()
            assert handle.signal("go", "now", connection=connection) is SendOutcome.ACCEPTED
            connection.commit() if commits else connection.rollback()
            await kit.drain()
            assert handle.status() is (Status.COMPLETED if commits else Status.WAITING)


async def test_signals_without_an_event_loop(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def adder(ctx: WorkflowContext, start: int) -> int:
        return start + await ctx.wait_signal("n", int)

    async with app_under_test(app, storage=storage) as kit:
        with app.client() as client:
            handle = client.enqueue(adder, 1, idempotency_key="once")
            assert handle.signal("n", 2, signal_id="a") is SendOutcome.ACCEPTED
            assert client.handle(adder, handle.execution_id).signal("n", 2, signal_id="a") is SendOutcome.DUPLICATE
            await kit.drain()
            assert handle.result(0) == 3
            assert handle.signal("n", 3) is SendOutcome.FINISHED


async def test_what_is_no_signal_is_refused_before_it_is_sent(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def listener(ctx: WorkflowContext) -> int:
        return await ctx.wait_signal("n", int)

    async with client_only(storage, app):
        handle = await listener.enqueue()
        for name in ("", "a#1", "x" * 201):
            with pytest.raises(ConfigurationError, match="name"):
                await handle.signal(name, 1)
        with pytest.raises(ConfigurationError, match="signal_id"):
            await handle.signal("n", 1, signal_id="")
        with pytest.raises(SerializationError):
            await handle.signal("n", object())
        with pytest.raises(ExecutionNotFound):
            await listener.handle("0" * 8 + "-0000-7000-8000-000000000000").signal("n", 1)


async def test_a_signal_that_does_not_fit_is_an_error_of_the_wait_alone(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def listener(ctx: WorkflowContext) -> str:
        try:
            await ctx.wait_signal("n", int)
        except SerializationError:
            return f"then {await ctx.wait_signal('n', int)}"
        return "no error"

    async with app_under_test(app, storage=storage) as kit:
        handle = await listener.enqueue()
        await handle.signal("n", "one")
        await handle.signal("n", 2)
        await kit.drain()
        assert await handle.result(timeout=0) == "then 2"


async def test_a_signal_id_cannot_stand_in_the_way_of_a_request_to_end(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def listener(ctx: WorkflowContext) -> int:
        return await ctx.wait_signal("n", int)

    async with app_under_test(app, storage=storage) as kit:
        handle = await listener.enqueue()
        await kit.drain()
        await handle.signal("other", signal_id="durable:cancel")
        await handle.cancel()
        await kit.drain()
        assert await handle.status() is Status.CANCELLED


async def test_a_signal_reaches_a_workflow_that_waits_in_real_time(place: Place) -> None:
    app = place.app()

    @app.workflow
    async def listener(ctx: WorkflowContext) -> str:
        return await ctx.wait_signal("go", str)

    async with running(app):
        handle = await listener.enqueue()
        await handle.signal("go", "now")
        assert await soon(handle.result(PATIENCE)) == "now"
