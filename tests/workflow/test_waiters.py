"""Several waits for signals of one name: each message goes to the first who still waits when it is its turn."""

from __future__ import annotations

import asyncio

import pytest

from durable import Durable, WorkflowContext
from durable.testing import VirtualStorage, app_under_test


@pytest.mark.parametrize("is_apart", [True, False])
async def test_a_wait_that_is_given_up_meanwhile_takes_no_message(
    app: Durable, storage: VirtualStorage, *, is_apart: bool
) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[int]:
        heard: list[int] = []

        async def one(number: int) -> None:
            heard.append(await ctx.wait_signal("s", int))
            if number == 0:
                tasks[1].cancel()

        tasks = [asyncio.create_task(one(number)) for number in range(3)]
        await asyncio.wait(tasks)
        heard.append(await ctx.wait_signal("s", int))
        return heard

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        for number in (1, 2, 3):
            await handle.signal("s", number)
            if is_apart:
                await kit.drain()
        await kit.drain()
        assert await handle.result(timeout=0) == [1, 2, 3]
        forked = await handle.fork()
        await kit.drain()
        assert await forked.result(timeout=0) == [1, 2, 3]


async def test_what_comes_after_the_end_is_heard_by_nobody_and_goes_to_the_next_run(
    app: Durable, storage: VirtualStorage
) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext, before: list[int]) -> list[int]:
        waits = [asyncio.ensure_future(ctx.wait_signal("s", int)) for _ in range(2)]
        heard = [*before, await waits[0]]
        if len(heard) < 3:
            ctx.continue_as_new(heard)
        return heard

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue([])
        for number in (1, 2, 3):
            await handle.signal("s", number)
        await kit.drain()
        assert await handle.result(timeout=0) == [1, 2, 3]
