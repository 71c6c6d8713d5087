"""The client for code without an event loop: the same calls, each of them blocking."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from durable import (
    Durable,
    ExecutionCancelled,
    ExecutionFailed,
    ExecutionNotFound,
    IdempotencyConflict,
    InvalidInput,
    NotOpen,
    ResultTimeout,
    SleepingIdConflict,
    SleepingTask,
    Spawn,
    Status,
    Task,
)

from .place import PATIENCE, Place, running

NOBODY = "01900000-0000-7000-8000-000000000000"


@contextmanager
def executor_in_a_thread(app: Durable) -> Iterator[None]:
    """An event loop of its own runs the app's executions while the block lasts."""
    is_up = threading.Event()
    stop: list[Callable[[], object]] = []

    async def run() -> None:
        end = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(end.set))
        async with running(app):
            is_up.set()
            await end.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert is_up.wait(PATIENCE)
    try:
        yield
    finally:
        stop[0]()
        thread.join(PATIENCE)


@pytest.fixture
def served(place: Place) -> Iterator[Durable]:
    """An app whose executor runs in a thread, with every kind of task."""
    app = place.app()

    @app.task
    async def add(a: int, b: int = 1) -> int:
        return a + b

    @app.task
    async def fail() -> None:
        raise ValueError("broken")

    @app.parent()
    async def parent(n: int) -> Spawn[str]:
        return Spawn("all", [add.child(k) for k in range(n)])

    app.sleeping("sleep", int)
    with executor_in_a_thread(app):
        yield app


def task(app: Durable, name: str) -> Any:
    kind = SleepingTask if name == "sleep" else Task
    return kind(app[name], app.home)


def test_it_enqueues_and_waits(served: Durable) -> None:
    with served.client() as client:
        handle = client.enqueue(task(served, "add"), 2, b=3)
        assert handle.result(PATIENCE) == 5
        assert handle.status() == Status.COMPLETED
        assert handle.execution().id == handle.execution_id
        assert client.execution(handle.execution_id).status == Status.COMPLETED
        assert client.handle(task(served, "add"), handle.execution_id).result(0) == 5
        assert "add" in repr(handle)


def test_it_enqueues_many_of_one_task_and_of_several(served: Durable, place: Place) -> None:
    add, parent = task(served, "add"), task(served, "parent")
    with served.client() as client:
        handles = client.enqueue_many(add, range(50), priority=2)
        done, left = client.wait(handles, timeout=PATIENCE)
        assert (len(done), left) == (50, set())
        assert [handle.result(0) for handle in handles] == [n + 1 for n in range(50)]
        assert handles[0].execution().priority == 2
        one, tree = client.enqueue_calls([add.child(1), parent.child(2)])
        assert one.result(PATIENCE) == 2
        result = tree.result(PATIENCE)
        assert (result.output, [end.result() for end in result.children]) == ("all", [1, 2])
        assert [end.result() for end in tree.children()] == [1, 2]
        with pytest.raises(InvalidInput):
            client.enqueue_many(add, [1, "x"])
        assert client.wait([]) == (set(), set())
    assert place.count() == 50 + 1 + 3


def test_its_errors_are_those_of_the_other_client(served: Durable) -> None:
    with served.client() as client:
        with pytest.raises(ExecutionFailed, match="broken"):
            client.enqueue(task(served, "fail")).result(PATIENCE)
        with pytest.raises(ExecutionNotFound):
            client.handle(task(served, "add"), NOBODY).result(PATIENCE)
        with pytest.raises(ExecutionNotFound):
            client.wait([client.handle(task(served, "add"), NOBODY)])
        with pytest.raises(ExecutionNotFound):
            client.execution("no id")
        with pytest.raises(ExecutionNotFound):
            client.cancel(NOBODY)
        with pytest.raises(InvalidInput):
            client.enqueue(task(served, "add"), "x")
        client.enqueue(task(served, "add"), 1, idempotency_key="k", delay="1h")
        with pytest.raises(IdempotencyConflict):
            client.enqueue(task(served, "add"), 2, idempotency_key="k")


def test_it_wakes_cancels_and_times_out(served: Durable) -> None:
    sleep, add = task(served, "sleep"), task(served, "add")
    with served.client() as client:
        handle = client.enqueue(sleep, "id-1")
        with pytest.raises(ResultTimeout):
            handle.result(0)
        with pytest.raises(ResultTimeout):
            handle.result("20ms")
        with pytest.raises(SleepingIdConflict):
            client.enqueue(sleep, "id-1")
        assert client.wait([handle], timeout="20ms") == (set(), {handle.execution_id})
        assert client.wakeup(sleep, "id-1", 5).status == Status.COMPLETED
        assert handle.result(PATIENCE) == 5
        later = client.enqueue(add, 1, delay="1h")
        assert later.cancel(reason="no need").is_cancelled
        assert not client.cancel(later.execution_id).is_cancelled
        with pytest.raises(ExecutionCancelled, match="no need"):
            later.result(PATIENCE)


def test_any_number_of_threads_may_use_it(served: Durable) -> None:
    results: list[int] = []
    with served.client() as client:

        def work(n: int) -> None:
            results.append(client.enqueue(task(served, "add"), n).result(PATIENCE))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert sorted(results) == list(range(1, 21))


def test_it_can_be_used_again_after_it_was_closed_but_not_in_between(place: Place) -> None:
    if place.name == "memory":
        return  # a store in memory needs no opening
    app = place.app()

    @app.task
    async def work() -> None: ...

    with app.client() as client:
        client.enqueue(work)
    with pytest.raises(NotOpen):
        client.enqueue(work)
    with app.client() as client:
        client.enqueue(work)
    assert place.count() == 2
