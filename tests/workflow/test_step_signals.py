"""The thread of a step hears that nobody waits for it any more: it has its own signal."""

from __future__ import annotations

import asyncio
import threading

import pytest

from durable import Durable, ExecutionFailed, Status, StepFailed, TaskContext, WorkflowContext
from durable.testing import VirtualStorage, app_under_test

PATIENCE = 20.0
"""Seconds after which a test gives up."""


class Waiting:
    """A step in a thread that runs until its signal is set."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._entered = asyncio.Event()
        self.heard: list[str] = []
        self.contexts: list[TaskContext] = []

    def wait(self, context: TaskContext, name: str) -> str:
        self.contexts.append(context)
        self._loop.call_soon_threadsafe(self._entered.set)
        if context.cancel_signal.wait(PATIENCE):
            self.heard.append(name)
        return name

    async def entered(self) -> None:
        await asyncio.wait_for(self._entered.wait(), PATIENCE)


async def test_of_a_workflow_that_is_cancelled(app: Durable, storage: VirtualStorage) -> None:
    step = Waiting()

    async def undo() -> None:
        step.heard.append("undone")

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        ctx.on_rollback(undo)
        await ctx.step(step.wait, "one")

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await step.entered()
        await handle.cancel()
        await kit.drain()
        assert await handle.status() is Status.CANCELLED
    # What undoes it waits for the thread, which would have waited for the whole patience.
    assert step.heard == ["one", "undone"]


async def test_of_a_step_that_the_body_gives_up_and_of_no_other(app: Durable, storage: VirtualStorage) -> None:
    step = Waiting()
    release = threading.Event()

    def other(context: TaskContext) -> bool:
        release.wait(PATIENCE)
        return context.cancel_signal.is_set()

    async def open_up() -> None:
        release.set()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> bool:
        working = asyncio.ensure_future(ctx.step(other))
        try:
            async with ctx.timeout("1ms"):
                await ctx.step(step.wait, "late")
        except TimeoutError:
            await ctx.step(open_up)
        return await working

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.result(timeout=PATIENCE) is False


async def test_of_an_attempt_that_takes_too_long(app: Durable, storage: VirtualStorage) -> None:
    step = Waiting()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.with_options(timeout="10ms").step(step.wait, "too long")

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        with pytest.raises(ExecutionFailed) as failed:
            await handle.result(timeout=0)
        assert failed.value.error.type == StepFailed.__name__
        assert step.contexts[0].cancel_signal.wait(PATIENCE)
