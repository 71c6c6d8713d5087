"""What follows a failed attempt: the policy, the errors that speak to it, and the timeout."""

import asyncio
import contextlib
import threading
from datetime import timedelta
from typing import Any

import pytest

from durable import (
    Durable,
    ExecutionFailed,
    ExecutionTimedOut,
    LeaseLost,
    NonRetryable,
    Retry,
    RetryAfter,
    Status,
    TaskContext,
    constant,
)

from .place import PATIENCE, running, soon

SOON = Retry(max_attempts=3, delay=constant("1ms"))


async def test_a_failed_attempt_is_repeated_and_knows_the_error_before(app: Durable) -> None:
    seen: list[tuple[int, str | None]] = []

    @app.task(retry=SOON)
    async def work(ctx: TaskContext) -> str:
        seen.append((ctx.attempt, str(ctx.previous_error) if ctx.previous_error else None))
        if ctx.attempt < 3:
            raise ValueError(f"no {ctx.attempt}")
        return "yes"

    async with running(app):
        handle = await work.enqueue()
        assert await handle.result(PATIENCE) == "yes"
        record = await handle.execution()
    assert seen == [(1, None), (2, "ValueError: no 1"), (3, "ValueError: no 2")]
    assert (record.attempts, record.max_attempts, record.deliveries, record.error) == (3, 3, 0, None)


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "thread"])
async def test_the_last_error_is_kept_when_the_attempts_are_used_up(app: Durable, is_async: bool) -> None:
    starts = 0

    def count() -> None:
        nonlocal starts
        starts += 1
        raise ValueError(f"no {starts}")

    @app.task(retry=SOON)
    async def work() -> None:
        count()

    @app.task(retry=SOON)
    def work_in_thread() -> None:
        count()

    async with running(app):
        handle = await (work if is_async else work_in_thread).enqueue()
        with pytest.raises(ExecutionFailed, match="ValueError: no 3") as caught:
            await handle.result(PATIENCE)
        assert (await handle.execution()).status == Status.FAILED
    assert starts == 3
    assert caught.value.error.type == "ValueError"
    assert "count()" in (caught.value.error.traceback or "")


async def test_without_a_policy_there_is_one_attempt(app: Durable) -> None:
    starts: list[int] = []

    @app.task
    async def work(ctx: TaskContext) -> None:
        starts.append(ctx.attempt)
        raise ValueError

    async with running(app):
        with pytest.raises(ExecutionFailed):
            await (await work.enqueue()).result(PATIENCE)
    assert starts == [1]


async def test_the_policy_given_at_enqueue_wins_over_the_definitions(app: Durable) -> None:
    starts: list[int] = []

    @app.task(retry=Retry(max_attempts=9, delay="1h"))
    async def work(ctx: TaskContext) -> None:
        starts.append(ctx.attempt)
        raise ValueError

    async with running(app):
        with pytest.raises(ExecutionFailed):
            await (await work.enqueue(retry=Retry(max_attempts=2, delay=constant(0)))).result(PATIENCE)
    assert starts == [1, 2]


async def test_non_retryable_ends_the_attempts(app: Durable) -> None:
    starts: list[int] = []

    @app.task(retry=SOON)
    async def work(ctx: TaskContext) -> None:
        starts.append(ctx.attempt)
        raise NonRetryable("never")

    async with running(app):
        with pytest.raises(ExecutionFailed, match="NonRetryable: never") as caught:
            await (await work.enqueue()).result(PATIENCE)
    assert starts == [1]
    assert not caught.value.error.is_retryable


async def test_retry_if_is_asked_about_each_error(app: Durable) -> None:
    starts: list[int] = []

    @app.task(retry=Retry(max_attempts=5, delay=constant(0), retry_if=lambda error: isinstance(error, OSError)))
    async def work(ctx: TaskContext) -> None:
        starts.append(ctx.attempt)
        raise OSError("again") if ctx.attempt < 3 else ValueError("enough")

    async with running(app):
        with pytest.raises(ExecutionFailed, match="enough"):
            await (await work.enqueue()).result(PATIENCE)
    assert starts == [1, 2, 3]


async def test_retry_after_sets_the_delay_and_does_not_lift_the_limit(app: Durable) -> None:
    @app.task(retry=Retry(max_attempts=2, delay="1h"))
    async def work(ctx: TaskContext) -> str:
        if ctx.attempt == 1:
            raise RetryAfter(0.1)
        return "done"

    @app.task(retry=Retry(max_attempts=2, delay="1h"))
    async def hopeless() -> None:
        raise RetryAfter(timedelta(milliseconds=1), "still busy")

    async with running(app):
        assert await (await work.enqueue()).result(PATIENCE) == "done"
        with pytest.raises(ExecutionFailed, match="still busy"):
            await (await hopeless.enqueue()).result(PATIENCE)


