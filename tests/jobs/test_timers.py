"""Timers: when they fire, in which order, and what a failure, a cancel or a crash leaves of them."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from durable import Completion, ConfigurationError, Durable, OnComplete
from durable.jobs import Timer, TimerContext
from durable.testing import VirtualStorage, app_under_test

from .crew import Door, Watch, crew, drained, reached
from .stage import lose_lease
from .timing import Notes, failing


async def test_tm_01_timers_fire_at_their_moments_in_order(app: Durable, storage: VirtualStorage) -> None:
    notes = Notes(app, storage)
    async with app_under_test(app, storage=storage) as kit:
        await app.timers.every("2m", notes.child("every"), owner="o")
        await app.timers.at(kit.clock.now() + timedelta(minutes=3), notes.child("at"), owner="o")
        await app.timers.after("3m", notes.child("after"), owner="o")
        await kit.drain()
        assert notes.fired == []
        await kit.clock.advance("5m")
        assert notes.fired == [("every", 120.0), ("at", 180.0), ("after", 180.0), ("every", 240.0)]


async def test_tm_02_a_shorter_one_set_later_fires_first(app: Durable, storage: VirtualStorage) -> None:
    notes = Notes(app, storage)
    async with app_under_test(app, storage=storage) as kit:
        await app.timers.after(300, notes.child("long"), owner="o")
        await app.timers.after(100, notes.child("short"), owner="o")
        await kit.clock.advance("1h")
        assert notes.fired == [("short", 100.0), ("long", 300.0)]


async def test_tm_03_the_past_fires_at_once(app: Durable, storage: VirtualStorage) -> None:
    notes = Notes(app, storage)
    async with app_under_test(app, storage=storage) as kit:
        await app.timers.at(kit.clock.now() - timedelta(days=9), notes.child("past"), owner="o")
        await app.timers.after(0, notes.child("now"), owner="o")
        await kit.drain()
        assert notes.fired == [("past", 0.0), ("now", 0.0)]


async def test_tm_04_a_failing_one_is_retried_each_minute_until_it_succeeds(
    app: Durable, storage: VirtualStorage
) -> None:
    notes = Notes(app, storage, failing(20))
    async with app_under_test(app, storage=storage) as kit:
        timer = await app.timers.after(0, notes.child("a"), owner="o")
        await kit.clock.advance("19m")
        assert [at for _, at in notes.fired] == [60.0 * number for number in range(20)]
        assert notes.attempts == [(1, None), *((number, f"no {number - 1}") for number in range(2, 21))]
        await kit.clock.advance("1h")
        assert len(notes.fired) == 21
        assert await app.timers.get(timer.id) is None


async def test_tm_04_the_retry_interval_is_that_of_the_timer(app: Durable, storage: VirtualStorage) -> None:
    notes = Notes(app, storage, failing(2))
    async with app_under_test(app, storage=storage) as kit:
        await app.timers.after(0, notes.child("a"), owner="o", retry_interval="5s")
        await kit.clock.advance("1h")
        assert [at for _, at in notes.fired] == [0.0, 5.0, 10.0]


async def test_tm_05_a_recurring_one_goes_back_to_its_interval_after_retries(
    app: Durable, storage: VirtualStorage
) -> None:
    notes = Notes(app, storage, failing(2))
    async with app_under_test(app, storage=storage) as kit:
        await app.timers.every("10m", notes.child("a"), owner="o", retry_interval="30s")
        await kit.clock.advance("22m")
        assert [at for _, at in notes.fired] == [600.0, 630.0, 660.0, 1260.0]
        assert [attempt for attempt, _ in notes.attempts] == [1, 2, 3, 1]


async def test_tm_06_the_id_stays_through_retries_and_recurrences(app: Durable, storage: VirtualStorage) -> None:
    notes = Notes(app, storage, failing(1))
    async with app_under_test(app, storage=storage) as kit:
        timer = await app.timers.every("1m", notes.child("a"), owner="o")
        for starts in (1, 2, 3):
            await kit.clock.advance("1m")
            assert len(notes.fired) == starts
            assert [each.id for each in await app.timers.list(owner="o")] == [timer.id]
        assert await app.timers.cancel(timer.id)
        await kit.clock.advance("1h")
        assert len(notes.fired) == 3


@pytest.mark.parametrize("is_failing", [False, True])
async def test_tm_07_one_that_cancels_itself_is_not_due_again(
    app: Durable, storage: VirtualStorage, is_failing: bool
) -> None:
    async def act(ctx: TimerContext, text: str) -> None:
        assert await app.timers.cancel(ctx.timer_id)
        assert not await app.timers.cancel(ctx.timer_id)
        if is_failing:
            raise ValueError

    notes = Notes(app, storage, act)
    async with app_under_test(app, storage=storage) as kit:
        await app.timers.every("1m", notes.child("a"), owner="o")
        await kit.clock.advance("1h")
        assert len(notes.fired) == 1
        assert await app.timers.list(owner="o") == []


@pytest.mark.parametrize("is_failing", [False, True])
async def test_tm_07_one_that_is_cancelled_while_it_runs_ends_and_is_not_due_again(
    app: Durable, storage: VirtualStorage, is_failing: bool
) -> None:
    door = Door()

    async def act(ctx: TimerContext, text: str) -> None:
        await door.hold()
        if is_failing:
            raise ValueError

    notes = Notes(app, storage, act)
    async with app_under_test(app, storage=storage) as kit:
        timer = await app.timers.every(60, notes.child("a"), owner="o")
        storage.move_to(storage.now() + timedelta(minutes=1))
        draining = asyncio.create_task(kit.drain())
        await reached(door)
        assert await app.timers.cancel(timer.id)
        door.open()
        await draining
        await kit.clock.advance("1h")
        assert len(notes.fired) == 1


async def test_tm_08_cancelling_what_is_not_there_gives_false(app: Durable, storage: VirtualStorage) -> None:
    notes = Notes(app, storage)
    async with app_under_test(app, storage=storage) as kit:
        timer = await app.timers.after(0, notes.child("a"), owner="o")
        await kit.drain()
        for unknown in (timer.id, str(uuid.UUID(int=1)), "no id", ""):
            assert await app.timers.cancel(unknown) is False
            assert await app.timers.get(unknown) is None
        assert await app.timers.cancel_named("alarm", owner="o") is False
        assert await app.timers.cancel_all(owner="nobody") == 0


@pytest.mark.parametrize(("anchor", "times"), [("completion", [10.0, 24.0, 38.0]), ("schedule", [10.0, 20.0, 30.0])])
async def test_tm_09_an_interval_counts_from_the_end_or_on_a_grid(
    app: Durable, storage: VirtualStorage, anchor: str, times: list[float]
) -> None:
    watch = Watch(storage)

    async def act(ctx: TimerContext, text: str) -> None:
        watch.take(4 / 60)

    notes = Notes(app, storage, act)
    async with app_under_test(app, storage=storage) as kit:
        await app.timers.every(10, notes.child("a"), owner="o", anchor=anchor)  # type: ignore[arg-type]
        while len(notes.fired) < 3:
            await kit.clock.advance(1)
        assert [at for _, at in notes.fired] == times


async def test_tm_10_a_failing_one_keeps_nobody_back(app: Durable, storage: VirtualStorage) -> None:
    async def act(ctx: TimerContext, text: str) -> None:
        if text == "bad":
            raise ValueError

    notes = Notes(app, storage, act)
    async with app_under_test(app, storage=storage) as kit:
        await app.timers.after(0, notes.child("bad"), owner="o")
        await app.timers.after(1, notes.child("good"), owner="o")
        await app.timers.after(1, notes.child("other"), owner="p")
        await kit.clock.advance("59s")
        assert sorted(notes.fired) == [("bad", 0.0), ("good", 1.0), ("other", 1.0)]


async def test_tm_10_a_slow_one_delays_only_its_owner(app: Durable, storage: VirtualStorage) -> None:
    door = Door()

    async def act(ctx: TimerContext, text: str) -> None:
        if text == "slow":
            await door.hold()
        if text == "other":
            others.set()

    others = asyncio.Event()
    notes = Notes(app, storage, act)
    async with app_under_test(app, storage=storage) as kit:
        await app.timers.after(0, notes.child("slow"), owner="o")
        await app.timers.after(0, notes.child("next"), owner="o")
        draining = asyncio.create_task(kit.drain())
        await reached(door)
        await app.timers.after(0, notes.child("other"), owner="p")
        await asyncio.wait_for(others.wait(), 30)
        assert [text for text, _ in notes.fired] == ["slow", "other"]
        door.open()
        await draining
        assert [text for text, _ in notes.fired] == ["slow", "other", "next"]


async def test_tm_11_a_crash_while_it_runs_starts_it_again(app: Durable, storage: VirtualStorage) -> None:
    async def act(ctx: TimerContext, text: str) -> None:
        if ctx.attempt == 1:
            await lose_lease(kit, storage)

    notes = Notes(app, storage, act)
    async with app_under_test(app, storage=storage) as kit:
        timer = await app.timers.after("1m", notes.child("a"), owner="o")
        await kit.clock.advance("1m")
        assert [attempt for attempt, _ in notes.attempts] == [1, 2]
        assert notes.attempts[1][1] is not None
        assert kit.executor.refused_count == 1
        assert await app.timers.get(timer.id) is None
        await kit.clock.advance("1h")
        assert len(notes.fired) == 2


async def test_tm_12_two_executors_run_one_owner_in_sequence_and_two_side_by_side(storage: VirtualStorage) -> None:
    running: dict[str, int] = {}
    most: list[int] = []
    both = asyncio.Event()

    async def act(ctx: TimerContext, text: str) -> None:
        running[ctx.owner] = running.get(ctx.owner, 0) + 1
        most.append(running[ctx.owner])
        if running.keys() == {"o", "p"} and all(running.values()):
            both.set()
        await asyncio.wait_for(both.wait(), 30)
        running[ctx.owner] -= 1

    apps = [Durable("memory:"), Durable("memory:")]
    notes = [Notes(app, storage, act) for app in apps]
    async with crew(storage, *apps) as kits:
        for number in range(3):
            for owner in ("o", "p"):
                await apps[number % 2].timers.after(0, notes[0].child(f"{owner}{number}"), owner=owner)
        await drained(kits)
        fired = [text for note in notes for text, _ in note.fired]
        assert sorted(fired) == ["o0", "o1", "o2", "p0", "p1", "p2"]
        assert set(most) == {1}


@pytest.mark.parametrize(("first", "second"), [(100, 300), (300, 100)])
async def test_tm_13_the_later_call_sets_the_alarm_and_it_fires_once(
    app: Durable, storage: VirtualStorage, first: int, second: int
) -> None:
    notes = Notes(app, storage)
    async with app_under_test(app, storage=storage) as kit:
        await app.timers.after(first, notes.child("first"), owner="o", name="alarm")
        timer = await app.timers.after(second, notes.child("second"), owner="o", name="alarm")
        assert await app.timers.named("alarm", owner="o") == timer
        assert await app.timers.named("alarm", owner="p") is None
        await kit.clock.advance("1h")
        assert notes.fired == [("second", float(second))]
        assert await app.timers.named("alarm", owner="o") is None


async def test_tm_13_an_alarm_can_be_deleted_and_a_failing_one_is_retried(
    app: Durable, storage: VirtualStorage
) -> None:
    notes = Notes(app, storage, failing(1))
    async with app_under_test(app, storage=storage) as kit:
        await app.timers.after(1, notes.child("deleted"), owner="o", name="alarm")
        assert await app.timers.cancel_named("alarm", owner="o")
        await app.timers.after(5, notes.child("kept"), owner="o", name="alarm")
        await kit.clock.advance("1h")
        assert notes.fired == [("kept", 5.0), ("kept", 65.0)]


async def test_tm_13_an_alarm_set_by_its_own_handler_is_another(app: Durable, storage: VirtualStorage) -> None:
    async def act(ctx: TimerContext, text: str) -> None:
        assert ctx.timer_name == "alarm"
        if len(text) < 3:
            await app.timers.after(10, notes.child(text + "x"), owner=ctx.owner, name="alarm")

    notes = Notes(app, storage, act)
    async with app_under_test(app, storage=storage) as kit:
        await app.timers.after(0, notes.child("x"), owner="o", name="alarm")
        await kit.clock.advance("1h")
        assert notes.fired == [("x", 0.0), ("xx", 10.0), ("xxx", 20.0)]


async def test_tm_14_cancel_all_removes_those_that_wait_and_the_one_that_runs(
    app: Durable, storage: VirtualStorage
) -> None:
    async def act(ctx: TimerContext, text: str) -> None:
        if text == "ends all":
            assert await app.timers.cancel_all(owner=ctx.owner) == 3

    notes = Notes(app, storage, act)
    async with app_under_test(app, storage=storage) as kit:
        await app.timers.every(1, notes.child("ends all"), owner="o")
        await app.timers.every(5, notes.child("never"), owner="o")
        await app.timers.after(5, notes.child("never"), owner="o")
        await app.timers.after(6, notes.child("other"), owner="p")
        await kit.clock.advance("1h")
        assert notes.fired == [("ends all", 1.0), ("other", 6.0)]
        await app.timers.after(1, notes.child("again"), owner="o")
        await kit.clock.advance(1)
        assert notes.fired[2][0] == "again"


@dataclass
class Order:
    lines: dict[str, list[int]]
    stamp: bytes
    at: datetime
    price: Decimal


async def test_tm_15_arguments_come_back_as_they_were(app: Durable, storage: VirtualStorage) -> None:
    got: list[tuple[Order, int]] = []

    @app.task
    def ship(order: Order, *, times: int) -> None:
        got.append((order, times))

    order = Order({"a": [1, 2]}, b"\x00\xff", datetime(2031, 5, 6, tzinfo=UTC), Decimal("1.10"))
    async with app_under_test(app, storage=storage) as kit:
        await app.timers.after(0, ship.child(order, times=2), owner="o")
        await kit.drain()
        assert got == [(order, 2)]


async def test_tm_16_get_and_list_show_attempt_next_time_and_last_error(app: Durable, storage: VirtualStorage) -> None:
    notes = Notes(app, storage, failing(2))
    async with app_under_test(app, storage=storage) as kit:
        start = kit.clock.now()
        timer = await app.timers.every("1m", notes.child("a"), owner="o", name="n", retry_interval="10s")
        assert timer == Timer(
            timer.id, "o", "n", "note", start + timedelta(minutes=1), 60.0, 10.0, 0, None, start, True
        )
        await kit.clock.advance("70s")
        shown = await app.timers.get(timer.id)
        assert shown is not None
        assert (shown.attempt, shown.due_at) == (2, start + timedelta(seconds=80))
        assert shown.last_error is not None
        assert (shown.last_error.type, shown.last_error.message) == ("ValueError", "no 2")
        assert await app.timers.list(owner="o") == [shown]
        assert await app.timers.list(owner="o", after=shown) == []


async def test_a_timer_takes_no_place_in_a_pool_and_calls_nothing_back(app: Durable, storage: VirtualStorage) -> None:
    pool = app.pool("mails")

    @pool.task
    async def mail(n: int) -> None: ...

    @app.task
    async def ended(end: Completion[None, None]) -> None: ...

    async with app_under_test(app, storage=storage):
        with pytest.raises(ConfigurationError, match="pool 'mails'"):
            await app.timers.after("1m", mail.child(1), owner="o")
        with pytest.raises(ConfigurationError, match="calls nothing back"):
            await app.timers.after("1m", mail.child(1, queue="default", on_complete=OnComplete(ended)), owner="o")
        assert await app.timers.list(owner="o") == []
