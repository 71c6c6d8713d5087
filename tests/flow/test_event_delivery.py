"""Delivery of events: in order for each subject, at least once, and whoever fails or stops, nothing is lost."""

import asyncio
import threading
from collections import defaultdict

import pytest

from durable import Durable, LifecycleEvent, TaskContext
from durable.rooms import deliver
from durable.testing import Maker

from .place import PATIENCE, Place, running, soon
from .subscribers import QUICKLY, Seen, all_delivered


async def test_a_failing_subscriber_gets_everything_later_in_order_and_holds_nobody_up(app: Durable) -> None:
    failing, well = Seen(failures=2), Seen()
    app.events.subscribe(failing, name="failing")
    app.events.subscribe(well, name="well")

    @app.task(retry=QUICKLY)
    async def charge(ctx: TaskContext, n: int) -> None:
        raise LookupError(f"{n}")

    async with running(app):
        for n in range(5):
            await charge.enqueue(n)
        await well.count(20)
        assert await app.storage.counts() == {}
        await failing.count(20)
        await all_delivered(app)

    assert sorted(event.id for event in failing.events) == sorted(event.id for event in well.events)
    for events in by_subject(failing.events).values():
        assert [event.data["attempt"] for event in events] == [1, 2, 3, 3]


def by_subject(events: list[LifecycleEvent]) -> dict[str, list[LifecycleEvent]]:
    found: dict[str, list[LifecycleEvent]] = defaultdict(list)
    for event in events:
        found[event.subject].append(event)
    return found


async def test_several_executors_deliver_each_event_once_and_in_order(place: Place) -> None:
    seen = Seen()
    apps = [place.app() for _ in range(3)]
    for app in apps:
        app.events.subscribe(seen, name="seen")

        @app.task(name="charge", retry=QUICKLY)
        async def charge(ctx: TaskContext, n: int) -> None:
            raise LookupError(f"{n}")

    async with running(apps[0], concurrency=3), running(apps[1], concurrency=3), running(apps[2], concurrency=3):
        await charge.enqueue_many(range(40))
        events = await seen.count(160)
        await all_delivered(apps[0])

    assert len({event.id for event in events}) == 160
    for mine in by_subject(events).values():
        assert [event.data["attempt"] for event in mine] == [1, 2, 3, 3]
        assert [event.at for event in mine] == sorted(event.at for event in mine)


async def test_what_a_dead_executor_had_taken_is_delivered_when_its_lease_is_over(app: Durable) -> None:
    seen, make = Seen(), Maker()
    app.events.subscribe(seen, name="seen")
    notices = [make.notice("seen") for _ in range(3)]

    async with app:
        await app.storage.emit(notices)
        left = await app.storage.take_notices("seen", holder="dead", limit=100, lease=0.3)
    async with running(app):
        events = await seen.count(3)

    assert [event.id for event in events] == [notice.id for notice in left.notices] == [notice.id for notice in notices]


async def test_an_executor_that_stops_under_a_slow_subscriber_leaves_its_events_to_the_next_at_once(
    place: Place,
) -> None:
    slow, fast = place.app(), place.app()
    began, seen = asyncio.Event(), Seen()

    @slow.events.subscribe(name="seen")
    async def hang(event: LifecycleEvent) -> None:
        began.set()
        await asyncio.Event().wait()

    @slow.task
    async def work() -> None: ...

    fast.events.subscribe(seen, name="seen")
    async with running(slow):
        handle = await work.enqueue()
        await soon(began.wait())
    async with running(fast):
        (event,) = await seen.count(1)
    assert event.subject == handle.execution_id


async def test_events_of_the_last_turns_are_delivered_before_an_executor_has_stopped(app: Durable) -> None:
    seen = Seen()
    app.events.subscribe(seen, name="seen")
    began, go_on = asyncio.Event(), asyncio.Event()

    @app.task
    async def work() -> None:
        began.set()
        await go_on.wait()

    async with running(app):
        await work.enqueue()
        await soon(began.wait())
        asyncio.get_running_loop().call_soon(go_on.set)

    assert seen.names == ["execution.completed"]


async def test_a_subscriber_that_loses_its_right_while_it_works_is_stopped(
    app: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "_RENEW_EVERY", 0.01)
    began, stopped = asyncio.Event(), asyncio.Event()

    @app.events.subscribe
    async def slow(event: LifecycleEvent) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    @app.task
    async def work() -> None: ...

    async with running(app):
        await work.enqueue()
        await soon(began.wait())
        assert await app.events.pending() == {"slow": 1}
        assert await app.events.discard("slow") == 1
        await soon(stopped.wait())


async def test_a_subscriber_in_a_thread_may_raise_anything(app: Durable) -> None:
    told: list[str] = []
    threads: set[str] = set()
    errors: list[BaseException] = [SystemExit(), StopIteration(), KeyboardInterrupt()]
    done = threading.Event()

    @app.events.subscribe
    def rude(event: LifecycleEvent) -> None:
        threads.add(threading.current_thread().name)
        if errors:
            raise errors.pop()
        told.append(event.name)
        done.set()

    @app.task
    async def work() -> None: ...

    async with running(app):
        await work.enqueue()
        assert await asyncio.to_thread(done.wait, PATIENCE)
        await all_delivered(app)

    assert told == ["execution.completed"]
    assert threading.current_thread().name not in threads


async def test_a_subscriber_on_the_event_loop_may_raise_anything(app: Durable) -> None:
    seen = Seen()
    errors: list[BaseException] = [SystemExit(), asyncio.CancelledError()]

    @app.events.subscribe
    async def rude(event: LifecycleEvent) -> None:
        if errors:
            raise errors.pop()
        await seen(event)

    @app.task
    async def work() -> None: ...

    async with running(app):
        await work.enqueue()
        await seen.count(1)


async def test_what_waits_for_a_subscriber_that_is_gone_can_be_thrown_away(place: Place) -> None:
    before, after = place.app(), place.app()
    before.events.subscribe(Seen(failures=10**6), name="old name")
    after.events.subscribe(Seen(), name="new name")

    @before.task
    async def work() -> None: ...

    async with running(before):
        handle = await work.enqueue()
        await handle.result(timeout=PATIENCE)
    async with after:
        assert await after.events.pending() == {"old name": 1, "new name": 0}
        assert await after.events.discard("old name") == 1
        assert await after.events.pending() == {"new name": 0}
