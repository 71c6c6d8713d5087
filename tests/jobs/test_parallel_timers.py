"""Timers with `sequential=False` run beside their owner's others; and setting one twice by accident sets it once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any

import pytest

from durable import ConfigurationError, Durable
from durable.errors import StorageUnavailable
from durable.jobs import Timer, TimerContext
from durable.testing import Kit, VirtualStorage, app_under_test

from .crew import Door, crew, drained, reached, turned
from .stage import lose_lease
from .timing import Notes, failing


async def test_one_that_is_slow_delays_none_of_its_owner(app: Durable, storage: VirtualStorage) -> None:
    door, others = Door(), asyncio.Barrier(3)

    async def act(ctx: TimerContext, text: str) -> None:
        if text == "slow":
            await door.hold()
        else:
            await others.wait()

    notes = Notes(app, storage, act)
    async with app_under_test(app, storage=storage) as kit:
        await app.timers.after(0, notes.child("slow"), owner="o", sequential=False)
        draining = asyncio.create_task(kit.drain())
        await reached(door)
        await app.timers.after(0, notes.child("beside"), owner="o", sequential=False)
        await app.timers.after(0, notes.child("in turn"), owner="o")
        await asyncio.wait_for(others.wait(), 30)  # both run, and the slow one still does
        door.open()
        await draining
        assert sorted(text for text, _ in notes.fired) == ["beside", "in turn", "slow"]
        assert notes.fired[0][0] == "slow"
        assert await app.timers.list(owner="o") == []


async def test_the_retries_of_one_are_its_own(app: Durable, storage: VirtualStorage) -> None:
    async def act(ctx: TimerContext, text: str) -> None:
        if text == "bad":
            await fails(ctx, text)

    fails = failing(2)
    notes = Notes(app, storage, act)
    async with app_under_test(app, storage=storage) as kit:
        bad = await app.timers.after(0, notes.child("bad"), owner="o", sequential=False, retry_interval=10)
        await app.timers.every(4, notes.child("good"), owner="o", sequential=False)
        await kit.clock.advance("13s")
        shown = await app.timers.get(bad.id)
        assert shown is not None
        assert (shown.attempt, shown.last_error and shown.last_error.message) == (2, "no 2")
        await kit.clock.advance("8s")
        assert [at for text, at in notes.fired if text == "bad"] == [0.0, 10.0, 20.0]
        assert [at for text, at in notes.fired if text == "good"] == [4.0, 8.0, 12.0, 16.0, 20.0]
        assert await app.timers.get(bad.id) is None


async def test_a_crash_of_one_repeats_that_one(app: Durable, storage: VirtualStorage) -> None:
    async def act(ctx: TimerContext, text: str) -> None:
        if text == "crashes" and ctx.attempt == 1:
            async with asyncio.timeout(30):
                while await app.timers.get(ends.id) is not None:
                    await turned()
            await lose_lease(kit, storage)

    notes = Notes(app, storage, act)
    async with app_under_test(app, storage=storage) as kit:
        ends = await app.timers.after("1m", notes.child("ends"), owner="o", sequential=False)
        await app.timers.after("1m", notes.child("crashes"), owner="o", sequential=False)
        await kit.clock.advance("1m")
        assert sorted(text for text, _ in notes.fired) == ["crashes", "crashes", "ends"]
        await kit.clock.advance("1h")
        assert len(notes.fired) == 3
        assert await app.timers.list(owner="o") == []


async def test_executors_share_the_timers_of_one_owner(storage: VirtualStorage) -> None:
    barrier = asyncio.Barrier(2)

    async def act(ctx: TimerContext, text: str) -> None:
        async with asyncio.timeout(30):
            await barrier.wait()

    apps = [Durable("memory:"), Durable("memory:")]
    notes = [Notes(app, storage, act) for app in apps]
    async with crew(storage, *apps, concurrency=1) as kits:
        for number in range(2):
            await apps[0].timers.after(0, notes[0].child(f"{number}"), owner="o", sequential=False)
        await drained(kits)
        assert sorted(text for each in notes for text, _ in each.fired) == ["0", "1"]


async def test_it_is_shown_cancelled_and_replaced_as_its_owners_others_are(
    app: Durable, storage: VirtualStorage
) -> None:
    notes = Notes(app, storage)
    async with app_under_test(app, storage=storage) as kit:
        beside = await app.timers.after(1, notes.child("beside"), owner="o", sequential=False)
        in_turn = await app.timers.after(2, notes.child("in turn"), owner="o", name="slot")
        assert (beside.sequential, in_turn.sequential) == (False, True)
        assert await app.timers.list(owner="o") == [beside, in_turn]
        slot = await app.timers.after(3, notes.child("slot"), owner="o", name="slot", sequential=False)
        assert await app.timers.named("slot", owner="o") == slot
        assert await app.timers.cancel(beside.id)
        await kit.clock.advance("1m")
        assert notes.fired == [("slot", 3.0)]
        await app.timers.every(5, notes.child("gone"), owner="o", sequential=False)
        assert await app.timers.cancel_all(owner="o") == 1
        await kit.clock.advance("1m")
        assert notes.fired == [("slot", 3.0)]


async def test_one_that_is_cancelled_while_it_runs_ends_and_is_not_due_again(
    app: Durable, storage: VirtualStorage
) -> None:
    async def act(ctx: TimerContext, text: str) -> None:
        assert await app.timers.cancel(ctx.timer_id)

    notes = Notes(app, storage, act)
    async with app_under_test(app, storage=storage) as kit:
        await app.timers.every("1m", notes.child("a"), owner="o", sequential=False)
        await kit.clock.advance("1h")
        assert len(notes.fired) == 1


async def test_the_blocking_client_sets_them_too(app: Durable, storage: VirtualStorage) -> None:
    notes = Notes(app, storage)
    async with app_under_test(app, storage=storage) as kit:

        def set_one() -> Timer:
            with app.client() as client:
                return client.timers.after(1, notes.child("a"), owner="o", sequential=False)

        assert not (await asyncio.to_thread(set_one)).sequential
        await kit.clock.advance(1)
        assert notes.fired == [("a", 1.0)]


async def test_sequential_is_true_or_false(app: Durable, storage: VirtualStorage) -> None:
    notes = Notes(app, storage)
    async with app_under_test(app, storage=storage):
        with pytest.raises(ConfigurationError, match="sequential is 'no'; give True or False"):
            await app.timers.after(1, notes.child("a"), owner="o", sequential="no")  # type: ignore[typeddict-item]


class Repeatable:
    """An operation that runs each time it is awaited, as those of storages do."""

    def __init__(self, run: Callable[[], Awaitable[Any]]) -> None:
        self._run = run

    def __await__(self) -> Generator[Any, None, Any]:
        return self._run().__await__()


class LostAnswer:
    """set_timer, whose first answer is lost after the timer has fired."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._set_timer = kit.app.storage.set_timer
        self.tries = 0
        kit.app.storage.set_timer = self  # type: ignore[method-assign, assignment]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return Repeatable(partial(self._run, self._set_timer(*args, **kwargs)))

    async def _run(self, operation: Any) -> Any:
        self.tries += 1
        answer = await operation
        if self.tries > 1:
            return answer
        await self._kit.drain()
        raise StorageUnavailable("the answer is lost")


@pytest.mark.parametrize("sequential", [True, False])
async def test_a_call_whose_answer_is_lost_sets_one_timer(
    app: Durable, storage: VirtualStorage, sequential: bool
) -> None:
    notes = Notes(app, storage)
    async with app_under_test(app, storage=storage) as kit:
        set_timer = LostAnswer(kit)
        timer = await app.timers.after(0, notes.child("a"), owner="o", sequential=sequential)
        await kit.clock.advance("1m")
        assert (set_timer.tries, notes.fired) == (2, [("a", 0.0)])
        assert await app.timers.get(timer.id) is None
