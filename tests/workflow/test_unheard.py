"""What a body has not heard when it continues as new is for its next run: signals, and requests to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from durable import Durable, Status, WorkflowContext
from durable.testing import Kit, VirtualStorage, app_under_test
from tests.jobs.crew import turned


class Step:
    """A step that ends while the executor reads the messages that have come meanwhile."""

    def __init__(self) -> None:
        self.entered, self.go = asyncio.Event(), asyncio.Event()

    async def run(self) -> str:
        self.entered.set()
        await self.go.wait()
        return "done"


@asynccontextmanager
async def ending_in_one_look(
    app: Durable, storage: VirtualStorage, step: Step, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Kit]:
    async with app_under_test(app, storage=storage) as kit:
        read = kit.executor._checkpoint.read

        async def reading(*args: Any) -> Any:
            history = await read(*args)
            if step.entered.is_set():
                step.go.set()
                for _ in range(10):
                    await turned()
            return history

        monkeypatch.setattr(kit.executor._checkpoint, "read", reading)
        yield kit


async def begun(kit: Kit, step: Step) -> None:
    kit.executor.wake()
    async with asyncio.timeout(10):
        await step.entered.wait()


async def test_a_signal_beside_the_step_before_the_end_is_for_the_next_run(
    app: Durable, storage: VirtualStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Step()

    @app.workflow
    async def flow(ctx: WorkflowContext, n: int, got: list[int]) -> list[int]:
        async def listen() -> None:
            while True:
                got.append(await ctx.wait_signal("x", int))

        listener = asyncio.create_task(listen())
        if n == 1:
            await ctx.step(step.run)
            ctx.continue_as_new(2, got)
        await ctx.sleep("1m")
        listener.cancel()
        return got

    async with ending_in_one_look(app, storage, step, monkeypatch) as kit:
        handle = await flow.enqueue(1, [])
        await begun(kit, step)
        await handle.signal("x", 42)
        await kit.clock.advance("2m")
        assert await handle.result(timeout=0) == [42]


async def test_a_request_to_stop_beside_the_step_before_the_end_is_heard_by_the_next_run(
    app: Durable, storage: VirtualStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Step()

    @app.workflow
    async def flow(ctx: WorkflowContext, n: int) -> None:
        if n == 1:
            await ctx.step(step.run)
            ctx.continue_as_new(2)
        await ctx.sleep("1m")

    async with ending_in_one_look(app, storage, step, monkeypatch) as kit:
        handle = await flow.enqueue(1)
        await begun(kit, step)
        assert (await handle.cancel(reason="enough")).outcome == "requested"
        await kit.clock.advance("2m")
        record = await handle.execution()
        assert (record.status, record.iteration) == (Status.CANCELLED, 1)
        assert "enough" in (record.error or "")


@pytest.mark.parametrize("first", ["signal", "cancel"])
async def test_what_comes_behind_the_message_that_ends_a_run_is_for_the_next(
    app: Durable, storage: VirtualStorage, first: str
) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext, n: int) -> str:
        if n == 1:
            waiting = asyncio.create_task(ctx.wait_signal("other", str))
            try:
                await ctx.wait_signal("next", bool)
            except asyncio.CancelledError:
                assert first == "cancel"
            assert not waiting.done()
            ctx.continue_as_new(2)
        return await ctx.wait_signal("other", str, timeout="1m")

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue(1)
        await kit.drain()
        if first == "cancel":
            await handle.cancel()
        else:
            await handle.signal("next", True)
        await handle.signal("other", "kept")
        await kit.drain()
        assert await handle.result(timeout=0) == "kept"


async def test_what_the_body_has_not_heard_is_not_in_its_history(
    app: Durable, storage: VirtualStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Step()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        waiting = asyncio.create_task(ctx.wait_signal("late", str))
        await ctx.step(step.run)
        return str(waiting.done())

    async with ending_in_one_look(app, storage, step, monkeypatch) as kit:
        handle = await flow.enqueue()
        await begun(kit, step)
        await handle.signal("late", "x")
        await handle.cancel()
        await kit.drain()
        assert await handle.result(timeout=0) == "False"
        (history,) = await kit.app.storage.histories([(handle.execution_id, 0, 0)])
    assert [(entry.seq, entry.kind) for entry in history.entries] == [(1, "code"), (2, "step")]
