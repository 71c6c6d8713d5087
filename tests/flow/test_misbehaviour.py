"""Handlers that do what none should: the execution ends with its reason, and nothing else suffers."""

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from durable import Durable, ExecutionFailed, LeaseLost, Limits, Retry, Status, TaskContext, constant

from .place import PATIENCE, Place, running


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Nothing(BaseException):
    pass


def _raise(error: BaseException) -> Any:
    raise error


def _recurse(depth: int) -> int:
    return 1 + _recurse(depth + 1)


MISDEEDS: dict[str, tuple[Callable[[], Any], str]] = {
    "sys.exit": (lambda: sys.exit(3), "SystemExit: 3"),
    "KeyboardInterrupt": (lambda: _raise(KeyboardInterrupt()), "KeyboardInterrupt"),
    "GeneratorExit": (lambda: _raise(GeneratorExit()), "GeneratorExit"),
    "BaseException": (lambda: _raise(Nothing("mine")), "Nothing: mine"),
    "StopIteration": (lambda: next(iter([])), "raised StopIteration"),
    "CancelledError": (lambda: _raise(asyncio.CancelledError()), "CancelledError"),
    "LeaseLost": (lambda: _raise(LeaseLost("x", 1)), "LeaseLost"),
    "an error without words": (lambda: _raise(Unspeakable()), "Unspeakable: (the message is lost"),
    "RecursionError": (lambda: _recurse(0), "RecursionError"),
    "MemoryError": (lambda: _raise(MemoryError()), "MemoryError"),
    "exception group": (lambda: _raise(BaseExceptionGroup("both", [Nothing(), ValueError()])), "BaseExceptionGroup"),
    "a lock as result": (threading.Lock, "SerializationError: result"),
    "a generator as result": (lambda: (n for n in ()), "SerializationError: result"),
    "NUL in the result": (lambda: {"a": ["\x00"]}, "SerializationError: result.a[0] contains NUL"),
    "half a surrogate pair": (lambda: "\ud800", "SerializationError: result"),
    "NaN": (lambda: float("nan"), "SerializationError: result"),
    "a huge result": (lambda: "x" * 2_000_000, "PayloadTooLarge: result takes 2000002 bytes"),
    "an error with a huge message": (lambda: _raise(ValueError("x" * 5_000_000)), "ValueError: xxx"),
    "an error with NUL": (lambda: _raise(ValueError("a\x00b\ud800c")), r"ValueError: a\x00b\ud800c"),
}


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "thread"])
@pytest.mark.parametrize("misdeed", MISDEEDS)
async def test_a_misdeed_fails_its_own_execution_only(app: Durable, misdeed: str, is_async: bool) -> None:
    commit, expected = MISDEEDS[misdeed]

    @app.task
    async def misbehave() -> Any:
        return commit()

    @app.task
    def misbehave_in_thread() -> Any:
        return commit()

    @app.task
    async def behave() -> str:
        return "well"

    async with running(app):
        handle = await (misbehave if is_async else misbehave_in_thread).enqueue()
        neighbours = [await behave.enqueue() for _ in range(3)]
        with pytest.raises(ExecutionFailed) as caught:
            await handle.result(PATIENCE)
        assert expected in str(caught.value.error)
        assert (await handle.execution()).status == Status.FAILED
        assert [await neighbour.result(PATIENCE) for neighbour in neighbours] == ["well"] * 3
        assert await (await behave.enqueue()).result(PATIENCE) == "well"


async def test_what_cannot_be_stored_is_not_tried_again(app: Durable) -> None:
    starts: list[int] = []

    @app.task(retry=Retry(max_attempts=5, delay=constant(0)))
    async def work(ctx: TaskContext) -> Any:
        starts.append(ctx.attempt)
        return object()

    async with running(app):
        with pytest.raises(ExecutionFailed, match="SerializationError"):
            await (await work.enqueue()).result(PATIENCE)
    assert starts == [1]


