"""Debounce and Task from code without an event loop: the same calls, the same answers, the same errors."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from durable import ConfigurationError, Durable
from durable.jobs import (
    AddResult,
    ClearResult,
    DebounceContext,
    DuplicateEventError,
    EventContext,
    ExecuteContext,
    FlushResult,
    JobExecutionError,
    JobValidationError,
    SendResult,
    ShownStatus,
    TaskState,
    TerminateResult,
    TriggerResult,
)
from durable.testing import VirtualStorage, app_under_test
from tests.flow.place import PATIENCE, Place, running, soon

from .stage import gathering, times


async def test_a_debounce_is_added_to_and_looked_at_without_an_event_loop(
    app: Durable, storage: VirtualStorage
) -> None:
    batcher, flushes = gathering(app)
    async with app_under_test(app, storage=storage) as kit:
        now = kit.clock.now()
        with app.client() as client:
            calls = client.job(batcher)
            added = calls.add("k", 1, event_id="a")
            assert added == AddResult("debounce:batcher:k", 1, now + timedelta(seconds=10), created=True)
            assert calls.add("k", 2, event_id="a").duplicate
            with pytest.raises(DuplicateEventError):
                calls.add("k", 2, event_id="a", on_duplicate="raise")
            with pytest.raises(JobValidationError, match="debounce:batcher:k"):
                calls.add("k", "one")  # type: ignore[arg-type]
            with pytest.raises(ConfigurationError, match="on_duplicate"):
                calls.add("k", 1, on_duplicate="no")  # type: ignore[arg-type]
            assert calls.add("k", 3).event_count == 2
            assert (calls.events("k"), calls.state("k")) == ([1, 3], [1, 3])
            status = calls.status("k")
            assert status == await batcher.status("k")
            assert (status.status, status.event_count) == (ShownStatus.DEBOUNCING, 2)
            requested = calls.flush("k", wait=False)
            assert requested == FlushResult("debounce:batcher:k", False, True, 2, "manual")
            await kit.drain()
            assert times(flushes) == [([1, 3], "manual")]
            assert calls.flush("k").reason == "empty"
            assert calls.redrive("k").redriven is False
            calls.add("k", 4)
            assert calls.clear("k") == ClearResult("debounce:batcher:k", True, 1)
            assert calls.status("k").status is ShownStatus.NOT_FOUND
            assert client.jobs.count(kind="debounce") == 0


async def test_a_task_job_is_sent_to_and_looked_at_without_an_event_loop(app: Durable, storage: VirtualStorage) -> None:
    job = app.task_job("order", state=list[str], event=str)

    @job.on_event
    def on_event(ctx: EventContext[list[str], str], event: str) -> None:
        ctx.set_state([*(ctx.state or []), event])

    @job.execute
    def execute(ctx: ExecuteContext[list[str]]) -> None:
        ctx.update_state(lambda state: [*state, "executed"])

    async with app_under_test(app, storage=storage) as kit:
        with app.client() as client:
            calls = client.job(job)
            assert calls.state("k") == TaskState(False, None)
            assert calls.send("k", "a") == SendResult("task:order:k", created=True, scheduled_at=None)
            assert calls.send("k", "b", event_id="b").created is False
            assert calls.send("k", "b", event_id="b").duplicate
            await kit.drain()
            assert calls.trigger("k") == TriggerResult("task:order:k", triggered=True)
            assert calls.trigger("other").triggered is False
            await kit.drain()
            assert calls.state("k").state == ["a", "b", "executed"]
            assert calls.status("k") == await job.status("k")
            assert calls.redrive("k").redriven is False
            assert [line.instance_id for line in client.jobs.list(kind="task")] == ["task:order:k"]
            assert calls.terminate("k", reason="done") == TerminateResult("task:order:k", True, "done")
            assert calls.terminate("k").terminated is False
            assert (calls.status("k").status, calls.status("k").reason) == (ShownStatus.TERMINATED, "done")
            with pytest.raises(ConfigurationError, match="give a declared job, not str"):
                client.job("order")  # type: ignore[call-overload]


async def test_blocking_calls_wait_for_the_turn_and_raise_what_failed_it(place: Place) -> None:
    app = place.app()
    batcher, flushes = gathering(app, max_events=2)
    job = app.task_job("order", state=int, event=int)

    @job.on_event
    def on_event(ctx: EventContext[int, int], event: int) -> None:
        ctx.set_state(10 // event)

    @job.execute
    def execute(ctx: ExecuteContext[int]) -> None:
        ctx.set_state(100)

    def calls() -> list[object]:
        with app.client() as client:
            order, debounce = client.job(job), client.job(batcher)
            found: list[object] = [order.send("k", 5, wait=True, timeout=PATIENCE).created, order.state("k").state]
            found += [order.trigger("k", wait=True, timeout=PATIENCE).triggered, order.state("k").state]
            with pytest.raises(JobExecutionError, match="ZeroDivisionError"):
                order.send("k", 0, wait=True, timeout=PATIENCE)
            debounce.add("k", 1)
            found += [debounce.flush("k", timeout=PATIENCE).flushed, debounce.events("k")]
            debounce.add("k", 2)
            return [*found, debounce.add("k", 3, wait=True, timeout=PATIENCE).event_count]

    async with running(app):
        assert await soon(asyncio.to_thread(calls)) == [True, 2, True, 100, True, [], 2]
    assert times(flushes) == [([1], "manual"), ([2, 3], "max_events")]


async def test_a_handler_in_a_thread_may_use_the_blocking_client(place: Place) -> None:
    app = place.app()
    job = app.task_job("order", state=int, event=int)

    @app.debounce(event=int, flush_after="1h", max_events=1)
    def batcher(ctx: DebounceContext[int, int]) -> None:
        with app.client() as client:
            client.job(job).send(ctx.key, ctx.state, event_id=ctx.batch_id, wait=True, timeout=PATIENCE)

    @job.on_event
    async def on_event(ctx: EventContext[int, int], event: int) -> None:
        ctx.set_state(event)

    async with running(app):
        await soon(batcher.add("k", 7, wait=True))
        assert (await job.state("k")).state == 7
