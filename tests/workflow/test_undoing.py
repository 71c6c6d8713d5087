"""What undoes the work of a workflow begins when the steps that were under way have ended."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from durable import Durable, ExecutionFailed, Status, StepFailed, TaskContext, WorkflowContext
from durable.testing import VirtualStorage, app_under_test
from durable.workflow import steps
from tests.flow.place import PATIENCE
from tests.jobs.crew import Door, crew, reached, turned


class Thread:
    """A sync step that does not end before the test lets it."""

    def __init__(self, log: list[str]) -> None:
        self._log = log
        self._opened = threading.Event()
        self.entered = asyncio.Event()
        self.told = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def charge(self) -> None:
        self._loop.call_soon_threadsafe(self.entered.set)
        assert self._opened.wait(PATIENCE)
        self._log.append("charged")

    async def begun(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.entered.wait()

    async def called(self, ctx: WorkflowContext) -> None:
        try:
            await ctx.step(self.charge)
        finally:
            self.told.set()

    async def stopped(self) -> None:
        """The body has been told to stop, and what comes then has had its chance."""
        async with asyncio.timeout(PATIENCE):
            await self.told.wait()
        for _ in range(100):
            await turned()

    def open(self) -> None:
        self._opened.set()


async def test_a_thread_ends_before_it_is_undone(app: Durable, storage: VirtualStorage) -> None:
    log: list[str] = []
    thread = Thread(log)

    async def refund() -> None:
        log.append("refunded")

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        ctx.on_rollback(refund)
        await thread.called(ctx)

    @flow.finalize
    async def tidy(ctx: WorkflowContext) -> None:
        log.append("finalized")

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await thread.begun()
        await handle.cancel()
        await thread.stopped()
        assert log == []
        thread.open()
        await kit.drain()
        assert await handle.status() is Status.CANCELLED
    assert log == ["charged", "refunded", "finalized"]


async def test_a_coroutine_that_is_slow_to_end_ends_before_it_is_undone(app: Durable, storage: VirtualStorage) -> None:
    log, door, tidying = list[str](), Door(), Door()

    async def charge() -> None:
        try:
            await door.hold()
        finally:
            await tidying.hold()
            log.append("charged")

    async def refuse() -> None:
        await reached(door)
        raise ValueError("no")

    async def refund() -> None:
        log.append("refunded")

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        ctx.on_rollback(refund)
        await ctx.gather(ctx.step(charge), ctx.step(refuse))

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await reached(tidying)
        for _ in range(100):
            await turned()
        assert log == []
        tidying.open()
        await kit.drain()
        assert await handle.status() is Status.FAILED
    assert log == ["charged", "refunded"]


async def test_a_body_that_waits_while_it_is_stopped_keeps_its_turn_until_its_steps_have_ended(
    app: Durable, storage: VirtualStorage
) -> None:
    log: list[str] = []
    thread = Thread(log)

    async def refund() -> None:
        log.append("refunded")

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        ctx.on_rollback(refund)
        try:
            await thread.called(ctx)
        finally:
            await ctx.sleep("1h")
            log.append("slept")

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await thread.begun()
        await handle.cancel()
        await thread.stopped()
        assert await handle.status() is Status.RUNNING
        thread.open()
        await kit.clock.advance("1h")
        assert await handle.status() is Status.CANCELLED
    assert log == ["charged", "slept", "refunded"]


async def test_what_is_deaf_beyond_its_timeout_is_undone_without_its_end(
    app: Durable, storage: VirtualStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(steps, "_DEAF_AFTER", 0.01)
    log: list[str] = []
    thread = Thread(log)

    async def refund() -> None:
        log.append("refunded")

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        ctx.on_rollback(refund)
        await ctx.with_options(timeout="20ms").step(thread.charge)

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await thread.begun()
        await kit.drain()
        assert await handle.status() is Status.FAILED
        assert log == ["refunded"]
        assert any("step 'charge#1' runs on after its timeout" in each.getMessage() for each in caplog.records)
        thread.open()


async def test_a_deaf_step_does_not_keep_its_executor_from_stopping(app: Durable, storage: VirtualStorage) -> None:
    """What undoes the rest then runs elsewhere, once the lease is given back."""
    log: list[str] = []
    thread = Thread(log)

    async def refund() -> None:
        log.append("refunded")

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        ctx.on_rollback(refund)
        await thread.called(ctx)

    async with crew(storage, app, grace="0s") as (_,):
        handle = await flow.enqueue()
        await thread.begun()
        await handle.cancel()
        await thread.stopped()
    async with crew(storage, app) as (kit,):
        await kit.drain()
        assert await flow.handle(handle.execution_id).status() is Status.CANCELLED
        assert log == ["refunded"]
        thread.open()


@pytest.mark.parametrize("result", [object(), "x" * 100_000_000], ids=["no JSON", "too large"])
async def test_a_result_that_cannot_be_stored_is_a_failure_that_is_undone(
    app: Durable, storage: VirtualStorage, result: object
) -> None:
    log: list[str] = []

    async def undo(what: str) -> None:
        log.append(what)

    @app.workflow
    async def flow(ctx: WorkflowContext) -> Any:
        ctx.on_rollback(undo, "undone")
        return result

    @flow.finalize
    async def last(ctx: WorkflowContext) -> None:
        await ctx.step(undo, "finalized")

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        record = await handle.execution()
        assert (record.status, log) == (Status.FAILED, ["undone", "finalized"])
        with pytest.raises(ExecutionFailed, match="result"):
            await handle.result(timeout=0)


@pytest.mark.parametrize("how", ["timed out", "let go of", "cancelled"])
async def test_the_thread_of_a_step_that_is_stopped_is_told_and_no_other(
    app: Durable, storage: VirtualStorage, how: str
) -> None:
    log: list[str] = []
    began, release = threading.Event(), threading.Event()

    def work(context: TaskContext) -> None:
        began.set()
        log.append("stopped" if context.cancel_signal.wait(PATIENCE) else "deaf")

    def neighbour(context: TaskContext) -> None:
        assert release.wait(PATIENCE)
        log.append("stopped as well" if context.cancel_signal.is_set() else "left alone")

    async def wait_for_it() -> None:
        while not began.is_set():
            await turned()

    async def refund() -> None:
        log.append("refunded")

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        ctx.on_rollback(refund)
        if how == "cancelled":
            await ctx.step(work)
        beside = asyncio.create_task(ctx.step(neighbour))
        if how == "timed out":
            with pytest.raises(StepFailed, match="timed_out"):
                await ctx.with_options(timeout="50ms").step(work)
        else:
            await ctx.wait_first(ctx.step(work), ctx.step(wait_for_it))
        await ctx.step(release.set)
        await beside

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        if how == "cancelled":
            kit.executor.wake()
            await wait_for_it()
            await handle.cancel()
        await kit.drain()
        while not {"stopped", "deaf"}.intersection(log):  # of a thread, for which nobody waits
            await turned()
        ended = (await handle.status(), sorted(log))
    if how == "cancelled":
        assert ended == (Status.CANCELLED, ["refunded", "stopped"])
        assert log == ["stopped", "refunded"]
    else:
        assert ended == (Status.COMPLETED, ["left alone", "stopped"])
