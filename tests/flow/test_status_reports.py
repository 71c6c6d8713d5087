"""How executions stand, for one and for many, from both clients."""

import asyncio
from datetime import timedelta

from durable import Durable, Retry, Status, TaskContext

from .place import PATIENCE, running, soon, until

UNKNOWN = "01900000-0000-7000-8000-000000000000"


async def test_pool_21_each_state_has_its_words(app: Durable) -> None:
    is_running, go_on = asyncio.Event(), asyncio.Event()

    @app.task(retry=Retry(5, "1h", jitter=0))
    async def work(what: str) -> None:
        if what == "fail":
            raise ValueError
        if what == "wait":
            is_running.set()
            await go_on.wait()

    async with running(app):
        retried = await work.enqueue("fail")
        await until(app, retried.execution_id, lambda record: record.attempts == 1 and record.status is Status.READY)
        report = await app.status(retried.execution_id)
        assert report.text.startswith("retrying (attempt 2 of 5, in ")
        assert (report.status, report.previous_attempts, report.max_attempts) == (Status.READY, 1, 5)
        record = await retried.execution()
        assert report.next_due_at == record.due_at
        assert record.due_at - record.updated_at == timedelta(hours=1)

        waiting = await work.enqueue("wait")
        await soon(is_running.wait())
        report = await app.status(waiting.execution_id)
        assert (report.status, report.previous_attempts, report.next_due_at) == (Status.RUNNING, 0, None)
        go_on.set()
        await waiting.result(PATIENCE)
        report = await app.status(waiting.execution_id)
        assert (report.status, report.text, report.is_finished) == (Status.COMPLETED, "completed", True)
        later = await work.enqueue("", delay="1h")
        assert (await app.status(later.execution_id)).text.startswith("ready (in ")
        assert (await app.status(later.execution_id)).previous_attempts == 0


async def test_pool_21_a_batch_keeps_its_order_and_reports_unknown_ids(app: Durable) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    async with app:
        handles = await work.enqueue_many(range(5))
        ids = [handle.execution_id for handle in handles]
        asked = [ids[3], UNKNOWN, ids[0], "no id", ids[3].upper()]
        reports = await app.status_many(asked)
        assert [report.execution_id for report in reports] == [ids[3], UNKNOWN, ids[0], "no id", ids[3]]
        assert [report.is_found for report in reports] == [True, False, True, False, True]
        assert [(report.status, report.text) for report in reports if not report.is_found] == [(None, "not found")] * 2
        assert await app.status_many([]) == []


async def test_turns_are_in_the_report(app: Durable) -> None:
    is_second, go_on = asyncio.Event(), asyncio.Event()

    @app.task
    async def pages(ctx: TaskContext, cursor: int) -> int:
        if cursor == 0:
            raise pages.continue_with(1)
        is_second.set()
        await go_on.wait()
        return ctx.iteration

    async with running(app):
        handle = await pages.enqueue(0)
        await soon(is_second.wait())
        report = await app.status(handle.execution_id)
        assert report.iteration == 1
        assert report.text.startswith("running (turn 2, ")
        go_on.set()
        assert await handle.result(PATIENCE) == 1
