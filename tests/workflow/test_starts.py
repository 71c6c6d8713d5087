"""Sleeping tasks that a workflow starts beside itself: one that is there is another's, and the workflow hears of it."""

from __future__ import annotations

from collections.abc import Awaitable

from durable import Durable, SleepingIdConflict, WorkflowContext
from durable.testing import VirtualStorage, app_under_test, crash_everywhere


async def test_a_start_under_a_taken_id_is_refused_in_the_body(app: Durable, storage: VirtualStorage) -> None:
    door = app.sleeping("door", int)

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        try:
            return await ctx.start(door, "taken")
        except SleepingIdConflict as error:
            await ctx.sleep("1h")  # so that a replay comes this way too
            return f"{error.task} {error.sleeping_id} {await ctx.start(door, 'free') != ''}"

    async with app_under_test(app, storage=storage) as kit:
        first = await door.enqueue("taken")
        handle = await flow.enqueue()
        await kit.clock.advance("2h")
        assert await handle.result(timeout=0) == "door taken True"
        await door.wakeup("taken", 7)
        assert await first.result(timeout=0) == 7


async def test_of_two_starts_under_one_id_the_first_has_it(app: Durable, storage: VirtualStorage) -> None:
    door = app.sleeping("door", int)

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[str]:
        starts = [ctx.start(door, "x"), ctx.start(door, "x"), ctx.start(door, "y")]
        return [type(found).__name__ for found in await ctx.gather(*map(_caught, starts))]

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.result(timeout=0) == ["str", "SleepingIdConflict", "str"]


async def test_a_refused_start_is_the_same_after_every_crash(app: Durable) -> None:
    door = app.sleeping("door", int)

    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        await ctx.start(door, "x")
        try:
            await ctx.start(door, "x")
        except SleepingIdConflict:
            await ctx.sleep("1h")
            return 1
        return 0

    assert (await crash_everywhere(flow)).result == 1


async def _caught(start: Awaitable[str]) -> str | SleepingIdConflict:
    try:
        return await start
    except SleepingIdConflict as error:
        return error
