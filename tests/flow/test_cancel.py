"""Cancelling what is queued, running, waiting or over, and what runs below it."""

import asyncio
import contextlib
import threading

import pytest

from durable import Durable, ExecutionCancelled, ExecutionNotFound, LeaseLost, Retry, Spawn, Status, TaskContext

from .place import PATIENCE, Place, running, soon, until


async def test_what_is_queued_is_cancelled_at_once_and_never_runs(app: Durable) -> None:
    ran: list[int] = []

    @app.task
    async def work(n: int) -> None:
        ran.append(n)

    async with app:
        handle = await work.enqueue(1)
        result = await handle.cancel(reason="not needed")
        assert (result.is_cancelled, result.status_before) == (True, Status.READY)
        with pytest.raises(ExecutionCancelled, match="not needed"):
            await handle.result(PATIENCE)
        async with app.executor(poll_interval="50ms"):
            await (await work.enqueue(2)).result(PATIENCE)
    assert ran == [2]


async def test_the_coroutine_of_a_running_one_is_cancelled(app: Durable) -> None:
    is_running, is_cancelled = asyncio.Event(), asyncio.Event()

    @app.task
    async def work(ctx: TaskContext) -> None:
        is_running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            with pytest.raises(LeaseLost):
                ctx.check()
            is_cancelled.set()
            raise

    async with running(app) as executor:
        handle = await work.enqueue()
        await soon(is_running.wait())
        result = await handle.cancel()
        assert (result.is_cancelled, result.status_before) == (True, Status.RUNNING)
        with pytest.raises(ExecutionCancelled):
            await handle.result(PATIENCE)
        await soon(is_cancelled.wait())
        record = await until(app, handle.execution_id, lambda record: not record.needs_cancel)
        assert (record.status, record.reason, record.close_status) == (
            Status.CANCELLED,
            "cancelled by a client",
            "closed",
        )
        assert executor.refused_count == 0


async def test_the_thread_of_a_running_one_is_told(app: Durable) -> None:
    is_running, is_told = threading.Event(), threading.Event()

    @app.task
    def work(ctx: TaskContext) -> None:
        is_running.set()
        assert ctx.cancel_signal.wait(PATIENCE)
        with pytest.raises(LeaseLost):
            ctx.heartbeat(1)
        is_told.set()

    async with running(app):
        handle = await work.enqueue()
        assert await asyncio.to_thread(is_running.wait, PATIENCE)
        await handle.cancel()
        assert await asyncio.to_thread(is_told.wait, PATIENCE)
        assert await handle.status() == Status.CANCELLED


async def test_what_a_cancelled_handler_returns_all_the_same_is_dropped(app: Durable) -> None:
    is_running = asyncio.Event()
    ended = asyncio.Event()

    @app.task
    async def work() -> str:
        is_running.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        ended.set()
        return "late"

    async with running(app) as executor:
        handle = await work.enqueue()
        await soon(is_running.wait())
        await handle.cancel()
        await soon(ended.wait())
    async with app:
        record = await handle.execution()
    assert (record.status, record.output) == (Status.CANCELLED, None)
    assert (executor.running, executor.refused_count) == (0, 0)


async def test_a_tree_is_cancelled_from_the_top_down(app: Durable, place: Place) -> None:
    is_running = asyncio.Barrier(5)
    cancelled = 0
    all_cancelled = asyncio.Event()

    @app.task
    async def leaf() -> None:
        nonlocal cancelled
        await is_running.wait()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            if cancelled == 4:
                all_cancelled.set()
            raise

    @app.parent()
    async def middle() -> Spawn[None]:
        return Spawn(None, [leaf.child(), leaf.child()])

    @app.parent()
    async def top() -> Spawn[None]:
        return Spawn(None, [middle.child(), middle.child()])

    async with running(app):
        handle = await top.enqueue()
        await soon(is_running.wait())
        middles = await handle.children()
        leaves = [end for child in middles for end in await app.children(child.execution_id)]
        assert (await handle.cancel(reason="enough")).is_cancelled
        await soon(all_cancelled.wait())
        records = [await app.execution(end.execution_id) for end in (*middles, *leaves)]
        assert [(record.status, record.reason) for record in records] == [(Status.CANCELLED, "parent_ended")] * 6
        record = await until(app, handle.execution_id, lambda record: record.close_status == "closed")
        assert (record.status, record.reason, record.active_children_count) == (Status.CANCELLED, "enough", 0)
    assert place.count() == 7


