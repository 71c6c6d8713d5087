"""Children that outlive their workflow, executions that it starts and lets go, and how many children there may be."""

from __future__ import annotations

import asyncio

import pytest

from durable import ChildLimitExceeded, ConfigurationError, Durable, Status, StorageUnavailable, WorkflowContext
from durable.testing import VirtualStorage, app_under_test
from durable.workflow import commands, context
from tests.jobs.crew import Failing, crew


async def test_children_end_with_their_workflow_unless_they_are_abandoned(
    app: Durable, storage: VirtualStorage
) -> None:
    @app.workflow
    async def inner(ctx: WorkflowContext, name: str) -> str:
        await ctx.sleep("1h")
        return name

    @app.workflow
    async def outer(ctx: WorkflowContext) -> None:
        ends, stays = inner.child("ends"), inner.child("stays", on_parent_close="abandon")
        children = asyncio.ensure_future(ctx.gather(ctx.child(ends), ctx.child(stays)))
        await ctx.sleep("1m")
        assert not children.done()

    async with app_under_test(app, storage=storage) as kit:
        handle = await outer.enqueue()
        await kit.clock.advance("1m")
        await handle.result(timeout=0)
        ends, stays = await handle.children()
        assert (ends.status, stays.status) == (Status.CANCELLED, Status.READY)
        assert (await handle.execution()).close_status == "closing"
        await kit.clock.advance("1h")
        assert await inner.handle(stays.execution_id).result(timeout=0) == "stays"
        assert (await handle.execution()).close_status == "closed"
        assert await kit.app.storage.defects(limit=10) == []


async def test_an_abandoned_child_is_awaited_as_others_are(app: Durable, storage: VirtualStorage) -> None:
    @app.task
    async def double(n: int) -> int:
        return 2 * n

    @app.workflow
    async def outer(ctx: WorkflowContext) -> int:
        return await ctx.child(double.child(21, on_parent_close="abandon"))

    async with app_under_test(app, storage=storage) as kit:
        handle = await outer.enqueue()
        await kit.drain()
        assert await handle.result(timeout=0) == 42


@pytest.mark.parametrize("way", ["task group", "create_task", "gather", "ensure_future"])
async def test_a_child_is_given_to_asyncio_as_a_coroutine_is(app: Durable, storage: VirtualStorage, way: str) -> None:
    @app.task
    async def double(n: int) -> int:
        return 2 * n

    @app.workflow
    async def outer(ctx: WorkflowContext) -> list[int]:
        calls = [ctx.child(double, number) for number in range(3)]
        match way:
            case "task group":
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(call) for call in calls]
                return [task.result() for task in tasks]
            case "create_task":
                return [await task for task in [asyncio.create_task(call) for call in calls]]
            case "gather":
                return await asyncio.gather(*calls)
            case _:
                return [await task for task in [asyncio.ensure_future(call) for call in calls]]

    async with app_under_test(app, storage=storage) as kit:
        handle = await outer.enqueue()
        await kit.drain()
        assert await handle.result(timeout=0) == [0, 2, 4]


async def test_a_task_of_a_child_that_is_cancelled_cancels_it(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def inner(ctx: WorkflowContext) -> None:
        await ctx.sleep("1h")

    @app.workflow
    async def outer(ctx: WorkflowContext) -> str:
        never_started, started = (asyncio.create_task(ctx.child(inner)) for _ in range(2))
        never_started.cancel()
        await ctx.sleep("1m")
        started.cancel()
        await ctx.sleep("1m")
        return f"{never_started.cancelled()} {started.cancelled()}"

    async with app_under_test(app, storage=storage) as kit:
        handle = await outer.enqueue()
        await kit.clock.advance("2m")
        assert await handle.result(timeout=0) == "True True"
        assert [child.status for child in await handle.children()] == [Status.CANCELLED]


async def test_the_policy_is_checked_and_belongs_to_children(app: Durable) -> None:
    @app.task
    async def work() -> None: ...

    with pytest.raises(ConfigurationError, match="on_parent_close must be 'cancel' or 'abandon'"):
        work.child(on_parent_close="forget")  # type: ignore[call-overload]  # pyright: ignore
    with pytest.raises(ConfigurationError, match="unknown option 'on_parent_close'"):
        await work.enqueue(on_parent_close="abandon")  # type: ignore[call-overload]  # pyright: ignore


async def test_what_is_started_goes_its_own_way(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def inner(ctx: WorkflowContext, name: str) -> str:
        await ctx.sleep("1h")
        return name

    @app.workflow
    async def outer(ctx: WorkflowContext) -> list[str]:
        return [await ctx.start(inner, "one"), await ctx.start(inner.child("two", delay="1m"))]

    async with app_under_test(app, storage=storage) as kit:
        handle = await outer.enqueue()
        await kit.drain()
        ids = await handle.result(timeout=0)
        record = await handle.execution()
        assert (record.children_count, record.close_status) == (0, "closed")
        await kit.clock.advance("2h")
        for id_, name in zip(ids, ("one", "two"), strict=True):
            started = await inner.handle(id_).execution()
            assert (started.root_id, started.parent_id, started.depth) == (id_, None, 0)
            assert await inner.handle(id_).result(timeout=0) == name


@pytest.mark.parametrize("is_done", [True, False])
async def test_what_is_started_is_started_once_whatever_fails(
    app: Durable, storage: VirtualStorage, *, is_done: bool
) -> None:
    ran: list[str] = []

    @app.task
    async def work(execution_id: str) -> None:
        ran.append(execution_id)

    @app.workflow
    async def outer(ctx: WorkflowContext) -> str:
        id_ = await ctx.start(work, ctx.execution_id)
        await ctx.sleep("1h")
        return id_

    async with crew(storage, app) as (kit,):
        failing = Failing(kit.app.storage, "checkpoint", StorageUnavailable("gone"), times=2, is_done=is_done)
        handle = await outer.enqueue()
        await kit.drain()
        assert failing.failed.is_set()
    async with crew(storage, app) as (kit,):
        await kit.clock.advance("2h")
        id_ = await outer.handle(handle.execution_id).result(timeout=0)
        assert await work.handle(id_).status() is Status.COMPLETED
    assert ran == [handle.execution_id]


async def test_a_workflow_has_so_many_open_children_and_no_more(
    app: Durable, storage: VirtualStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "MOST_CHILDREN", 5)

    @app.task
    async def double(n: int) -> int:
        return 2 * n

    @app.workflow
    async def outer(ctx: WorkflowContext) -> str:
        for _ in range(3):
            await ctx.gather(*(ctx.child(double, n) for n in range(5)))
        await ctx.gather(ctx.map(double, range(3)), ctx.child(double, 1))
        try:
            await ctx.gather(*(ctx.child(double, n) for n in range(6)))
        except ChildLimitExceeded as error:
            return str(error)
        return ""

    async with app_under_test(app, storage=storage) as kit:
        handle = await outer.enqueue()
        await kit.drain()
        expected = "the workflow has 5 open children and wants 1 more; the limit is 5"
        assert await handle.result(timeout=0) == expected


async def test_a_tree_has_so_many_levels_and_no_more(
    app: Durable, storage: VirtualStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "DEEPEST_TREE", 4)

    @app.workflow
    async def nested(ctx: WorkflowContext, level: int) -> int:
        try:
            return await ctx.child(nested, level + 1)
        except ChildLimitExceeded as error:
            return level if error.limit == 4 else -1

    async with app_under_test(app, storage=storage) as kit:
        handle = await nested.enqueue(0)
        await kit.drain()
        assert await handle.result(timeout=0) == 4
