"""Executors: sharing, shutting down, losing leases, and leaving alone what they do not know."""

import asyncio
import contextlib
import threading
from collections import Counter
from typing import Any

import pytest

from durable import (
    ChildResult,
    Durable,
    ExecutionFailed,
    LeaseLost,
    NotOpen,
    Retry,
    Spawn,
    Status,
    Task,
    TaskContext,
    constant,
)
from durable.execution import Claimed
from durable.storage import Storage
from durable.transitions import complete, counted

from .place import FAR_AHEAD, LONG_AGO, PATIENCE, Place, running, soon, until


async def take_away(place: Place, storage: Storage, execution_id: str) -> None:
    """Let the lease of a running execution be over, and recover it as any executor would."""
    place.tamper(execution_id, lease_expires_at=LONG_AGO)
    assert execution_id in {recovered.id for recovered in await storage.recover(limit=100)}


async def claim_elsewhere(storage: Storage, task: str, *, queue: str = "default", lease: float = 60.0) -> Claimed:
    """As an executor of another process has it when it starts it."""
    (claimed,) = await storage.claim(executor_id="elsewhere", queues=[queue], task_names=[task], limit=1, lease=lease)
    if not claimed.is_suspect:
        return claimed
    assert await storage.count_starts([(claimed.id, claimed.fence)]) == {claimed.id}
    return counted(claimed)


async def test_two_executors_share_the_work_and_each_execution_runs_once(place: Place) -> None:
    apps = [place.app(), place.app()]
    ran: Counter[int] = Counter()
    by: Counter[str] = Counter()
    both = asyncio.Barrier(2)

    for app in apps:

        @app.task(name="work")
        async def work(ctx: TaskContext, n: int) -> int:
            ran[n] += 1
            by[ctx.executor_id] += 1
            if by[ctx.executor_id] == 1:
                await soon(both.wait())
            return n

    async with apps[0]:
        handles = await apps[0].enqueue_calls([_child(apps[0], n) for n in range(300)])
        async with apps[0].executor(concurrency=5, poll_interval="50ms"), running(apps[1], concurrency=5):
            done, left = await apps[0].wait(handles, timeout=PATIENCE)
    assert (len(done), left) == (300, set())
    assert ran == Counter(range(300))
    assert len(by) == 2


def _child(app: Durable, n: int) -> Any:
    return Task(app["work"], app.home).child(n)


async def test_two_executors_of_one_app_share_its_work(app: Durable) -> None:
    by: set[str] = set()
    both = asyncio.Barrier(2)

    @app.task
    async def work(ctx: TaskContext) -> None:
        by.add(ctx.executor_id)
        await soon(both.wait())

    async with running(app, concurrency=1), app.executor(concurrency=1, poll_interval="50ms"):
        await app.wait([await work.enqueue(), await work.enqueue()], timeout=PATIENCE)
    assert len(by) == 2


async def test_what_an_executor_does_not_know_stays_ready_until_one_comes_that_does(place: Place) -> None:
    old, new = place.app(), place.app()

    @new.task
    async def added() -> str:
        return "run by the new one"

    @old.task
    async def known() -> str:
        return "known"

    async with running(old), new:
        handle = await added.enqueue()
        assert await (await known.enqueue()).result(PATIENCE) == "known"
        record = await handle.execution()
        assert (record.status, record.attempts, record.deliveries) == (Status.READY, 0, 0)
        async with new.executor(poll_interval="50ms"):
            assert await handle.result(PATIENCE) == "run by the new one"


async def test_what_keeps_losing_its_executor_ends_as_poisoned_and_can_be_redriven(app: Durable, place: Place) -> None:
    ran: list[int] = []

    @app.task(max_deliveries=3)
    async def work(ctx: TaskContext) -> str:
        ran.append(ctx.attempt)
        return "alive"

    async with app:
        handle = await work.enqueue()
        for delivery in (1, 2, 3):
            claimed = await claim_elsewhere(app.storage, "work", lease=0.0)
            assert (claimed.deliveries, claimed.attempts) == (delivery, 1)
            await app.storage.recover(limit=10)
        with pytest.raises(ExecutionFailed, match="poisoned"):
            await handle.result(PATIENCE)
        record = await handle.execution()
        assert (record.status, record.reason, record.deliveries) == (Status.FAILED, "poisoned", 3)
        await app.storage.redrive([handle.execution_id])
        async with app.executor(poll_interval="50ms"):
            assert await handle.result(PATIENCE) == "alive"
    assert ran == [1]


async def test_a_poisoned_child_lets_its_parent_go_on(app: Durable, place: Place) -> None:
    @app.task(max_deliveries=1, queue="other")
    async def child() -> None: ...

    @app.parent()
    async def parent() -> Spawn[None]:
        return Spawn(None, [child.child()])

    async with running(app):
        handle = await parent.enqueue()
        await until(app, handle.execution_id, lambda record: record.status == Status.WAITING_FOR_CHILDREN)
        child_turn = await claim_elsewhere(app.storage, "child", queue="other")
        place.tamper(child_turn.id, lease_expires_at=LONG_AGO)
        result = await handle.result(PATIENCE)
    assert [str(end.error) for end in result.children if end.error and end.error.type == "poisoned"]


