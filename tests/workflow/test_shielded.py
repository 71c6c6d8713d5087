"""What is shielded comes to its end before the body goes on, however often the workflow is told to stop."""

from __future__ import annotations

import asyncio

import pytest

from durable import Durable, Status, WorkflowContext
from durable.testing import VirtualStorage, app_under_test


@pytest.mark.parametrize("requests", [1, 2, 3])
@pytest.mark.parametrize("in_finally", [False, True])
async def test_it_ends_before_its_work_is_undone(
    app: Durable, storage: VirtualStorage, requests: int, in_finally: bool
) -> None:
    log: list[str] = []

    async def note(text: str) -> None:
        log.append(text)

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        async def slow() -> None:
            try:
                await ctx.sleep("1h")
            except asyncio.CancelledError:
                log.append("interrupted")
                raise
            await ctx.step(note, "ended")

        ctx.on_rollback(note, "undone")
        try:
            if in_finally:
                await ctx.wait_signal("never", int)
        finally:
            await ctx.shield(slow())
        log.append("went on")

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        for _ in range(requests):
            await kit.drain()
            await handle.cancel()
        await kit.drain()
        assert log == []
        await kit.clock.advance("1h")
        assert await handle.status() is Status.CANCELLED
    assert log == ["ended", "undone"]


async def test_its_error_is_kept_with_the_end_and_its_result_is_given(app: Durable, storage: VirtualStorage) -> None:
    async def half(number: int) -> int:
        if number % 2:
            raise ValueError("odd")
        return number // 2

    @app.workflow
    async def flow(ctx: WorkflowContext, number: int) -> int:
        async def later() -> int:
            await ctx.sleep("1h")
            return await ctx.step(half, number)

        return await ctx.shield(later())

    async with app_under_test(app, storage=storage) as kit:
        even, odd, stopped = [await flow.enqueue(number) for number in (4, 5, 5)]
        await kit.drain()
        await stopped.cancel(reason="enough")
        await kit.clock.advance("1h")
        assert await even.result(timeout=0) == 2
        assert await odd.status() is Status.FAILED
        record = await stopped.execution()
        assert record.status is Status.CANCELLED
        assert "enough" in (record.error or "")
        assert "what was shielded failed: StepFailed: step 'half#1' failed: ValueError: odd" in (record.error or "")


@pytest.mark.parametrize("requests", [1, 2])
async def test_a_time_limit_around_it_waits_for_it_as_well(
    app: Durable, storage: VirtualStorage, requests: int
) -> None:
    log: list[str] = []

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        try:
            async with ctx.timeout("1m"):
                await ctx.shield(ctx.sleep("1h"))
        except TimeoutError:
            log.append("late")

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("2m")
        if requests == 2:
            await handle.cancel()
        await kit.clock.advance("57m")
        assert await handle.status() not in (Status.COMPLETED, Status.CANCELLED)
        await kit.clock.advance("1m")
        assert await handle.status() is (Status.COMPLETED if requests == 1 else Status.CANCELLED)
    assert log == (["late"] if requests == 1 else [])
