"""Lifecycle events of ends that come with a callback or after a request to end, and the forgetting of job events."""

from __future__ import annotations

import asyncio

from durable import Completion, Durable, OnComplete, Retry, TaskContext
from durable.job import JobKey, JobKind, TurnPolicy, TurnToTake
from durable.testing import Maker
from durable.transitions import complete

from .place import PATIENCE, PostgresPlace, running, soon
from .subscribers import Seen


async def test_both_ends_that_one_transaction_commits_are_told(postgres: PostgresPlace) -> None:
    app = postgres.app()
    seen = Seen()
    app.events.subscribe(seen, name="seen", payloads=True)

    @app.task
    async def called(ctx: TaskContext, end: Completion[int, None]) -> str:
        return f"called with {end.result()}"

    @app.task
    async def work() -> int:
        return 7

    async with running(app):
        handle = await work.enqueue(on_complete=OnComplete(called, mode="transaction"))
        events = await seen.count(2)

    assert [(event.name, event.task) for event in events] == [
        ("execution.completed", "work"), ("execution.completed", "called")]  # fmt: skip
    assert events[0].subject == handle.execution_id
    assert [event.payload and event.payload["output"] for event in events] == [7, "called with 7"]
    assert all(0 <= event.data["duration_ms"] < PATIENCE * 1000 for event in events)


async def test_a_callback_that_fails_in_the_transaction_and_succeeds_later_is_told_of(postgres: PostgresPlace) -> None:
    app = postgres.app()
    seen = Seen()

    @app.task(retry=Retry(2, 0, jitter=0))
    async def called(ctx: TaskContext, end: Completion[int, None]) -> str:
        if ctx.attempt == 1:
            raise ValueError("not yet")
        return "in the end"

    @app.task
    async def work() -> int:
        return 7

    app.events.subscribe(seen, name="seen", payloads=True)
    async with running(app):
        await work.enqueue(on_complete=OnComplete(called, mode="transaction"))
        done, failed, completed = await seen.count(3)

    assert (done.name, done.task) == ("execution.completed", "work")
    assert failed.error is not None
    assert (failed.name, failed.error.type, failed.data["will_retry"]) == ("execution.failed", "ValueError", True)
    assert completed.payload is not None
    assert (completed.name, completed.payload["output"]) == ("execution.completed", "in the end")


async def test_an_execution_that_may_finish_and_does_not_is_told_as_cancelled(app: Durable) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    seen = Seen()
    app.events.subscribe(seen, name="seen")

    @app.task(retry=Retry(5, 0, jitter=0))
    async def work() -> None:
        started.set()
        await go_on.wait()
        raise ValueError("not yet")

    async with running(app):
        handle = await work.enqueue()
        await soon(started.wait())
        assert (await handle.cancel(reason="enough", running="finish")).outcome == "requested"
        go_on.set()
        failed, cancelled = await seen.count(2)

    assert (failed.name, failed.subject) == ("execution.failed", handle.execution_id)
    assert (cancelled.name, cancelled.subject) == ("execution.cancelled", handle.execution_id)
    assert cancelled.data["reason"] == "enough"


async def test_upkeep_forgets_the_ids_of_events_in_batches(app: Durable) -> None:
    count = 1_203
    make = Maker()
    key = JobKey(JobKind.DEBOUNCE, "name", "key")

    async with app:
        storage = app.storage
        events = [make.event(key, event_id=str(number), dedupe_window=0.0) for number in range(count)]
        await storage.append_events(events)
        (turn,) = await storage.claim(executor_id="e", queues=["default"], task_names=["turn"], limit=1, lease=60.0)
        (taken,) = await storage.take_turns([TurnToTake(turn.id, turn.fence, TurnPolicy())])
        await storage.settle([complete(turn, "null")._replace(job=make.job_commit(taken.job.id))])
        assert await storage.event_end(key, "0") is not None
    async with running(app):
        async with asyncio.timeout(PATIENCE):
            while await app.storage.event_end(key, str(count - 1)) is not None:
                pass  # each look is a round trip
        async with asyncio.timeout(PATIENCE):
            while (await app.storage.duties()).forget_events:
                pass
        assert await app.storage.forget_events(limit=count) == 0
