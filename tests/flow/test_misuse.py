"""The app used where it cannot be: not open, on another loop, in a forked child, waiting for itself."""

import asyncio
import os
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from durable import ConfigurationError, Durable, NotOpen, SleepingTask, Spawn, Status, TaskContext

from .place import PATIENCE, Place, running, soon

ID = "01900000-0000-7000-8000-000000000000"

Call = Callable[[Durable], Awaitable[Any]]


def with_work(app: Durable) -> Durable:
    @app.task
    async def work(n: int) -> int:
        return n

    app.sleeping("sleep", int)
    return app


def _task(app: Durable, name: str) -> Any:
    return SleepingTask(app[name], app.home)


CALLS: dict[str, Call] = {
    "enqueue": lambda app: _task(app, "work").enqueue(1),
    "enqueue_many": lambda app: _task(app, "work").enqueue_many([1]),
    "enqueue_calls": lambda app: app.enqueue_calls([_task(app, "work").child(1)]),
    "wakeup": lambda app: _task(app, "sleep").wakeup("x", 1),
    "wakeup_failed": lambda app: _task(app, "sleep").wakeup_failed("x", "no"),
    "result": lambda app: app.handle_of(ID, "work").result(PATIENCE),
    "result at once": lambda app: app.handle_of(ID, "work").result(0),
    "status": lambda app: app.handle_of(ID, "work").status(),
    "children": lambda app: app.handle_of(ID, "work").children(),
    "cancel": lambda app: app.cancel(ID),
    "execution": lambda app: app.execution(ID),
    "wait": lambda app: app.wait([app.handle_of(ID, "work")]),
}


@pytest.mark.parametrize("call", CALLS)
async def test_before_it_is_open_and_after_it_was_closed(app: Durable, place: Place, call: str) -> None:
    with_work(app)
    with pytest.raises(NotOpen):
        await CALLS[call](app)
    async with app:
        pass
    with pytest.raises(NotOpen):
        await CALLS[call](app)
    assert place.count() == 0


@pytest.mark.parametrize("call", CALLS)
async def test_on_another_event_loop(app: Durable, place: Place, call: str) -> None:
    with_work(app)

    def elsewhere() -> None:
        async def run() -> None:
            await CALLS[call](app)

        asyncio.run(run())

    async with app:
        with pytest.raises(NotOpen, match="another event loop"):
            await soon(asyncio.to_thread(elsewhere))
    assert place.count() == 0


async def test_in_a_forked_child(app: Durable, place: Place) -> None:
    with_work(app)
    async with app:
        for name, call in CALLS.items():
            assert _exit_code_of_a_fork(partial(_refuses, call, app)) == 0, name
        await _task(app, "work").enqueue(1)
    assert place.count() == 1


def _refuses(call: Call, app: Durable) -> None:
    """Drive the call by hand, without the parent's event loop: it must refuse before it waits for anything."""
    coroutine: Any = call(app)
    try:
        coroutine.send(None)
    except NotOpen as error:
        assert "fork" in str(error)  # noqa: PT017 - this is a child process, pytest is not here
        return
    raise AssertionError("not refused")


def _exit_code_of_a_fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


async def test_opening_twice_is_refused_and_again_after_closing_is_not(app: Durable) -> None:
    with_work(app)
    async with app:
        with pytest.raises(NotOpen, match="open already"):
            await app.open()
    await app.close()
    async with running(app):
        assert await (await _task(app, "work").enqueue(1)).result(PATIENCE) == 1


async def test_an_executor_cannot_be_started_in_a_forked_child(app: Durable) -> None:
    with_work(app)

    def start() -> None:
        coroutine: Any = app.executor().__aenter__()
        try:
            coroutine.send(None)
        except NotOpen:
            return
        raise AssertionError("not refused")

    async with app:
        assert _exit_code_of_a_fork(start) == 0


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "thread"])
async def test_a_handler_that_waits_for_itself_is_refused(app: Durable, is_async: bool) -> None:
    @app.task
    async def selfish(ctx: TaskContext) -> str:
        handle = selfish.handle(ctx.execution_id)
        with pytest.raises(ConfigurationError, match="waits for itself to end"):
            await handle.result()
        with pytest.raises(ConfigurationError, match="waits for itself to end"):
            await asyncio.create_task(app.wait([handle]))  # type: ignore[arg-type]
        assert await app.wait([handle], timeout=0) == (set(), {ctx.execution_id})
        return await handle.status()

    @app.task
    def selfish_in_thread(ctx: TaskContext) -> str:
        with app.client() as client:
            with pytest.raises(ConfigurationError, match="waits for itself to end"):
                client.handle(selfish_in_thread, ctx.execution_id).result()
            return client.execution(ctx.execution_id).status

    async with running(app):
        handle = await (selfish if is_async else selfish_in_thread).enqueue()
        assert await handle.result(PATIENCE) == Status.RUNNING


async def test_a_child_that_waits_for_its_parent_is_refused_and_siblings_may_be_waited_for(app: Durable) -> None:
    @app.task
    async def waits_for(ctx: TaskContext, which: str) -> str:
        id_ = {"parent": ctx.parent_id, "root": ctx.root_id}[which]
        assert id_ is not None
        try:
            await app.handle_of(id_, "middle").result()
        except ConfigurationError as error:
            return str(error)
        return "not refused"

    @app.parent()
    async def middle() -> Spawn[None]:
        return Spawn(None, [waits_for.child("parent"), waits_for.child("root")])

    @app.parent()
    async def top() -> Spawn[None]:
        return Spawn(None, [middle.child()])

    async with running(app):
        result = await (await top.enqueue()).result(PATIENCE)
    to_parent, to_root = (end.result() for end in result.children[0].result().children)
    assert "waits for its parent to end" in to_parent
    assert "waits for the root to end" in to_root


async def test_a_handler_may_wait_for_what_it_enqueues(app: Durable) -> None:
    @app.task
    async def other(n: int) -> int:
        return n + 1

    @app.task
    async def work() -> int:
        return await (await other.enqueue(1)).result(PATIENCE)

    async with running(app):
        assert await (await work.enqueue()).result(PATIENCE) == 2