async def test_a_recovered_execution_runs_again_with_the_same_attempt_and_knows_why(app: Durable, place: Place) -> None:
    seen: list[tuple[int, str | None]] = []

    @app.task
    async def work(ctx: TaskContext) -> str:
        seen.append((ctx.attempt, ctx.previous_error and ctx.previous_error.type))
        return "done"

    async with app:
        handle = await work.enqueue()
        await claim_elsewhere(app.storage, "work", lease=0.0)
        async with app.executor(poll_interval="50ms", upkeep_interval="50ms"):
            assert await handle.result(PATIENCE) == "done"
        assert (await handle.execution()).deliveries == 0
    assert seen == [(1, "lease_expired")]


async def test_shutdown_waits_for_handlers_within_its_grace(app: Durable) -> None:
    is_running = asyncio.Event()

    @app.task
    async def work(ctx: TaskContext) -> str:
        is_running.set()
        await asyncio.to_thread(ctx.shutdown_signal.wait, PATIENCE)
        return "finished in time"

    async with app:
        handle = await work.enqueue()
        async with app.executor(poll_interval="50ms", grace=PATIENCE):
            await soon(is_running.wait())
        assert await handle.result(0) == "finished in time"


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "thread"])
async def test_shutdown_gives_back_what_still_runs_without_burning_anything(app: Durable, is_async: bool) -> None:
    running_count = 0
    all_running = asyncio.Event()
    loop = asyncio.get_running_loop()
    go_on = threading.Event()

    def started() -> None:
        nonlocal running_count
        running_count += 1
        if running_count == 3:
            all_running.set()

    @app.task(name="work")
    async def work(ctx: TaskContext) -> str:
        started()
        await asyncio.Event().wait()
        return "never"

    @app.task(name="work_in_thread")
    def work_in_thread(ctx: TaskContext) -> str:
        loop.call_soon_threadsafe(started)
        go_on.wait(PATIENCE)
        return "never"

    async with app:
        calls = [(work if is_async else work_in_thread).child() for _ in range(8)]
        handles = await app.enqueue_calls(calls)
        async with app.executor(poll_interval="50ms", concurrency=3, grace=0):
            await soon(all_running.wait())
        records = [await handle.execution() for handle in handles]
        go_on.set()
        assert {(record.status, record.attempts, record.deliveries) for record in records} == {(Status.READY, 0, 0)}
        assert await app.storage.executors() == []


async def test_a_handler_that_swallows_its_cancellation_does_not_hold_up_shutdown(app: Durable) -> None:
    is_running, go_on = asyncio.Event(), asyncio.Event()

    @app.task
    async def stubborn() -> None:
        is_running.set()
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go_on.wait()

    try:
        async with app:
            handle = await stubborn.enqueue()
            async with app.executor(poll_interval="50ms", grace=0):
                await soon(is_running.wait())
            record = await handle.execution()
            assert (record.status, record.attempts, record.deliveries) == (Status.READY, 0, 0)
    finally:
        go_on.set()  # otherwise the event loop could not end


