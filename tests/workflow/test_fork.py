"""A workflow is run again: from a step of its history on, from where it failed, or from the beginning."""

from __future__ import annotations

import asyncio

import pytest

from durable import ConfigurationError, Durable, ExecutionFailed, ExecutionNotFound, Status, WorkflowContext
from durable.testing import VirtualStorage, app_under_test


async def test_a_fork_does_again_what_comes_from_its_step_on(app: Durable, storage: VirtualStorage) -> None:
    ran: list[str] = []

    async def note(name: str) -> str:
        ran.append(name)
        return name

    @app.workflow
    async def flow(ctx: WorkflowContext, name: str) -> list[str]:
        return [await ctx.step(note, f"{name} {n}") for n in range(4)]

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue("a")
        await kit.drain()
        ran.clear()
        forked = await handle.fork(from_step="note#3")
        await kit.drain()
        assert await forked.result(timeout=0) == ["a 0", "a 1", "a 2", "a 3"]
        assert ran == ["a 2", "a 3"]
        again = await forked.fork("note")
        await kit.drain()
        assert await again.result(timeout=0) == ["a 0", "a 1", "a 2", "a 3"]
        assert ran[2:] == ["a 0", "a 1", "a 2", "a 3"]
        assert len({handle.execution_id, forked.execution_id, again.execution_id}) == 3


async def test_a_fork_of_what_failed_goes_on_where_it_failed(app: Durable, storage: VirtualStorage) -> None:
    ran: list[str] = []
    is_broken = True

    async def charge() -> str:
        ran.append("charge")
        return "charged"

    async def refund() -> None:
        ran.append("refund")

    async def ship() -> str:
        ran.append("ship")
        if is_broken:
            raise OSError("no lorry")
        return "shipped"

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[str]:
        charged = await ctx.step(charge)
        ctx.on_rollback(refund)
        return [charged, await ctx.step(ship)]

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        with pytest.raises(ExecutionFailed):
            await handle.result(timeout=0)
        assert ran == ["charge", "ship", "refund"]
        is_broken = False
        forked = await handle.fork()
        await kit.drain()
        assert await forked.result(timeout=0) == ["charged", "shipped"]
        assert ran[3:] == ["ship"]


async def test_children_of_a_fork_have_their_ends_or_start_anew(app: Durable, storage: VirtualStorage) -> None:
    ran: list[int] = []

    @app.workflow
    async def inner(ctx: WorkflowContext, hours: int) -> int:
        await ctx.step(ran.append, hours)
        await ctx.sleep(hours * 3600)
        return hours

    async def look() -> str:
        return "looked"

    @app.workflow
    async def outer(ctx: WorkflowContext) -> list[object]:
        waiting = asyncio.ensure_future(ctx.gather(ctx.child(inner, 10)))
        one = await ctx.child(inner, 1)
        mapped = await ctx.map(inner, [1, 2], concurrency=1)
        return [one, mapped, await ctx.step(look), *await waiting]

    async with app_under_test(app, storage=storage) as kit:
        handle = await outer.enqueue()
        await kit.clock.advance("1d")
        assert await handle.result(timeout=0) == [1, [1, 2], "looked", 10]
        ran.clear()
        forked = await handle.fork("look#1")
        await kit.drain()
        # The one of ten hours had not ended when the workflow came to the step.
        assert [child.status for child in await forked.children()] == [Status.READY]
        assert (await forked.execution()).children_count == 1
        await kit.clock.advance("10h")
        assert await forked.result(timeout=0) == [1, [1, 2], "looked", 10]
        assert ran == [10]


