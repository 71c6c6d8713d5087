"""What happened: the kit's events, in their order, by name and by task; and calls whose arguments cannot be read."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from durable import Completion, ConfigurationError, Durable, LifecycleEvent, OnComplete, Retry, TaskContext, constant
from durable.jobs import DebounceContext
from durable.testing import Kit, VirtualStorage, app_under_test


def told(kit: Kit, *names: str) -> list[tuple[str, str]]:
    return [(event.name, event.task) for event in kit.events(*names)]


async def test_events_are_what_happened_in_its_order(app: Durable, storage: VirtualStorage) -> None:
    @app.task(retry=Retry(max_attempts=2, delay=constant("1m"), jitter=0))
    async def flaky(ctx: TaskContext, times: int) -> str:
        if ctx.attempt <= times:
            raise ValueError("no")
        return "done"

    async with app_under_test(app, storage=storage) as kit:
        handle = await flaky.enqueue(1)
        await kit.drain()
        assert told(kit) == [("execution.failed", "flaky")]
        await kit.clock.advance("1m")
        failed, completed = kit.events(task=flaky)
        assert (failed.subject, failed.data["will_retry"], failed.at) == (
            handle.execution_id,
            True,
            kit.clock.now() - (completed.at - failed.at),
        )
        assert (failed.error and failed.error.type, completed.data["attempt"]) == ("ValueError", 2)
        assert completed.payload is not None
        assert completed.payload["output"] == "done"


async def test_events_are_found_by_name_and_by_task(app: Durable, storage: VirtualStorage) -> None:
    @app.task
    async def work(n: int) -> None:
        if n:
            raise ValueError

    @app.debounce(event=int, flush_after="10s")
    async def batch(ctx: DebounceContext[int, int]) -> None: ...

    async with app_under_test(app, storage=storage) as kit:
        for n in (0, 1):
            await work.enqueue(n)
        await batch.add("k", 1)
        await kit.clock.advance("10s")
        assert told(kit, "execution.failed") == [("execution.failed", "work")]
        assert [event.name for event in kit.events(task=batch)] == [
            "debounce.started",
            "job.executed",
            "debounce.flushed",
        ]
        assert told(kit, "debounce.*") == [("debounce.started", "batch"), ("debounce.flushed", "batch")]
        assert {event.name for event in kit.events(task="work")} == {"execution.completed", "execution.failed"}
        assert kit.events("execution.failed", task=batch) == []
        with pytest.raises(ConfigurationError, match="names holds 5"):
            kit.events(5)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="task is 5"):
            kit.events(task=5)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match=r"no event 'execution\.done'"):
            kit.events("execution.done")


async def test_events_of_the_kit_are_no_matter_of_the_apps_subscribers(app: Durable, storage: VirtualStorage) -> None:
    seen: list[str] = []

    @app.events.subscribe(names=["execution.completed"])
    async def note(event: object) -> None:
        seen.append("told")

    @app.task
    async def work() -> None: ...

    async with app_under_test(app, storage=storage) as kit:
        await work.enqueue()
        await kit.drain()
        assert told(kit) == [("execution.completed", "work")]
        assert set(await app.events.pending()) == {"note"}
    assert seen == ["told"]


async def test_what_a_subscriber_did_not_take_is_delivered_again_in_virtual_time(
    app: Durable, storage: VirtualStorage
) -> None:
    seen: list[tuple[str, datetime]] = []

    @app.events.subscribe(names=["execution.completed"])
    async def note(event: LifecycleEvent) -> None:
        seen.append((event.subject, kit.clock.now()))
        if len(seen) < 3:
            raise ConnectionError("away")

    @app.task
    async def work() -> None: ...

    async with app_under_test(app, storage=storage) as kit:
        handle = await work.enqueue()
        began = kit.clock.now()
        await kit.drain()
        assert (seen, await app.events.pending()) == ([(handle.execution_id, began)], {"note": 1})
        # With their jitter, the pauses are half a second and one second at most.
        await kit.clock.advance("0.1s")
        assert len(seen) == 1
        await kit.clock.advance("2s")
        assert [subject for subject, _ in seen] == [handle.execution_id] * 3
        first, second = (later[1] - earlier[1] for earlier, later in pairwise(seen))
        assert timedelta(seconds=0.1) < first <= timedelta(seconds=0.5)
        assert timedelta(seconds=0.1) < second <= timedelta(seconds=1)
        assert await app.events.pending() == {"note": 0}


async def test_an_end_is_delivered_when_a_drain_is_over(app: Durable, storage: VirtualStorage) -> None:
    seen: list[str] = []

    @app.events.subscribe(names=["execution.completed"])
    def note(event: LifecycleEvent) -> None:  # in a thread, so it ends some time after the execution has
        seen.append(event.subject)

    @app.task
    async def work() -> None: ...

    async with app_under_test(app, storage=storage) as kit:
        ids = [(await work.enqueue()).execution_id for _ in range(3)]
        await kit.drain()
        assert sorted(seen) == sorted(ids)


async def test_the_call_of_a_callback_is_listed_with_its_completion(app: Durable, storage: VirtualStorage) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    @app.task
    async def after(done: Completion[int, str]) -> None: ...

    async with app_under_test(app, storage=storage) as kit:
        handle = await work.enqueue(7, on_complete=OnComplete(after, context="c"))
        await kit.drain()
        (call,) = kit.enqueued(after)
        assert call.arguments is not None
        done = call.arguments["done"]
        assert isinstance(done, Completion)
        assert (done.execution_id, done.output, done.context) == (handle.execution_id, 7, "c")
        assert "after(done=Completion(" in str(call)
        assert {each.task_name for each in kit.enqueued()} == {"work", "after"}


async def test_a_call_whose_arguments_cannot_be_read_is_listed_all_the_same(
    app: Durable, storage: VirtualStorage
) -> None:
    @app.task
    async def work() -> str:
        return "text"

    @app.task
    async def after(done: Completion[int, None]) -> None: ...

    async with app_under_test(app, storage=storage) as kit:
        await work.enqueue(on_complete=OnComplete(after))
        await kit.drain()
        assert {call.task_name: call.arguments for call in kit.enqueued()} == {"work": {}, "after": None}
