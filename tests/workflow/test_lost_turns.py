"""What comes between two looks of a turn is not lost, and what was refused leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from durable import Durable, StorageUnavailable, WorkflowContext
from durable.execution import Settled, Settlement
from durable.testing import VirtualStorage, app_under_test
from tests.jobs.crew import turned


async def test_a_turn_whose_end_was_refused_goes_on_from_its_history_and_not_from_memory(
    app: Durable, storage: VirtualStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same executor claims it again, with a fence that is as much higher as after an end that was accepted."""
    fences: list[int] = []

    @app.workflow
    async def sleeper(ctx: WorkflowContext) -> str:
        began = ctx.now()
        await ctx.sleep("1h")
        return str(ctx.now() - began)

    async with app_under_test(app, storage=storage) as kit:
        settle = kit.app.storage.settle

        async def refused() -> Settled:
            return Settled(frozenset(), frozenset())

        def refusing(settlements: Sequence[Settlement], **options: Any) -> Any:
            fences.extend(item.fence for item in settlements)
            return refused() if len(fences) == 1 else settle(settlements, **options)

        monkeypatch.setattr(kit.app.storage, "settle", refusing)
        handle = await sleeper.enqueue()
        await kit.drain()
        await kit.clock.advance("2h")
        await kit.clock.advance("2h")
        assert await handle.result(timeout=0) == "1:00:00"
        (history,) = await kit.app.storage.histories([(handle.execution_id, 0, 0)])
    assert fences[:2] == [1, 3]
    assert [(entry.seq, entry.kind) for entry in history.entries] == [(1, "code"), (2, "sleeping"), (3, "slept")]


async def test_a_workflow_whose_transaction_cannot_begin_is_given_back_and_goes_on(
    app: Durable, durable_postgres: VirtualStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    async def book(connection: Any) -> str:
        ran.append("book")
        return "booked"

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        return str(await ctx.transaction(book))

    async with app_under_test(app, storage=durable_postgres) as kit:
        transaction = kit.app.storage.transaction
        tries: list[bool] = []

        @asynccontextmanager
        async def failing(*args: Any) -> AsyncGenerator[Any]:
            tries.append(True)
            if len(tries) == 1:
                raise StorageUnavailable("the server is away")
            async with transaction(*args) as connection:
                yield connection

        monkeypatch.setattr(kit.app.storage, "transaction", failing)
        handle = await flow.enqueue()
        await kit.drain()
        record = await handle.execution()
        assert (await handle.result(timeout=0), ran, record.attempts) == ("booked", ["book"], 1)


async def test_a_step_that_ends_while_messages_are_read_is_not_lost(
    app: Durable, storage: VirtualStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        entered.set()
        await go.wait()
        return "slow"

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        return await ctx.step(slow)

    async with app_under_test(app, storage=storage) as kit:
        read = kit.executor._checkpoint.read

        async def reading(*args: Any) -> Any:
            history = await read(*args)
            go.set()
            for _ in range(10):
                await turned()
            return history

        monkeypatch.setattr(kit.executor._checkpoint, "read", reading)
        handle = await flow.enqueue()
        kit.executor.wake()
        async with asyncio.timeout(10):
            await entered.wait()
        await handle.signal("any", 1)
        await kit.drain()
        assert await handle.result(timeout=0) == "slow"


async def test_a_turn_that_was_marked_before_it_began_reads_its_messages_while_a_step_runs(
    app: Durable, storage: VirtualStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()

    async def slow() -> str:
        await never.wait()
        return "slow"

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        return await ctx.wait_first(ctx.step(slow), ctx.wait_signal("go", str))

    async with app_under_test(app, storage=storage) as kit:
        start, pick_up = kit.executor._run.start, kit.executor._cancel.step
        tasks: list[asyncio.Task[Any]] = []

        async def signalled(attempt: Any) -> None:
            await handle.signal("go", "signal")
            await pick_up()
            start(attempt)

        def starting(attempt: Any) -> None:
            tasks.append(asyncio.create_task(signalled(attempt)))

        monkeypatch.setattr(kit.executor._claim, "_start", starting)
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.result(timeout=0) == "signal"


async def test_the_time_is_the_stored_one_where_the_answer_to_a_checkpoint_was_lost(
    app: Durable, storage: VirtualStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def note(at: str) -> str:
        return at

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        await ctx.step(note, "first")
        seen = str(ctx.now())
        await ctx.step(note, seen)
        await ctx.wait_signal("go", bool)
        return seen

    async with app_under_test(app, storage=storage) as kit:
        checkpoint, calls = kit.app.storage.checkpoint, list[bool]()

        async def unanswered(*args: Any, **options: Any) -> Any:
            done = await checkpoint(*args, **options)
            calls.append(True)
            if len(calls) == 1:
                storage.move_to(storage.now() + timedelta(seconds=5))
                raise StorageUnavailable("the answer was lost")
            return done

        monkeypatch.setattr(kit.app.storage, "checkpoint", unanswered)
        handle = await flow.enqueue()
        began = storage.now()
        await kit.drain()
        assert (len(calls), storage.now()) == (3, began + timedelta(seconds=5))
        kit.executor._checkpoint.cache.clear()
        await handle.signal("go", True)
        await kit.drain()
        assert await handle.result(timeout=0) == str(began)