async def test_a_fork_within_a_map_maps_anew(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def inner(ctx: WorkflowContext, n: int) -> int:
        await ctx.sleep("1h")
        return 2 * n

    @app.workflow
    async def outer(ctx: WorkflowContext) -> list[int]:
        return await ctx.map(inner, iter(range(6)), concurrency=2)

    async with app_under_test(app, storage=storage) as kit:
        handle = await outer.enqueue()
        await kit.clock.advance("1h")
        forked = await handle.fork()
        await kit.clock.advance("1d")
        assert await forked.result(timeout=0) == [0, 2, 4, 6, 8, 10]
        assert (await forked.execution()).children_count == 6
        assert await handle.result(timeout=0) == [0, 2, 4, 6, 8, 10]


async def test_a_fork_has_the_signals_that_were_met_and_its_own(app: Durable, storage: VirtualStorage) -> None:
    async def mark() -> None: ...

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[int]:
        first = await ctx.wait_signal("n", int)
        await ctx.step(mark)
        return [first, await ctx.wait_signal("n", int)]

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        for n in (1, 2):
            await handle.signal("n", n)
        await kit.drain()
        assert await handle.result(timeout=0) == [1, 2]
        forked = await handle.fork("mark")
        await kit.drain()
        assert await forked.status() is Status.WAITING
        await forked.signal("n", 20)
        await kit.drain()
        assert await forked.result(timeout=0) == [1, 20]
        again = await forked.fork()
        await kit.drain()
        assert await again.result(timeout=0) == [1, 20]


async def test_a_fork_draws_the_random_numbers_of_its_history(app: Durable, storage: VirtualStorage) -> None:
    sent: list[str] = []

    async def send(key: str) -> None:
        sent.append(key)

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        key = str(ctx.uuid())
        await ctx.step(send, key)
        return key

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        forked = await handle.fork("send")
        other = await handle.restart()
        await kit.drain()
        assert await forked.result(timeout=0) == await handle.result(timeout=0)
        assert await other.result(timeout=0) != await handle.result(timeout=0)
        assert len(set(sent)) == 2


async def test_a_fork_of_one_that_continued_has_its_input_and_its_time(app: Durable, storage: VirtualStorage) -> None:
    async def mark() -> None: ...

    @app.workflow(timeout="1h")
    async def flow(ctx: WorkflowContext, n: int) -> list[int]:
        if n < 3:
            ctx.continue_as_new(n + 1)
        await ctx.step(mark)
        await ctx.sleep("50m")
        return [n, ctx.iteration]

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue(0)
        await kit.clock.advance("55m")
        assert await handle.result(timeout=0) == [3, 3]
        await kit.clock.advance("1d")
        forked = await handle.fork("mark")
        again = await handle.restart()
        await kit.clock.advance("50m")
        assert await forked.result(timeout=0) == [3, 3]
        assert await again.result(timeout=0) == [3, 3]
        assert (await again.execution()).iteration == 3


async def test_what_cannot_be_forked_is_refused(app: Durable, storage: VirtualStorage) -> None:
    @app.task
    async def work() -> None: ...

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.step(work)

    async with app_under_test(app, storage=storage) as kit:
        handle, task = await flow.enqueue(), await work.enqueue()
        await kit.drain()
        with pytest.raises(ConfigurationError, match="no step 'charge#1'; the last it has: work#1"):
            await handle.fork("charge")
        with pytest.raises(ConfigurationError, match="only workflows"):
            await flow.handle(task.execution_id).restart()
        for again in (flow.handle(app.new_id()).fork, flow.handle(app.new_id()).restart):
            with pytest.raises(ExecutionNotFound):
                await again()


async def test_the_blocking_client_runs_workflows_again(app: Durable, storage: VirtualStorage) -> None:
    ran: list[int] = []

    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        await ctx.step(ran.append, 1)
        await ctx.step(ran.append, 2)
        return 3

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()

        def again() -> list[str]:
            with app.client() as client:
                before = client.handle(flow, handle.execution_id)
                return [before.fork("append#2").execution_id, before.restart().execution_id]

        ids = await asyncio.to_thread(again)
        await kit.drain()
        assert [await flow.handle(id_).result(timeout=0) for id_ in ids] == [3, 3]
        assert sorted(ran) == [1, 1, 2, 2, 2]
