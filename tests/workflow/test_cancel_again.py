"""A request to stop that a body has caught and passed over can be made again."""

from __future__ import annotations

import asyncio

import pytest

from durable import Durable, ExecutionCancelled, Status, WorkflowContext
from durable.testing import VirtualStorage, app_under_test
from tests.flow.place import Place, running, soon
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


@pytest.mark.parametrize("client", ["async", "sync"])
async def test_with_force_one_that_its_code_no_longer_fits_ends_at_once(
    app: Durable, storage: VirtualStorage, client: str
) -> None:
    undone: list[str] = []
    names = iter(("old", "new", "newer", "newest"))

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        ctx.on_rollback(undone.append, "undone")
        await ctx.with_options(name=next(names)).step(len, "")
        await ctx.wait_signal("never", int)

    async with crew(storage, app) as (kit,):
        handle = await flow.enqueue()
        await kit.drain()
    async with crew(storage, app) as (kit,):
        handle = flow.handle(handle.execution_id)
        assert (await handle.cancel()).outcome == "requested"
        await kit.drain()
        assert (await handle.execution()).reason == "step_mismatch"
        if client == "async":
            result = await handle.cancel(running="force", reason="nobody wants it")
        else:
            with app.client() as blocking:
                result = blocking.handle(flow, handle.execution_id).cancel(running="force", reason="nobody wants it")
        assert result.outcome == "cancelled"
        record = await handle.execution()
        assert (record.status, record.reason, undone) == (Status.CANCELLED, "nobody wants it", [])


async def test_with_force_a_workflow_stops_where_it_runs(place: Place) -> None:
    app = place.app()
    began, stopped = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.step(hang)

    async with running(app):
        handle = await flow.enqueue()
        await soon(began.wait())
        assert (await handle.cancel(running="force")).outcome == "cancelled"
        await soon(stopped.wait())
        with pytest.raises(ExecutionCancelled):
            await soon(handle.result())
