"""A workflow continues as new from wherever its body may say so, and is told where it may not."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from durable import ApprovalClosed, Durable, Handle, Status, UpdateFailed, WorkflowContext
from durable.testing import VirtualStorage, app_under_test
from tests.flow.place import PATIENCE, Place, running


async def _error_of(handle: Handle[Any]) -> str:
    """The message of the stored error."""
    stored = json.loads((await handle.execution()).error or "{}")
    return str(stored["message"])


@pytest.mark.parametrize("way", ["TaskGroup", "nested", "gather", "task"])
async def test_a_task_of_the_body_may_continue_as_new(app: Durable, storage: VirtualStorage, way: str) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext, n: int) -> int:
        async def go_on() -> None:
            await ctx.sleep("1m")
            ctx.continue_as_new(n + 1)

        async def wait() -> None:
            await ctx.wait_signal("never", int)

        if n == 3:
            return n
        match way:
            case "TaskGroup":
                async with asyncio.TaskGroup() as group:
                    group.create_task(wait())
                    group.create_task(go_on())
            case "nested":
                async with asyncio.TaskGroup(), asyncio.TaskGroup() as group:
                    group.create_task(go_on())
            case "gather":
                await ctx.gather(wait(), go_on())
            case _:
                await asyncio.create_task(go_on())
        return -1

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue(1)
        await kit.clock.advance("2m")
        assert await handle.result(timeout=0) == 3


async def test_a_failure_beside_it_wins_and_is_shown(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        async def go_on() -> None:
            ctx.continue_as_new()

        async def fail() -> None:
            raise ValueError("no")

        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(go_on())

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.status() is Status.FAILED
        assert "ValueError: no" in await _error_of(handle)


async def test_an_update_may_not(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        await ctx.wait_signal("go", bool)
        return "done"

    @flow.update
    async def again(ctx: WorkflowContext, is_deep: bool) -> None:
        async def go_on() -> None:
            ctx.continue_as_new()

        await (asyncio.create_task(go_on()) if is_deep else go_on())

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        for is_deep in (False, True):
            with pytest.raises(UpdateFailed, match="cannot continue as new: let the body do it"):
                await handle.update(again, is_deep)
        await handle.signal("go", True)
        await kit.drain()
        assert await handle.result(timeout=0) == "done"


async def test_what_finalizes_may_not(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        """Ends at once."""

    @flow.finalize
    async def tidy(ctx: WorkflowContext) -> None:
        ctx.continue_as_new()

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert "the body has ended" in await _error_of(handle)


async def test_a_group_s_error_shows_what_is_inside(app: Durable, storage: VirtualStorage) -> None:
    @app.task
    async def work() -> None:
        parts = [ValueError(f"no {n}") for n in range(7)]
        raise ExceptionGroup("some failed", [ExceptionGroup("inner", [KeyError("k")]), *parts])

    async with app_under_test(app, storage=storage) as kit:
        handle = await work.enqueue()
        await kit.drain()
        assert await _error_of(handle) == (
            "some failed (8 sub-exceptions): ExceptionGroup: inner (1 sub-exception): KeyError: 'k'; ValueError: no 0; "
            "ValueError: no 1; ValueError: no 2; ValueError: no 3; and 3 more"
        )


async def test_the_timeout_of_a_workflow_counts_from_its_first_run(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow(timeout="10m")
    async def flow(ctx: WorkflowContext, n: int) -> None:
        await ctx.sleep("3m")
        ctx.continue_as_new(n + 1)

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue(1, delay="1h")
        await kit.clock.advance("1h")
        began = kit.clock.now()
        await kit.clock.advance("1h")
        record = await handle.execution()
        assert (record.status, record.iteration) == (Status.TIMED_OUT, 3)
        assert record.finished_at == began + timedelta(minutes=10)


async def test_an_approval_that_a_run_left_open_is_withdrawn(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext, n: int) -> str:
        approval = await ctx.approval("refund")
        if n == 1:
            ctx.continue_as_new(2)
        return (await approval.decision()).outcome

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue(1)
        await kit.drain()
        (withdrawn,) = await app.approvals.list(status="withdrawn")
        with pytest.raises(ApprovalClosed, match="withdrawn"):
            await app.approvals.grant(withdrawn, by="alice")
        (pending,) = await app.approvals.list(status="pending")
        await app.approvals.grant(pending, by="alice")
        await kit.drain()
        assert await handle.result(timeout=0) == "granted"


async def test_what_a_run_has_continued_with_outlives_its_end(place: Place) -> None:
    """Also where nothing is written with the end, and nobody is told of it."""
    app = place.app()

    async def mark() -> None: ...

    @app.workflow
    async def flow(ctx: WorkflowContext, n: int) -> list[int]:
        if n < 3:
            ctx.continue_as_new(n + 1)
        await ctx.step(mark)
        return [n, ctx.iteration]

    async with running(app):
        handle = await flow.enqueue(0)
        assert await handle.result(PATIENCE) == [3, 3]
        forked = await handle.fork("mark")
        assert await forked.result(PATIENCE) == [3, 3]
        assert (await handle.execution()).run_output == (await forked.execution()).run_output is not None
