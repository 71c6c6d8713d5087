"""Tasks that begin at once: run until they wait, in a task and a context of their own."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any, cast

import pytest

from durable.eager import begun
from tests.jobs.crew import turned

_where: ContextVar[str] = ContextVar("where", default="outside")


def start(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return begun(asyncio.get_running_loop(), coroutine, name="eager")


async def test_it_has_run_until_it_first_waits() -> None:
    log: list[str] = []
    door = asyncio.Event()

    async def work() -> str:
        log.append("began")
        await door.wait()
        log.append("went on")
        return "done"

    task = start(work())
    assert (log, task.done()) == (["began"], False)
    door.set()
    assert await task == "done"
    assert log == ["began", "went on"]


async def test_one_that_does_not_wait_is_done_and_has_its_result_or_error() -> None:
    async def work(value: int) -> int:
        return 10 // value

    assert start(work(2)).result() == 5
    failed = start(work(0))
    assert failed.done()
    with pytest.raises(ZeroDivisionError):
        failed.result()


async def test_it_is_the_current_task_while_it_runs_and_its_starter_is_afterwards() -> None:
    seen: list[asyncio.Task[Any] | None] = []

    async def work() -> None:
        seen.append(asyncio.current_task())
        await turned()
        seen.append(asyncio.current_task())

    starter = asyncio.current_task()
    task = start(work())
    assert asyncio.current_task() is starter
    await task
    assert seen == [task, task]
    assert task.get_name() == "eager"


async def test_it_may_begin_another_and_time_itself_out() -> None:
    async def inner() -> str:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()
        return "never"

    async def outer() -> str:
        task = start(inner())
        try:
            return str(await task)
        except TimeoutError:
            return "timed out"

    assert await start(outer()) == "timed out"


async def test_what_it_sets_in_its_context_stays_there() -> None:
    async def work() -> str:
        _where.set("inside")
        await turned()
        return _where.get()

    _where.set("starter")
    task = start(work())
    assert _where.get() == "starter"
    assert await task == "inside"


async def test_it_can_be_cancelled_where_it_waits_and_by_itself() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    async def end_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await turned()

    for task in (start(wait()), start(end_itself())):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


class _Calls:
    """Calls the event loop when it is collected as garbage, as an asyncio object may."""

    def __init__(self, log: list[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._log = log
        self.itself = self

    def __del__(self) -> None:
        self._loop.call_soon(self._log.append, "collected")


class _Collecting(asyncio.Task[Any]):
    """Garbage is collected while one is made."""

    def __init__(self, *args: Any, **options: Any) -> None:
        gc.collect()
        super().__init__(*args, **options)


async def test_what_else_calls_the_event_loop_while_it_is_made_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    async def work() -> None:
        log.append("began")

    gc.collect()
    _Calls(log)
    monkeypatch.setattr(asyncio, "Task", _Collecting)
    start(work())
    monkeypatch.undo()
    assert log == ["began"]
    await turned()
    assert log == ["began", "collected"]


async def test_calls_that_somebody_watches_stay_watched() -> None:
    loop: Any = asyncio.get_running_loop()
    seen: list[object] = []
    call_soon: Any = loop.call_soon

    def watched(callback: Any, *args: Any, **options: Any) -> Any:
        seen.append(callback)
        return call_soon(callback, *args, **options)

    async def work() -> int:
        return 1

    loop.call_soon = watched
    try:
        assert await start(work()) == 1
        assert loop.call_soon is watched
    finally:
        del loop.call_soon
    assert seen


@pytest.mark.parametrize("how", ["factory", "debug"])
async def test_a_loop_with_ways_of_its_own_makes_the_task(how: str) -> None:
    loop = asyncio.get_running_loop()
    made: list[str] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        made.append("by the factory")
        return asyncio.Task(coroutine, loop=loop, **options)

    async def work() -> int:
        return 1

    if how == "factory":
        loop.set_task_factory(factory)
    else:
        loop.set_debug(True)
    try:
        task = start(work())
        assert not task.done()
        assert await task == 1
    finally:
        loop.set_task_factory(None)
        loop.set_debug(False)
    assert made == (["by the factory"] if how == "factory" else [])


async def test_the_loop_is_left_as_it_was() -> None:
    loop = asyncio.get_running_loop()

    async def work() -> None:
        return None

    start(work())
    assert "call_soon" not in vars(loop)
    with pytest.raises(TypeError):
        start(cast("Any", None))
    assert "call_soon" not in vars(loop)