class SlowClaims:
    """A storage whose claims are answered only when the test lets them: what they took is taken already."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.has_claimed = asyncio.Event()
        self.may_answer = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def claim(self, **settings: Any) -> list[Claimed]:
        claimed = await self._storage.claim(**settings)
        if claimed:
            self.has_claimed.set()
            await self.may_answer.wait()
        return claimed


async def test_shutdown_gives_back_what_a_claim_on_its_way_has_taken(place: Place) -> None:
    storage = SlowClaims(place.storage())
    app = Durable(storage=storage, poll_interval="50ms")  # type: ignore[arg-type]

    @app.task
    async def work() -> None:
        raise AssertionError("started after the stop")

    async with app:
        handles = await app.enqueue_calls([work.child() for _ in range(5)])
        stack = contextlib.AsyncExitStack()
        await stack.enter_async_context(app.executor(poll_interval="50ms"))
        await soon(storage.has_claimed.wait())
        stopping = asyncio.ensure_future(stack.aclose())
        await handles[0].status()
        storage.may_answer.set()
        await soon(stopping)
        records = [await handle.execution() for handle in handles]
    assert {(record.status, record.attempts, record.deliveries) for record in records} == {(Status.READY, 0, 0)}


async def test_an_attempt_that_lost_its_lease_is_cancelled_and_writes_nothing(app: Durable, place: Place) -> None:
    is_running, is_cancelled = asyncio.Event(), asyncio.Event()

    @app.task
    async def work(ctx: TaskContext) -> str:
        is_running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            with pytest.raises(LeaseLost):
                ctx.heartbeat({"late": True})
            is_cancelled.set()
            raise
        return "late"

    async with running(app, lease="1s", upkeep_interval="10m"):
        handle = await work.enqueue()
        await soon(is_running.wait())
        place.tamper(handle.execution_id, fence=3, executor_id="elsewhere", lease_expires_at=FAR_AHEAD)
        await soon(is_cancelled.wait())
        record = await handle.execution()
        assert (record.fence, record.executor_id, record.progress) == (3, "elsewhere", None)
        assert (record.lease_expires_at, record.status) == (FAR_AHEAD, Status.RUNNING)


async def test_the_result_of_a_lost_attempt_is_refused_and_that_of_the_holder_stands(
    app: Durable, place: Place
) -> None:
    taken: list[Claimed] = []

    @app.task
    async def work(ctx: TaskContext) -> str:
        await take_away(place, app.storage, ctx.execution_id)
        taken.append(await claim_elsewhere(app.storage, "work"))
        return "late"

    async with running(app, concurrency=1, upkeep_interval="10m") as executor:
        handle = await work.enqueue()
        await _refused(executor, 1)
        record = await handle.execution()
        assert (record.status, record.executor_id, record.output) == (Status.RUNNING, "elsewhere", None)
        await _complete_elsewhere(app.storage, taken[0], '"from the holder"')
        assert await handle.result(PATIENCE) == "from the holder"


async def _refused(executor: Any, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while executor.refused_count < count:
            await executor._live.storage.now()


async def _complete_elsewhere(storage: Storage, claimed: Claimed, output: str) -> None:
    assert (await storage.settle([complete(claimed, output)])).accepted == {claimed.id}


async def test_the_children_of_a_lost_attempt_are_refused_with_it(app: Durable, place: Place) -> None:
    @app.task
    async def child() -> None: ...

    @app.parent()
    async def parent(ctx: TaskContext) -> Spawn[None]:
        await take_away(place, app.storage, ctx.execution_id)
        await claim_elsewhere(app.storage, "parent")
        return Spawn(None, [child.child() for _ in range(5)])

    async with running(app, concurrency=1, upkeep_interval="10m") as executor:
        handle = await parent.enqueue()
        await _refused(executor, 1)
        record = await handle.execution()
        assert (record.children_count, record.active_children_count, place.count()) == (0, 0, 1)


async def test_the_failure_of_a_lost_attempt_neither_fails_nor_repeats_the_holders(app: Durable, place: Place) -> None:
    @app.task(retry=Retry(5, constant(0)))
    async def work(ctx: TaskContext) -> None:
        await take_away(place, app.storage, ctx.execution_id)
        await claim_elsewhere(app.storage, "work")
        raise ValueError("late")

    async with running(app, concurrency=1, upkeep_interval="10m") as executor:
        handle = await work.enqueue()
        await _refused(executor, 1)
        record = await handle.execution()
        assert (record.status, record.executor_id) == (Status.RUNNING, "elsewhere")


async def test_an_execution_that_comes_back_to_the_same_executor_runs_and_its_older_attempt_is_stopped(
    app: Durable, place: Place
) -> None:
    """Bookkeeping by id alone would take the second claim for the first one and run neither, or renew both."""
    starts = 0
    first_runs, first_stopped = asyncio.Event(), asyncio.Event()

    @app.task
    async def work(ctx: TaskContext) -> str:
        nonlocal starts
        starts += 1
        if starts > 1:
            await soon(first_stopped.wait())
            return "second"
        first_runs.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            first_stopped.set()
            raise
        return "first"

    async with running(app, lease="10m"):
        handle = await work.enqueue()
        await soon(first_runs.wait())
        await take_away(place, app.storage, handle.execution_id)
        assert await handle.result(PATIENCE) == "second"
    assert starts == 2


async def test_except_exception_does_not_swallow_a_lost_lease(app: Durable, place: Place) -> None:
    went_on: list[str] = []

    @app.task
    def work(ctx: TaskContext) -> str:
        try:
            while True:
                ctx.check()
                if ctx.cancel_signal.wait(0.01):
                    ctx.heartbeat()
        except Exception:
            went_on.append("swallowed")
        return "late"

    async with running(app) as executor:
        handle = await work.enqueue()
        await until(app, handle.execution_id, lambda record: record.status == Status.RUNNING)
        await handle.cancel()
        async with asyncio.timeout(PATIENCE):
            while executor.running:
                await handle.status()
    assert went_on == []


async def test_an_executor_announces_itself_and_takes_its_leave(app: Durable) -> None:
    @app.task
    async def work(ends: list[ChildResult[Any]] | None = None) -> None: ...

    async with app:
        async with app.executor(
            poll_interval="50ms", upkeep_interval="50ms", queues=["a", "b"], concurrency=7
        ) as executor:
            async with asyncio.timeout(PATIENCE):
                while not (rows := await app.storage.executors()):
                    pass
            (row,) = rows
            assert (row.id, row.queues, row.task_names, row.concurrency) == (
                executor.id,
                ("a", "b"),
                ("timer:timers", "work"),
                7,
            )
        assert await app.storage.executors() == []


async def test_an_executor_opens_and_closes_an_app_that_is_not_open(app: Durable) -> None:
    @app.task
    async def work() -> int:
        return 1

    async with app.executor(poll_interval="50ms"):
        assert await (await work.enqueue()).result(PATIENCE) == 1
    with pytest.raises(NotOpen):
        await work.enqueue()
