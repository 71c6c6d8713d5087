"""Timers that changed code adds to workflows under way, and those of forks: they begin when they come to be."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from durable import Durable, Workflow, WorkflowContext
from durable.execution import Status
from durable.testing import VirtualStorage, app_under_test

Declare = Callable[[Durable], Workflow[[], str]]


def _later() -> Durable:
    return Durable("postgresql://nobody@nowhere.invalid/nothing")


def _sleeps(app: Durable) -> Workflow[[], str]:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        await ctx.step(abs, 1)
        await ctx.sleep("1h")
        return f"slept, {await ctx.wait_signal('go', str)}"

    return flow


def _waits(app: Durable) -> Workflow[[], str]:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        await ctx.step(abs, 1)
        try:
            await ctx.wait_signal("other", str, timeout="1h")
        except TimeoutError:
            return f"waited, {await ctx.wait_signal('go', str)}"
        return "heard"

    return flow


def _limits(app: Durable) -> Workflow[[], str]:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        await ctx.step(abs, 1)
        try:
            async with ctx.timeout("1h"):
                await ctx.wait_signal("other", str)
        except TimeoutError:
            return f"limited, {await ctx.wait_signal('go', str)}"
        return "heard"

    return flow


@pytest.mark.parametrize(
    ("declare", "result"), [(_sleeps, "slept, now"), (_waits, "waited, now"), (_limits, "limited, now")]
)
async def test_a_timer_that_new_code_adds_begins_when_that_code_comes_to_it(
    app: Durable, storage: VirtualStorage, declare: Declare, result: str
) -> None:
    @app.workflow(name="flow")
    async def old(ctx: WorkflowContext) -> str:
        await ctx.step(abs, 1)
        return await ctx.wait_signal("go", str)

    async with app_under_test(app, storage=storage) as kit:
        id_ = (await old.enqueue()).execution_id
        await kit.clock.advance("30d")
    later = _later()
    handle = declare(later).handle(id_)
    async with app_under_test(later, storage=storage) as kit:
        await handle.signal("go", "now")
        await kit.clock.advance("59m")
        assert await handle.status() in (Status.WAITING, Status.READY)
    again = _later()
    handle = declare(again).handle(id_)
    async with app_under_test(again, storage=storage) as kit:
        await kit.clock.advance("2m")
        assert await handle.result(timeout=0) == result


async def test_a_timer_of_the_same_code_counts_from_the_entry_before_it_also_after_a_crash(
    app: Durable, storage: VirtualStorage
) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> bool:
        await ctx.wait_signal("go", str)
        at = ctx.now()
        await ctx.sleep("1h")
        return ctx.now() - at == timedelta(hours=1)

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("3h")
        await handle.signal("go", "now")
        await kit.clock.advance("1h")
        assert await handle.result(timeout=0) is True


# --- forks -----------------------------------------------------------------------------------------------


async def test_a_fork_sleeps_again_what_it_is_forked_from(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        await ctx.step(abs, 1)
        await ctx.sleep("50m")
        return "slept"

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("3h")
        forked = await handle.fork("sleep#1")
        await kit.clock.advance("49m")
        assert await forked.status() is Status.READY
        await kit.clock.advance("1m")
        assert await forked.result(timeout=0) == "slept"


async def test_a_fork_has_the_time_of_a_limit_that_had_begun_before_its_step(
    app: Durable, storage: VirtualStorage
) -> None:
    is_broken = True

    async def charge() -> str:
        if is_broken:
            raise OSError("down")
        return "charged"

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        async with ctx.timeout("30s"):
            charged = await ctx.step(charge)
            return f"{charged}, {await ctx.wait_signal('go', str)}"

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("1h")
        with pytest.raises(Exception, match="down"):
            await handle.result(timeout=0)
        is_broken = False
        forked, late = await handle.fork("charge#1"), await handle.fork("charge#1")
        await kit.clock.advance("29s")
        await forked.signal("go", "now")
        await kit.drain()
        assert await forked.result(timeout=0) == "charged, now"
        assert await late.status() is Status.READY
        await kit.clock.advance("1s")
        assert await late.status() is Status.FAILED


async def test_a_fork_at_its_signal_has_the_timeout_of_the_wait_again(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        await ctx.step(abs, 1)
        try:
            return await ctx.wait_signal("go", str, timeout="1h")
        except TimeoutError:
            return "timed out"

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("3h")
        assert await handle.result(timeout=0) == "timed out"
        told, untold = await handle.fork("signal:go#1"), await handle.fork("signal:go#1")
        await kit.clock.advance("59m")
        await told.signal("go", "now")
        await kit.drain()
        assert await told.result(timeout=0) == "now"
        assert await untold.status() is Status.READY
        await kit.clock.advance("1m")
        assert await untold.result(timeout=0) == "timed out"


async def test_a_timer_that_ran_at_the_point_has_what_was_left_of_it_there_and_a_moment_stays(
    app: Durable, storage: VirtualStorage
) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[str]:
        over: list[str] = []

        async def length() -> None:
            await ctx.with_options(name="length").sleep("10h")
            over.append("length")

        async def moment() -> None:
            await ctx.with_options(name="moment").sleep_until(began + timedelta(hours=25, minutes=30))
            over.append("moment")

        async def steps() -> None:
            await ctx.with_options(name="first").sleep("9h")
            await ctx.step(abs, 1)
            over.append("step")

        began = ctx.now()
        await ctx.gather(length(), moment(), steps())
        return over

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("1d")
        forked = await handle.fork("abs#1")
        await kit.clock.advance("59m")
        # A fork of a fork, whose history is older than itself, counts from there.
        again, other = await forked.fork(), await forked.fork("abs#1")
        await kit.clock.advance("1h")
        for each in (handle, forked, again):
            assert await each.result(timeout=0) == ["step", "length", "moment"]
        assert await other.result(timeout=0) == ["step", "moment", "length"]


async def test_a_fork_of_one_that_waits_waits_for_the_same_moment(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        await ctx.sleep("10h")
        return "slept"

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("4h")
        forked = await handle.fork()
        await kit.clock.advance("6h")
        assert await forked.result(timeout=0) == "slept"
        assert await handle.result(timeout=0) == "slept"
