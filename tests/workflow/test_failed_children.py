"""A workflow hears of a child that failed at once, and of those that completed when it needs them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from durable import ChildFailed, Durable, MapFailed, NonRetryable, Status, WorkflowContext
from durable.testing import VirtualStorage, app_under_test
from durable.workflow.context import ChildCall
from tests.flow.place import Place, running, soon
from tests.jobs.crew import client_only, crew

WAYS = ["ctx.gather", "asyncio.gather", "TaskGroup", "nested"]


async def _gathered(ctx: WorkflowContext, way: str, calls: list[ChildCall[int]]) -> None:
    match way:
        case "ctx.gather":
            await ctx.gather(*calls)
        case "asyncio.gather":
            await asyncio.gather(*calls)
        case "nested":
            await ctx.gather(ctx.gather(*calls[:1]), ctx.gather(*calls[1:]))
        case _:
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    group.create_task(_awaited(call))


async def _awaited(call: Awaitable[int]) -> int:
    return await call


@pytest.mark.parametrize("way", WAYS)
async def test_the_first_failure_is_raised_while_the_others_run(
    app: Durable, storage: VirtualStorage, way: str
) -> None:
    @app.workflow
    async def part(ctx: WorkflowContext, minutes: int) -> int:
        await ctx.sleep(f"{minutes}m")
        if minutes == 2:
            raise NonRetryable("two")
        return minutes

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        calls = [ctx.child(part, minutes) for minutes in (1, 2, 60)]
        try:
            await _gathered(ctx, way, calls)
        except ChildFailed as failed:
            return str(failed)
        except ExceptionGroup as failed:
            return str(failed.exceptions[0])
        return "no failure"

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("1m")
        assert await handle.status() in (Status.WAITING, Status.READY)
        await kit.clock.advance("1m")
        assert "two" in await handle.result(timeout=0)
        statuses = [child.status for child in await handle.children()]
        assert statuses == [Status.COMPLETED, Status.FAILED, Status.CANCELLED]
        assert await kit.app.storage.defects(limit=10) == []


async def test_a_map_without_tolerance_ends_with_its_first_failure(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def part(ctx: WorkflowContext, minutes: int) -> int:
        await ctx.sleep(f"{minutes}m")
        if minutes == 1:
            raise NonRetryable("one")
        return minutes

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        try:
            await ctx.map(part, [60, 60, 1, 60, 60, 60, 60, 60])
        except MapFailed as failed:
            return str(failed.errors[0][0])
        return "no failure"

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("1m")
        assert await handle.result(timeout=0) == "2"


async def test_a_failure_is_heard_beside_a_message_and_after_a_replay(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def part(ctx: WorkflowContext, minutes: int) -> int:
        await ctx.sleep(f"{minutes}m")
        raise NonRetryable("no")

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        note = asyncio.ensure_future(ctx.wait_signal("note", bool))
        try:
            await ctx.gather(ctx.child(part, 1), ctx.child(part, 60))
        except ChildFailed:
            return f"noted: {note.done()}"
        return "no failure"

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
    async with client_only(storage, app):
        await flow.handle(handle.execution_id).signal("note", True)
    async with crew(storage, app) as (kit,):
        await kit.clock.advance("1m")
        assert await flow.handle(handle.execution_id).result(timeout=0) == "noted: True"


async def test_those_that_complete_wake_their_parent_once(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def part(ctx: WorkflowContext, minutes: int) -> int:
        await ctx.sleep(f"{minutes}m")
        return minutes

    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        return sum(await ctx.gather(*(ctx.child(part, minutes) for minutes in range(1, 6))))

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        fence = (await handle.execution()).fence
        await kit.clock.advance("5m")
        assert await handle.result(timeout=0) == 15
        assert (await handle.execution()).fence - fence == 2


@pytest.mark.parametrize("then", ["a step", "a wait"])
async def test_a_child_that_is_let_go_of_is_stopped_at_once_where_it_runs(place: Place, then: str) -> None:
    """And not at the next poll, which never comes here."""
    app = place.app()
    began, stopped = asyncio.Event(), asyncio.Event()

    @app.task
    async def hang() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async def see() -> None:
        await began.wait()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.wait_first(ctx.child(hang), ctx.step(see))
        await (ctx.step(stopped.wait) if then == "a step" else ctx.wait_signal("go", bool))

    async with running(app, poll_interval="10m", upkeep_interval="10m"):
        handle = await flow.enqueue()
        await soon(stopped.wait())
        if then == "a wait":
            await handle.signal("go", True)
        await soon(handle.result(timeout=None))
