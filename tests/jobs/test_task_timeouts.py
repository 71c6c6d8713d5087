"""Task jobs: handlers that take too long, and what on_error makes of that."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest

from durable import Durable, Retry, constant
from durable.jobs import ErrorContext, EventContext, ExecuteContext, JobExecutionError, Task
from durable.testing import VirtualStorage, app_under_test
from tests.flow.place import soon

HOUR = timedelta(hours=1)
TWICE = Retry(max_attempts=2, delay=constant("1m"), jitter=0)

State = list[str]


def slow(app: Durable, **options: Any) -> tuple[Task[State, str], list[BaseException]]:
    """A job whose event handler never returns, having begun to change state and plan."""
    job = app.task_job("slow", state=State, event=str, timeout="50ms", **options)
    errors: list[BaseException] = []

    @job.on_event
    async def on_event(ctx: EventContext[State, str], event: str) -> None:
        ctx.set_state([event])
        ctx.schedule("5h")
        await asyncio.Event().wait()

    @job.execute
    async def execute(ctx: ExecuteContext[State]) -> None: ...

    return job, errors


async def test_on_error_is_told_of_a_handler_that_took_too_long(app: Durable, storage: VirtualStorage) -> None:
    job, errors = slow(app)

    @job.on_error
    async def failed(ctx: ErrorContext[State], error: Exception) -> None:
        errors.append(error)
        assert (ctx.state, ctx.attempted_state, ctx.error_source) == (None, ["a"], "on_event")
        ctx.set_state(["late"])
        ctx.schedule("1h")

    async with app_under_test(app, storage=storage) as kit:
        await soon(job.send("k", "a", wait=True))
        (error,) = errors
        assert isinstance(error, TimeoutError)
        assert "timeout" in str(error)
        status, state = await job.status("k"), await job.state("k")
        assert (state.state, status.scheduled_at) == (["late"], kit.clock.now() + HOUR)
        assert (status.last_error, status.event_count) == (None, 1)


async def test_on_error_is_told_of_a_thread_that_took_too_long_and_keeps_what_that_writes_out(
    app: Durable, storage: VirtualStorage
) -> None:
    job = app.task_job("slow", state=State, event=str, timeout="50ms")
    told, written = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    @job.on_event
    def on_event(ctx: EventContext[State, str], event: str) -> None:
        assert told.wait(30)
        ctx.set_state(["too late"])
        loop.call_soon_threadsafe(written.set)

    @job.execute
    def execute(ctx: ExecuteContext[State]) -> None: ...

    @job.on_error
    async def failed(ctx: ErrorContext[State], error: Exception) -> None:
        ctx.set_state([type(error).__mro__[1].__name__])
        told.set()
        await written.wait()

    async with app_under_test(app, storage=storage):
        await soon(job.send("k", "a", wait=True))
        assert (await job.state("k")).state == ["TimeoutError"]


async def test_a_timeout_that_on_error_raises_again_ends_the_turn_as_timed_out(
    app: Durable, storage: VirtualStorage
) -> None:
    job, errors = slow(app, retry=TWICE)

    @job.on_error
    async def failed(ctx: ErrorContext[State], error: Exception) -> None:
        errors.append(error)
        raise error

    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "a")
        await kit.drain()
        status = await job.status("k")
        assert (len(errors), status.attempt, status.next_run_at) == (1, 1, kit.clock.now() + timedelta(minutes=1))
        await kit.clock.advance("1m")
        status = await job.status("k")
        assert len(errors) == 2
        assert status.last_error is not None
        assert status.last_error.type == "timed_out"


async def test_an_on_error_that_takes_too_long_itself_is_stopped(app: Durable, storage: VirtualStorage) -> None:
    job, errors = slow(app)

    @job.on_error
    async def failed(ctx: ErrorContext[State], error: Exception) -> None:
        errors.append(error)
        await asyncio.Event().wait()

    async with app_under_test(app, storage=storage):
        with pytest.raises(JobExecutionError, match="longer than its timeout"):
            await soon(job.send("k", "a", wait=True))
        assert len(errors) == 1


async def test_an_on_error_sees_a_handler_that_turns_its_stop_into_an_error(
    app: Durable, storage: VirtualStorage
) -> None:
    job = app.task_job("slow", state=State, event=str, timeout="50ms")
    errors: list[BaseException] = []

    @job.on_event
    async def on_event(ctx: EventContext[State, str], event: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if event == "raises":
                raise ValueError("stopped") from None

    @job.execute
    async def execute(ctx: ExecuteContext[State]) -> None: ...

    @job.on_error
    async def failed(ctx: ErrorContext[State], error: Exception) -> None:
        errors.append(error)

    async with app_under_test(app, storage=storage):
        for event in ("raises", "returns"):
            await soon(job.send("k", event, wait=True))
    assert [isinstance(error, TimeoutError) for error in errors] == [True, True]