async def test_a_stored_error_never_exceeds_its_limit(place: Place) -> None:
    app = place.app(limits=Limits(max_error_bytes=2048))

    @app.task
    async def work() -> None:
        raise ValueError('"\x00é' * 100_000)

    async with running(app):
        handle = await work.enqueue()
        await app.wait([handle], timeout=PATIENCE)
        error = (await handle.execution()).error
    assert error is not None
    assert len(error.encode()) <= 2048


async def test_a_sync_function_that_returns_a_coroutine_is_told_so(app: Durable) -> None:
    async def inner() -> int:
        return 1

    @app.task
    def work() -> Any:
        return inner()

    async with running(app):
        with pytest.raises(ExecutionFailed, match="declare it with async def"):
            await (await work.enqueue()).result(PATIENCE)


async def test_an_input_that_the_function_no_longer_takes_fails_with_that_reason(place: Place) -> None:
    before, after = place.app(), place.app()

    @before.task(name="work")
    async def takes_text(text: str) -> str:
        return text

    @after.task(name="work")
    async def takes_number(number: int) -> int:
        return number

    async with before:
        handle = await takes_text.enqueue("x")
    async with running(after):
        with pytest.raises(ExecutionFailed, match="InvalidInput"):
            await takes_number.handle(handle.execution_id).result(PATIENCE)


async def test_a_handler_that_cancels_itself_and_goes_on_keeps_its_result(app: Durable) -> None:
    @app.task
    async def work() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "mine"

    async with running(app) as executor:
        assert await (await work.enqueue()).result(PATIENCE) == "mine"
    assert executor.refused_count == 0


async def test_tasks_that_a_handler_leaves_behind_do_not_touch_the_executor(app: Durable) -> None:
    left: list[asyncio.Task[None]] = []

    async def fail() -> None:
        raise ValueError("unheard")

    @app.task
    async def work() -> str:
        left.append(asyncio.create_task(fail()))
        return "done"

    async with running(app):
        assert await (await work.enqueue()).result(PATIENCE) == "done"
        assert await (await work.enqueue()).result(PATIENCE) == "done"
        await asyncio.gather(*left, return_exceptions=True)


async def test_a_spoiled_record_fails_alone(place: Place) -> None:
    app = place.app()
    place.is_spoiled = True

    @app.task
    async def work(n: int) -> int:
        return n

    async with app:
        handles = [await work.enqueue(n) for n in range(3)]
        place.tamper(handles[1].execution_id, input='{"n": ')
        async with app.executor(poll_interval="50ms"):
            with pytest.raises(ExecutionFailed):
                await handles[1].result(PATIENCE)
            assert [await handles[n].result(PATIENCE) for n in (0, 2)] == [0, 2]


async def test_a_stored_policy_that_cannot_be_read_fails_its_execution_alone(place: Place) -> None:
    app = place.app()
    place.is_spoiled = True

    @app.task
    async def work(n: int) -> int:
        raise ValueError("no")

    @app.task
    async def other() -> str:
        return "fine"

    async with app:
        handle = await work.enqueue(1, retry=Retry(2, constant(0)))
        place.tamper(handle.execution_id, retry='{"strange": 1}')
        async with app.executor(poll_interval="50ms", concurrency=1):
            with pytest.raises(ExecutionFailed):
                await handle.result(PATIENCE)
            assert await (await other.enqueue()).result(PATIENCE) == "fine"


async def test_an_executor_leaves_records_of_a_newer_library_alone(place: Place) -> None:
    app = place.app()

    @app.task
    async def work(n: int) -> int:
        return n

    async with app:
        newer, known = await work.enqueue(1), await work.enqueue(2)
        place.tamper(newer.execution_id, record_version=99)
        async with app.executor(poll_interval="50ms"):
            assert await known.result(PATIENCE) == 2
        record = await newer.execution()
        assert (record.status, record.attempts) == (Status.READY, 0)
