"""A request to stop that a body has caught and passed over can be made again."""

from __future__ import annotations

import asyncio

from durable import Durable, Status, WorkflowContext
from durable.testing import VirtualStorage, app_under_test
from tests.jobs.crew import client_only, crew


async def test_a_second_request_reaches_a_body_that_has_swallowed_the_first(
    app: Durable, storage: VirtualStorage
) -> None:
    heard: list[str] = []

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        for _ in range(2):
            try:
                await ctx.wait_signal("never", int)
            except asyncio.CancelledError as error:
                heard.append(str(error))
        await ctx.wait_signal("never", int)

    async with crew(storage, app) as (kit,):
        handle = await flow.enqueue()
        await kit.drain()
        assert (await handle.cancel(reason="one")).outcome == "requested"
        await kit.drain()
        assert await handle.status() is Status.WAITING
    async with crew(storage, app) as (kit,):
        handle = flow.handle(handle.execution_id)
        assert (await handle.cancel(reason="two")).outcome == "already_requested"
        await kit.drain()
        assert await handle.status() is Status.WAITING
        await handle.cancel(reason="three")
        await kit.drain()
        assert await handle.status() is Status.CANCELLED
        assert "three" in ((await handle.execution()).error or "")
        assert (await handle.cancel()).outcome == "already_finished"
    assert list(dict.fromkeys(heard)) == ["one", "two"]


async def test_requests_that_nobody_has_heard_of_are_one(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        try:
            await ctx.wait_signal("never", int)
        except asyncio.CancelledError:
            await ctx.sleep("1h")
        return "went on"

    async with crew(storage, app) as (kit,):
        handle = await flow.enqueue()
        await kit.drain()
    async with client_only(storage, app):
        for outcome in ("requested", "already_requested", "already_requested"):
            assert (await flow.handle(handle.execution_id).cancel()).outcome == outcome
    async with crew(storage, app) as (kit,):
        await kit.clock.advance("1h")
        assert await flow.handle(handle.execution_id).result(timeout=0) == "went on"


async def test_a_request_during_clean_up_stops_that_unless_it_is_shielded(
    app: Durable, storage: VirtualStorage
) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext, is_shielded: bool) -> None:
        try:
            await ctx.wait_signal("never", int)
        finally:
            slow = ctx.sleep("1h")
            await (ctx.shield(slow) if is_shielded else slow)

    async with app_under_test(app, storage=storage) as kit:
        handles = [await flow.enqueue(is_shielded) for is_shielded in (False, True)]
        for _ in range(2):
            await kit.drain()
            for handle in handles:
                await handle.cancel()
        await kit.drain()
        assert [await handle.status() is Status.CANCELLED for handle in handles] == [True, False]
        await kit.clock.advance("1h")
        assert await handles[1].status() is Status.CANCELLED


async def test_what_undoes_is_not_stopped_by_a_second_request(app: Durable, storage: VirtualStorage) -> None:
    undone: list[str] = []

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("never", int)

    @flow.finalize
    async def tidy(ctx: WorkflowContext) -> None:
        await ctx.sleep("1h")
        undone.append("tidied")

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        for _ in range(2):
            await kit.drain()
            await handle.cancel()
        await kit.clock.advance("1h")
        assert await handle.status() is Status.CANCELLED
    assert undone == ["tidied"]