async def test_between_attempts_it_is_ready_and_holds_no_slot(app: Durable) -> None:
    failed = asyncio.Event()

    @app.task(retry=Retry(max_attempts=2, delay="1h", jitter=0))
    async def work() -> None:
        failed.set()
        raise ValueError("later")

    @app.task
    async def other() -> str:
        return "free"

    async with running(app, concurrency=1):
        handle = await work.enqueue()
        await soon(failed.wait())
        assert await (await other.enqueue()).result(PATIENCE) == "free"
        record = await handle.execution()
        assert (record.status, record.attempts, record.executor_id is None) == (Status.READY, 1, False)
        assert record.due_at - record.updated_at == timedelta(hours=1)


async def test_max_duration_ends_the_attempts(app: Durable) -> None:
    starts: list[int] = []

    @app.task(retry=Retry(max_attempts=9, delay=constant("1m"), max_duration="30s"))
    async def work(ctx: TaskContext) -> None:
        starts.append(ctx.attempt)
        raise ValueError

    async with running(app):
        with pytest.raises(ExecutionFailed):
            await (await work.enqueue()).result(PATIENCE)
    assert starts == [1]


async def test_a_failing_delay_function_gives_up(app: Durable) -> None:
    def broken(_: int) -> float:
        raise RuntimeError("broken policy")

    @app.task(retry=Retry(max_attempts=9, delay=broken))
    async def work() -> None:
        raise ValueError("the real error")

    async with running(app):
        with pytest.raises(ExecutionFailed, match="the real error"):
            await (await work.enqueue()).result(PATIENCE)


async def test_a_coroutine_is_cancelled_at_its_timeout(app: Durable) -> None:
    cancelled = asyncio.Event()

    @app.task(timeout="50ms")
    async def work(ctx: TaskContext) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if ctx.cancel_signal.is_set():
                cancelled.set()
            raise

    async with running(app):
        handle = await work.enqueue()
        with pytest.raises(ExecutionTimedOut, match="timed_out"):
            await handle.result(PATIENCE)
        assert (await handle.execution()).status == Status.TIMED_OUT
    assert cancelled.is_set()


async def test_a_thread_is_told_at_its_timeout_and_may_write_no_more(app: Durable) -> None:
    refused = threading.Event()

    @app.task(timeout="50ms")
    def work(ctx: TaskContext) -> None:
        assert ctx.cancel_signal.wait(PATIENCE)
        ended.wait(PATIENCE)
        try:
            ctx.heartbeat("too late")
        except LeaseLost:
            refused.set()

    ended = threading.Event()
    async with running(app):
        handle = await work.enqueue()
        with pytest.raises(ExecutionTimedOut):
            await handle.result(PATIENCE)
        ended.set()
        assert await asyncio.to_thread(refused.wait, PATIENCE)
        assert (await handle.execution()).progress is None


async def test_an_attempt_that_timed_out_is_repeated(app: Durable) -> None:
    errors: list[Any] = []

    @app.task(timeout="50ms", retry=SOON)
    async def work(ctx: TaskContext) -> str:
        errors.append(ctx.previous_error and ctx.previous_error.type)
        if ctx.attempt == 1:
            await asyncio.Event().wait()
        return "second"

    async with running(app):
        assert await (await work.enqueue()).result(PATIENCE) == "second"
    assert errors == [None, "timed_out"]


async def test_a_timeout_error_of_the_handlers_own_is_a_failure_like_any_other(app: Durable) -> None:
    @app.task(timeout="1h")
    async def work() -> None:
        raise TimeoutError("the other side is slow")

    async with running(app):
        handle = await work.enqueue()
        with pytest.raises(ExecutionFailed, match="TimeoutError: the other side is slow"):
            await handle.result(PATIENCE)


async def test_a_handler_that_ignores_its_timeout_ends_as_timed_out_and_gives_its_slot_back(
    app: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable.rooms.run._DEAF_AFTER", 0.01)
    go_on = asyncio.Event()
    has_ended = asyncio.Event()

    @app.task(timeout="20ms")
    async def stubborn() -> str:
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go_on.wait()
        has_ended.set()
        return "too late"

    @app.task
    async def other() -> str:
        return "free"

    try:
        async with running(app, concurrency=1) as executor:
            handle = await stubborn.enqueue()
            with pytest.raises(ExecutionTimedOut):
                await handle.result(PATIENCE)
            assert await (await other.enqueue()).result(PATIENCE) == "free"
            go_on.set()
            await soon(has_ended.wait())
            assert await (await other.enqueue()).result(PATIENCE) == "free"
            assert (await handle.execution()).status == Status.TIMED_OUT
            assert (executor.running, executor.refused_count) == (0, 0)
    finally:
        go_on.set()  # otherwise the event loop could not end


async def test_a_result_that_comes_after_the_timeout_does_not_count(app: Durable) -> None:
    @app.task(timeout="20ms")
    async def late() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "too late"

    async with running(app):
        with pytest.raises(ExecutionTimedOut):
            await (await late.enqueue()).result(PATIENCE)