async def test_cancelling_a_child_lets_its_parent_go_on(app: Durable) -> None:
    @app.task(queue="nobody")
    async def stuck() -> None: ...

    @app.parent()
    async def parent() -> Spawn[None]:
        return Spawn(None, [stuck.child()])

    async with running(app):
        handle = await parent.enqueue()
        await until(app, handle.execution_id, lambda record: record.status == Status.WAITING_FOR_CHILDREN)
        (child,) = await handle.children()
        await app.cancel(child.execution_id)
        result = await handle.result(PATIENCE)
    assert [end.status for end in result.children] == [Status.CANCELLED]


async def test_cancelling_a_parent_while_it_finalizes_cancels_the_finalize_execution(app: Durable) -> None:
    is_running, is_cancelled = asyncio.Event(), asyncio.Event()

    @app.task
    async def finalize(output: None, ends: list[int]) -> None:
        is_running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            is_cancelled.set()
            raise

    @app.parent(finalize=finalize)
    async def parent() -> Spawn[None]:
        return Spawn(None, [])

    async with running(app):
        handle = await parent.enqueue()
        await soon(is_running.wait())
        assert await handle.status() == Status.WAITING_FOR_FINALIZE
        await handle.cancel()
        await soon(is_cancelled.wait())
        with pytest.raises(ExecutionCancelled):
            await handle.result(PATIENCE)


async def test_cancelling_what_is_over_says_so_and_changes_nothing(app: Durable) -> None:
    @app.task
    async def work() -> int:
        return 1

    async with running(app):
        handle = await work.enqueue()
        await handle.result(PATIENCE)
        result = await handle.cancel()
        assert (result.is_cancelled, result.status_before) == (False, Status.COMPLETED)
        assert await handle.result(0) == 1
        waiting = await work.enqueue(delay="1h")
        results = await asyncio.gather(*(waiting.cancel() for _ in range(10)))
        assert sum(result.is_cancelled for result in results) == 1


async def test_an_unknown_execution_cannot_be_cancelled(app: Durable) -> None:
    async with app:
        with pytest.raises(ExecutionNotFound):
            await app.cancel("01900000-0000-7000-8000-000000000000")
        with pytest.raises(ExecutionNotFound):
            await app.cancel("no id at all")


async def test_a_cancelled_execution_between_attempts_starts_no_more(app: Durable) -> None:
    failed = asyncio.Event()

    @app.task(retry=Retry(9, "1h"))
    async def work() -> None:
        failed.set()
        raise ValueError

    async with running(app):
        handle = await work.enqueue()
        await soon(failed.wait())
        await until(app, handle.execution_id, lambda record: record.status == Status.READY)
        assert (await handle.cancel()).is_cancelled
        with pytest.raises(ExecutionCancelled):
            await handle.result(PATIENCE)


async def test_another_process_can_cancel(place: Place) -> None:
    app, other = place.app(), place.app()
    is_running, is_cancelled = asyncio.Event(), asyncio.Event()

    @app.task
    async def work() -> None:
        is_running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            is_cancelled.set()
            raise

    async with running(app), other:
        handle = await work.enqueue()
        await soon(is_running.wait())
        assert (await other.cancel(handle.execution_id)).is_cancelled
        await soon(is_cancelled.wait())


async def test_many_are_cancelled_while_they_run_and_others_are_not(app: Durable) -> None:
    count = 40
    started = 0
    all_started, go_on = asyncio.Event(), asyncio.Event()

    @app.task
    async def work(n: int) -> int:
        nonlocal started
        started += 1
        if started == count:
            all_started.set()
        await go_on.wait()
        return n

    async with running(app, concurrency=count):
        handles = await work.enqueue_many(range(count))
        await soon(all_started.wait())
        await asyncio.gather(*(handle.cancel() for handle in handles[::2]))
        go_on.set()
        done, left = await app.wait(handles, timeout=PATIENCE)
        assert (len(done), left) == (count, set())
        statuses = [await handle.status() for handle in handles]
    assert statuses == [Status.CANCELLED, Status.COMPLETED] * (count // 2)
