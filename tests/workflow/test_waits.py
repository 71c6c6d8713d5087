"""Workflows wait: for time, for signals and for children, without a slot and across restarts."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from durable import ChildFailed, Durable, Retry, SendOutcome, Status, WorkflowContext, constant
from durable.testing import VirtualStorage, app_under_test
from tests.jobs.crew import client_only, crew

HOUR = timedelta(hours=1)


async def test_wf_01_a_sleep_goes_on_over_a_restart_of_the_executor(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def sleeper(ctx: WorkflowContext) -> str:
        began = ctx.now()
        await ctx.sleep("1h")
        return str(ctx.now() - began)

    began = storage.now()
    async with crew(storage, app) as (kit,):
        handle = await sleeper.enqueue()
        await kit.clock.advance("30m")
        assert await handle.status() is Status.READY
    async with crew(storage, app) as (kit,):
        await kit.clock.advance("29m")
        assert await sleeper.handle(handle.execution_id).status() is Status.READY
        await kit.clock.advance("1m")
        assert await sleeper.handle(handle.execution_id).result(timeout=0) == "1:00:00"
        assert storage.now() == began + HOUR


async def test_wf_02_two_sleeps_at_once_last_as_long_as_the_longer(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def sleeper(ctx: WorkflowContext) -> None:
        await ctx.gather(ctx.sleep("5s"), ctx.sleep("10s"))

    async with app_under_test(app, storage=storage) as kit:
        handle = await sleeper.enqueue()
        await kit.clock.advance("9.9s")
        assert not (await handle.execution()).is_finished
        await kit.clock.advance("100ms")
        assert await handle.status() is Status.COMPLETED


async def test_a_signal_is_kept_until_it_is_waited_for_and_given_once(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def collector(ctx: WorkflowContext) -> list[int]:
        await ctx.sleep("1m")
        first = await ctx.wait_signal("n", int)
        await ctx.sleep("1m")
        return [first, await ctx.wait_signal("n", int), await ctx.wait_signal("n", int)]

    async with app_under_test(app, storage=storage) as kit:
        handle = await collector.enqueue()
        assert await handle.signal("n", 1, signal_id="one") is SendOutcome.ACCEPTED
        assert await handle.signal("n", 1, signal_id="one") is SendOutcome.DUPLICATE
        await kit.drain()
        assert await handle.signal("n", 2) is SendOutcome.ACCEPTED
        await kit.clock.advance("2m")
        assert await handle.status() is Status.WAITING
        await handle.signal("n", 3)
        await kit.drain()
        assert await handle.result(timeout=0) == [1, 2, 3]
        assert await handle.signal("n", 4) is SendOutcome.FINISHED


async def test_a_wait_ends_with_its_timeout(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def patient(ctx: WorkflowContext) -> str:
        try:
            return await ctx.wait_signal("go", str, timeout="1d")
        except TimeoutError:
            return "gave up"

    async with app_under_test(app, storage=storage) as kit:
        late, early = await patient.enqueue(), await patient.enqueue()
        await kit.drain()
        await early.signal("go", "went")
        await kit.clock.advance("1d")
        assert (await late.result(timeout=0), await early.result(timeout=0)) == ("gave up", "went")


async def test_children_run_beside_each_other_and_give_their_results(app: Durable, storage: VirtualStorage) -> None:
    @app.task
    def double(n: int) -> int:
        return 2 * n

    @app.task
    async def fails() -> None:
        raise ValueError("no")

    @app.workflow
    async def inner(ctx: WorkflowContext, n: int) -> int:
        await ctx.sleep("1h")
        return n + 1

    @app.workflow
    async def outer(ctx: WorkflowContext) -> list[int]:
        one, two = await ctx.gather(ctx.child(double, 1), ctx.child(inner, 1))
        try:
            await ctx.child(fails)
        except ChildFailed as failed:
            return [one, two, await ctx.step(double, 7 if failed.status == "failed" else 0)]
        return []

    async with app_under_test(app, storage=storage) as kit:
        handle = await outer.enqueue()
        await kit.drain()
        assert await handle.status() is Status.WAITING
        await kit.clock.advance("1h")
        assert await handle.result(timeout=0) == [2, 2, 14]
        assert await kit.app.storage.defects(limit=10) == []


async def test_hundreds_of_children_wake_their_parent_once(app: Durable, storage: VirtualStorage) -> None:
    turns: list[int] = []

    @app.task
    async def square(n: int) -> int:
        return n * n

    @app.workflow
    async def fan(ctx: WorkflowContext) -> int:
        return sum(await ctx.gather(*(ctx.child(square, n) for n in range(300))))

    async with app_under_test(app, storage=storage) as kit:
        handle = await fan.enqueue()
        await kit.drain()
        assert await handle.result(timeout=0) == sum(n * n for n in range(300))
        record = await handle.execution()
        # Two turns: one claim each, one end each.
        assert (record.fence, record.children_count, turns) == (4, 300, [])


async def test_a_step_that_failed_is_tried_again_after_a_restart_and_others_are_not(
    app: Durable, storage: VirtualStorage
) -> None:
    ran: list[str] = []

    async def good() -> str:
        ran.append("good")
        return "good"

    @app.task(retry=Retry(3, constant("10m"), jitter=0))
    async def shaky() -> str:
        ran.append("shaky")
        if len(ran) < 4:
            raise ConnectionError("not yet")
        return "done"

    @app.workflow
    async def flow(ctx: WorkflowContext) -> tuple[str, str]:
        return await ctx.gather(ctx.step(good), ctx.step(shaky))

    async with crew(storage, app) as (kit,):
        handle = await flow.enqueue()
        await kit.drain()
        assert sorted(ran) == ["good", "shaky"]
        # It holds no slot while it waits.
        assert kit.executor.running == 0
    async with crew(storage, app) as (kit,):
        await kit.clock.advance("10m")
        assert ran[2:] == ["shaky"]
        await kit.clock.advance("10m")
        assert ran[3:] == ["shaky"]
        assert await flow.handle(handle.execution_id).result(timeout=0) == ("good", "done")


async def test_cancel_runs_what_undoes_and_the_rest_of_the_body(app: Durable, storage: VirtualStorage) -> None:
    done: list[str] = []

    async def note(what: str) -> None:
        done.append(what)

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.step(note, "book")
        ctx.on_rollback(note, "unbook")
        await ctx.step(note, "pay")
        ctx.on_rollback(note, "refund")
        try:
            await ctx.sleep("30d")
        finally:
            await ctx.step(note, "tidy")

    @flow.finalize
    async def last(ctx: WorkflowContext) -> None:
        await ctx.step(note, "last")

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        result = await handle.cancel(reason="changed my mind")
        assert result.outcome == "requested"
        await kit.drain()
        assert await handle.status() is Status.CANCELLED
        assert done == ["book", "pay", "tidy", "refund", "unbook", "last"]


async def test_a_workflow_that_never_ran_is_cancelled_at_once_and_finalizes_nothing(
    app: Durable, storage: VirtualStorage
) -> None:
    ran: list[str] = []

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.sleep("1h")

    @flow.finalize
    async def tidy(ctx: WorkflowContext) -> None:
        ran.append("tidied")

    async with client_only(storage, app):
        handle = await flow.enqueue()
        assert (await handle.cancel()).outcome == "cancelled"
        assert await handle.status() is Status.CANCELLED
    async with crew(storage, app) as (kit,):
        await kit.clock.advance("1h")
        assert await flow.handle(handle.execution_id).status() is Status.CANCELLED
    assert ran == []


async def test_the_timeout_of_a_workflow_counts_its_waits(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow(timeout="1h")
    async def flow(ctx: WorkflowContext) -> None:
        while True:
            await ctx.sleep("7m")

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("59m")
        assert not (await handle.execution()).is_finished
        await kit.clock.advance("1m")
        assert await handle.status() is Status.TIMED_OUT


async def test_it_continues_as_new_with_its_signals_and_without_its_history(
    app: Durable, storage: VirtualStorage
) -> None:
    @app.workflow
    async def counter(ctx: WorkflowContext, total: int) -> int:
        value = await ctx.wait_signal("add", int)
        if value != 0:
            ctx.continue_as_new(total + value)
        return total

    async with app_under_test(app, storage=storage) as kit:
        handle = await counter.enqueue(0)
        for n in (1, 2, 3, 0):
            await handle.signal("add", n)
        await kit.drain()
        assert await handle.result(timeout=0) == 6
        assert (await handle.execution()).iteration == 3


async def test_a_transaction_step_hears_of_a_signal_meanwhile(app: Durable, storage: VirtualStorage) -> None:
    """A running workflow reads what came while it ran a step."""
    entered, go = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        entered.set()
        await go.wait()
        return "slow"

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        return await ctx.wait_first(ctx.step(slow), ctx.wait_signal("go", str))

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        kit.executor.wake()
        async with asyncio.timeout(10):
            await entered.wait()
        await handle.signal("go", "signal")
        await kit.drain()
        assert await handle.result(timeout=0) == "signal"
