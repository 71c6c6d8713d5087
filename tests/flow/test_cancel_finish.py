"""Cancelling what is queued while what runs may finish, one by one and everything up to a time."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from durable import Again, ConfigurationError, Done, Durable, ExecutionCancelled, ExecutionFailed, Retry, Status

from .place import PATIENCE, Place, PostgresPlace, running, soon, until


class Gate:
    """A task whose attempts stop at a gate and then fail or succeed as told."""

    def __init__(self, app: Durable, *, attempts: int = 3) -> None:
        self.is_running, self.go_on = asyncio.Event(), asyncio.Event()
        self.fails = False
        self.starts = 0

        @app.task(retry=Retry(attempts, 0))
        async def work() -> int:
            self.starts += 1
            self.is_running.set()
            await self.go_on.wait()
            if self.fails:
                raise ValueError("no")
            return 7

        self.task = work


async def test_pool_13_a_pending_one_is_cancelled_and_never_runs(app: Durable) -> None:
    ran: list[int] = []

    @app.task
    async def work(n: int) -> None:
        ran.append(n)

    async with app:
        handle = await work.enqueue(1)
        assert (await handle.cancel(running="finish")).outcome == "cancelled"
        async with app.executor(poll_interval="50ms"):
            await (await work.enqueue(2)).result(PATIENCE)
            with pytest.raises(ExecutionCancelled):
                await handle.result(0)
    assert ran == [2]


async def test_pool_14_a_running_one_finishes_and_its_success_stays(app: Durable) -> None:
    gate = Gate(app)
    async with running(app):
        handle = await gate.task.enqueue()
        await soon(gate.is_running.wait())
        result = await handle.cancel(running="finish")
        assert (result.outcome, result.is_cancelled) == ("requested", False)
        report = await app.status(handle.execution_id)
        assert (report.status, report.is_cancel_requested) == (Status.RUNNING, True)
        assert "not to be run again" in report.text
        gate.go_on.set()
        assert await handle.result(PATIENCE) == 7
        assert not (await app.status(handle.execution_id)).is_cancel_requested


async def test_pool_14_a_failure_with_attempts_left_is_cancelled(app: Durable) -> None:
    gate = Gate(app)
    gate.fails = True
    async with running(app):
        handle = await gate.task.enqueue()
        await soon(gate.is_running.wait())
        await handle.cancel(reason="enough", running="finish")
        gate.go_on.set()
        with pytest.raises(ExecutionCancelled, match="enough"):
            await handle.result(PATIENCE)
        record = await handle.execution()
    assert (gate.starts, record.attempts, record.reason) == (1, 1, "enough")


async def test_pool_14_a_failure_without_attempts_left_has_failed(app: Durable) -> None:
    gate = Gate(app, attempts=1)
    gate.fails = True
    async with running(app):
        handle = await gate.task.enqueue()
        await soon(gate.is_running.wait())
        await handle.cancel(running="finish")
        gate.go_on.set()
        with pytest.raises(ExecutionFailed, match="no"):
            await handle.result(PATIENCE)


async def test_who_waits_for_one_that_is_cancelled_instead_of_retried_hears_of_it_at_once(place: Place) -> None:
    app = place.app(poll_interval="10m")
    gate = Gate(app)
    gate.fails = True
    async with running(app):
        handle = await gate.task.enqueue()
        await soon(gate.is_running.wait())
        waiting = asyncio.create_task(handle.result(PATIENCE))
        await handle.cancel(reason="enough", running="finish")
        gate.go_on.set()
        with pytest.raises(ExecutionCancelled, match="enough"):
            await waiting


async def test_who_waits_for_it_in_another_process_hears_of_it_as_well(postgres: PostgresPlace) -> None:
    app, other = postgres.app(), postgres.app(poll_interval="10m")
    gate, waited_for = Gate(app), Gate(other)
    gate.fails = True
    async with running(app), other:
        handle = await gate.task.enqueue()
        await soon(gate.is_running.wait())
        waiting = asyncio.create_task(other.handle(waited_for.task, handle.execution_id).result(PATIENCE))
        await handle.cancel(reason="enough", running="finish")
        gate.go_on.set()
        with pytest.raises(ExecutionCancelled, match="enough"):
            await waiting


async def test_pool_15_one_in_backoff_is_cancelled(app: Durable) -> None:
    @app.task(retry=Retry(9, "1h"))
    async def work() -> None:
        raise ValueError

    async with running(app):
        handle = await work.enqueue()
        await until(app, handle.execution_id, lambda record: record.status is Status.READY and record.attempts == 1)
        assert (await handle.cancel(running="finish")).outcome == "cancelled"


async def test_pool_16_a_cancel_without_effect_says_why(app: Durable) -> None:
    gate = Gate(app)
    async with running(app):
        handle = await gate.task.enqueue()
        await soon(gate.is_running.wait())
        assert (await handle.cancel(reason="first", running="finish")).outcome == "requested"
        assert (await handle.cancel(reason="second", running="finish")).outcome == "already_requested"
        gate.go_on.set()
        await handle.result(PATIENCE)
        assert (await handle.cancel(running="finish")).outcome == "already_finished"
        assert (await handle.cancel()).outcome == "already_finished"
        with pytest.raises(ConfigurationError, match="running must be"):
            await handle.cancel(running="wait")  # type: ignore[arg-type]


async def test_a_loop_takes_no_further_turn(app: Durable) -> None:
    is_running, go_on = asyncio.Event(), asyncio.Event()
    turns = 0

    @app.loop(max_iterations=9)
    async def work() -> Done[int] | Again:
        nonlocal turns
        turns += 1
        is_running.set()
        await go_on.wait()
        return Again()

    async with running(app):
        handle = await work.enqueue()
        await soon(is_running.wait())
        await handle.cancel(running="finish")
        go_on.set()
        with pytest.raises(ExecutionCancelled):
            await handle.result(PATIENCE)
    assert turns == 1


async def test_pool_19_everything_up_to_now_is_cancelled_and_later_work_is_not(app: Durable) -> None:
    ran: list[int] = []

    @app.task
    async def work(n: int) -> None:
        ran.append(n)

    @app.task(queue="other")
    async def other() -> None: ...

    async with app:
        await work.enqueue_many(range(10_000))
        spared = await other.enqueue()
        assert await app.cancel_all(queue="default") == 10_000
        later = await work.enqueue(-1)
        assert await app.cancel_all(task=other) == 1
        assert await spared.status() is Status.CANCELLED
        async with app.executor(poll_interval="50ms"):
            await later.result(PATIENCE)
    assert ran == [-1]


async def test_pool_19_work_that_comes_meanwhile_survives(app: Durable) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    async with app:
        await work.enqueue_many(range(3_000))
        before = await app.storage.now()
        cancelling = asyncio.create_task(app.cancel_all(before=before))
        later = [await work.enqueue(n) for n in range(50)]
        assert await soon(cancelling) == 3_000
        assert {report.status for report in await app.status_many([h.execution_id for h in later])} == {Status.READY}


async def test_cancel_all_lets_what_runs_finish_if_told_so(app: Durable) -> None:
    gate = Gate(app)
    async with running(app):
        handle = await gate.task.enqueue()
        await soon(gate.is_running.wait())
        queued = await gate.task.enqueue(delay="1h")
        assert await app.cancel_all(running="finish") == 2
        gate.go_on.set()
        assert await handle.result(PATIENCE) == 7
        assert await queued.status() is Status.CANCELLED


async def test_cancel_all_takes_aware_times_only(app: Durable) -> None:
    async with app:
        with pytest.raises(ConfigurationError, match="before"):
            await app.cancel_all(before=datetime(2030, 1, 1))  # noqa: DTZ001 - that is the point
        assert await app.cancel_all(before=datetime.now(UTC) - timedelta(days=1)) == 0


async def test_the_blocking_client_cancels_in_the_same_ways(app: Durable, place: Place) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    def cancel() -> None:
        with app.client() as client:
            first, *_ = client.enqueue_many(work, range(5))
            assert first.cancel(running="finish").outcome == "cancelled"
            assert client.cancel_all(task=work, running="finish") == 4
            assert [report.text for report in client.status_many([first.execution_id, "no id"])] == [
                "cancelled",
                "not found",
            ]
            assert client.status(first.execution_id).is_finished

    await asyncio.to_thread(cancel)
    assert place.count() == 5
