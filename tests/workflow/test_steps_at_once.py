"""Steps begin within the turn that finds them: what stops them is heard first, and nothing of a workflow is left."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from durable import Durable, Status, StepFailed, WorkflowContext
from durable.clock import SystemClock
from durable.testing import VirtualStorage, app_under_test, crash_everywhere
from durable.workflow.replay import Replay
from tests.jobs.crew import Door, reached, turned


class Ahead(SystemClock):
    """Of a process that stood still, as on a suspended machine."""

    seconds = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.seconds


async def test_one_that_cancels_its_own_task_has_failed(app: Durable, storage: VirtualStorage) -> None:
    async def cancel(*, first: bool) -> None:
        if not first:
            await turned()
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await turned()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[str]:
        errors: list[str] = []
        for first in (True, False):
            with pytest.raises(StepFailed) as failed:
                await ctx.step(cancel, first=first)
            errors.append(failed.value.error.type)
        return errors

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.result(timeout=0) == ["CancelledError", "CancelledError"]


async def test_a_request_to_stop_that_is_there_is_heard_before_any_step_begins(
    app: Durable, storage: VirtualStorage
) -> None:
    ran: list[str] = []

    async def note(what: str) -> None:
        ran.append(what)

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        ctx.on_rollback(note, "undone")
        await asyncio.gather(ctx.step(note, "one"), ctx.step(note, "two"))

    async with app_under_test(app, storage=storage, queues=["elsewhere"]):
        handle = await flow.enqueue()
        # As one that was released in the middle of its first turn, and asked to end then.
        claimed = await app.storage.claim(
            executor_id="gone", queues=["default"], task_names=[flow.name], limit=1, lease=60.0
        )
        assert [each.id for each in claimed] == [handle.execution_id]
        await handle.cancel()
    async with app_under_test(app, storage=storage) as kit:
        await kit.clock.advance("2m")
        assert (await flow.handle(handle.execution_id).status(), ran) == (Status.CANCELLED, ["undone"])


async def test_none_begins_when_the_lease_is_over_by_the_local_clock(storage: VirtualStorage) -> None:
    """The process stood still for longer than its lease: what it would do next may be another's by now."""
    watch = Ahead()
    app = Durable("memory:", clock=watch)
    ran: list[str] = []

    async def first() -> None:
        ran.append("first")
        if ran == ["first"]:
            watch.seconds = 3600.0

    async def second() -> None:
        ran.append("second")

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.step(first)
        await ctx.step(second)

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert ran == ["first"]
        await kit.clock.advance("2d")
        assert (await handle.status(), ran) == (Status.COMPLETED, ["first", "second"])


async def test_a_workflow_that_has_ended_leaves_nothing_for_the_collector_of_garbage(
    app: Durable, storage: VirtualStorage
) -> None:
    async def work(number: int) -> int:
        await turned()
        return number

    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        return sum([await ctx.step(work, 1), *await asyncio.gather(ctx.step(work, 2), ctx.step(work, 3))])

    gc.collect()
    before = sum(isinstance(each, Replay) for each in gc.get_objects())
    gc.disable()
    try:
        async with app_under_test(app, storage=storage) as kit:
            handles = [await flow.enqueue() for _ in range(5)]
            await kit.drain()
            assert [await handle.result(timeout=0) for handle in handles] == [6] * 5
            left = sum(isinstance(each, Replay) for each in gc.get_objects()) - before
    finally:
        gc.enable()
    assert left == 0


async def test_no_transaction_goes_on_that_began_too_late(
    durable_postgres: VirtualStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process stood still between the start of a step and the beginning of its transaction."""
    watch = Ahead()
    app = Durable("memory:", clock=watch)
    ran: list[float] = []

    async def book(connection: Any) -> None:
        ran.append(watch.seconds)

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.transaction(book)

    async with app_under_test(app, storage=durable_postgres) as kit:
        transaction = kit.app.storage.transaction

        @asynccontextmanager
        async def late(*args: Any) -> AsyncGenerator[Any]:
            async with transaction(*args) as connection:
                watch.seconds = watch.seconds or 3600.0
                yield connection

        monkeypatch.setattr(kit.app.storage, "transaction", late)
        handle = await flow.enqueue()
        await kit.drain()
        assert ran == []
        monkeypatch.undo()
        await kit.clock.advance("2d")
        assert (await handle.status(), len(ran)) == (Status.COMPLETED, 1)


@pytest.mark.parametrize("how", ["timeout", "wait_first", "cancel"])
async def test_none_begins_before_one_that_was_stopped_has_cleaned_up(
    app: Durable, storage: VirtualStorage, how: str
) -> None:
    log: list[str] = []
    door = Door()

    async def use() -> None:
        try:
            await door.hold()
        finally:
            log.append("cleaned up")

    async def used() -> None:
        await door.entered.wait()

    async def release() -> None:
        log.append("released")

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        try:
            if how == "timeout":
                async with ctx.timeout("10ms"):
                    await ctx.step(use)
            elif how == "wait_first":
                await ctx.wait_first(ctx.step(use), ctx.step(used))
            else:
                await ctx.step(use)
        except TimeoutError:
            pass
        finally:
            await ctx.step(release)

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        if how == "cancel":
            kit.executor.wake()
            await reached(door)
            await handle.cancel()
        await kit.drain()
        assert log == ["cleaned up", "released"]


async def test_a_request_to_stop_is_heard_before_the_step_after_the_one_in_which_it_came(
    app: Durable, storage: VirtualStorage
) -> None:
    ran: list[str] = []

    async def note(what: str) -> None:
        ran.append(what)

    async def stop(execution_id: str) -> None:
        await flow.handle(execution_id).cancel()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        ctx.on_rollback(note, "undone")
        await ctx.step(stop, ctx.execution_id)
        await ctx.step(note, "too late")

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert (await handle.status(), ran) == (Status.CANCELLED, ["undone"])


async def test_what_a_step_gives_that_was_let_go_of_is_not_stored(app: Durable) -> None:
    """Else a crash at that moment would leave another history."""

    def reserve() -> int:
        return 1

    async def charge() -> None:
        raise ValueError("declined")

    async def release() -> None:
        return None

    @app.workflow
    async def saga(ctx: WorkflowContext) -> None:
        ctx.on_rollback(release)
        await ctx.gather(ctx.step(reserve), ctx.step(charge))

    report = await crash_everywhere(saga)
    assert report.crash_count > 1


async def test_a_sync_step_that_raises_what_no_future_can_carry_has_failed(
    app: Durable, storage: VirtualStorage
) -> None:
    def leave() -> None:
        raise GeneratorExit

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        with pytest.raises(StepFailed) as failed:
            await ctx.step(leave)
        return str(failed.value)

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert "raised GeneratorExit" in await handle.result(timeout=0)
