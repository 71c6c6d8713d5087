"""Timers beside their plan: timeouts, unknown tasks, bad input, crashes, transactions, the blocking client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from durable import Child, ConfigurationError, Durable, TaskContext
from durable.jobs import Timer, TimerContext
from durable.testing import VirtualStorage, app_under_test
from storage_postgres.testing.virtual import VirtualPostgres

from .crew import Door, crew, drained, reached
from .stage import lose_lease
from .timing import Notes


async def test_a_start_that_takes_longer_than_its_task_may_is_a_failure(app: Durable, storage: VirtualStorage) -> None:
    seen: list[str | None] = []

    @app.task(timeout=0.01)
    async def slow(ctx: TaskContext) -> None:
        seen.append(ctx.previous_error and ctx.previous_error.type)
        if len(seen) == 1:
            await asyncio.Event().wait()

    async with app_under_test(app, storage=storage) as kit:
        await app.timers.after(0, slow.child(), owner="o")
        await kit.clock.advance("1m")
        assert seen == [None, "timed_out"]


async def test_a_timer_of_an_unknown_task_is_put_off_for_an_executor_that_knows_it(storage: VirtualStorage) -> None:
    knowing, other = Durable("memory:"), Durable("memory:")
    notes, rest = Notes(knowing, storage), Notes(other, storage)

    @knowing.task
    async def known_here() -> None:
        notes.fired.append(("known", 0.0))

    async with crew(storage, other) as kits:
        timer = await other.timers.after(0, known_here.child(), owner="o")
        await other.timers.after(0, rest.child("goes on"), owner="o")
        await drained(kits)
        assert [text for text, _ in rest.fired] == ["goes on"]
        put_off = await other.timers.get(timer.id)
        assert put_off is not None
        assert (put_off.attempt, put_off.due_at) == (0, kits[0].clock.now() + timedelta(minutes=1))
        assert put_off.last_error is not None
        assert "known_here" in put_off.last_error.message
    async with crew(storage, knowing) as kits:
        await kits[0].clock.advance("1m")
        assert notes.fired == [("known", 0.0)]


async def test_what_cannot_be_meant_is_refused_at_the_call(app: Durable, storage: VirtualStorage) -> None:
    notes = Notes(app, storage)
    sleeper = app.sleeping("sleeper", str)
    call = notes.child("a")
    async with app_under_test(app, storage=storage):
        timers = app.timers
        for refused, word in [
            (lambda: timers.at(datetime(2030, 1, 1), call, owner="o"), "no time zone"),  # noqa: DTZ001
            (lambda: timers.after(-1, call, owner="o"), "delay"),
            (lambda: timers.every(0, call, owner="o"), "interval"),
            (lambda: timers.every("4000d", call, owner="o"), "interval"),
            (lambda: timers.every(1, call, owner="o", anchor="end"), "anchor"),  # type: ignore[arg-type]
            (lambda: timers.after(1, call, owner=""), "owner"),
            (lambda: timers.after(1, call, owner="o", name=""), "name"),
            (lambda: timers.after(1, call, owner="o", retry_interval=0), "retry_interval"),
            (lambda: timers.after(1, call, owner="o", retries=1), "retries"),  # type: ignore[call-arg]
            (lambda: timers.after(1, "note", owner="o"), "task.child"),  # type: ignore[arg-type]
            (lambda: timers.after(1, sleeper.child("id"), owner="o"), "sleeping"),
            (lambda: timers.list(owner="o", limit=0), "limit"),
        ]:
            with pytest.raises(ConfigurationError, match=word):
                await refused()  # type: ignore[no-untyped-call]
        assert await timers.list(owner="o") == []


async def test_the_blocking_client_does_the_same(app: Durable, storage: VirtualStorage) -> None:
    notes = Notes(app, storage)
    async with app_under_test(app, storage=storage) as kit:

        def calls() -> tuple[Timer, list[Timer]]:
            with app.client() as client:
                timers = client.timers
                kept = timers.every(5, notes.child("kept"), owner="o", name="n")
                assert timers.named("n", owner="o") == kept == timers.get(kept.id)
                gone = timers.after(1, notes.child("gone"), owner="o")
                assert timers.cancel(gone.id)
                timers.at(storage.now(), notes.child("gone"), owner="o", name="m")
                assert timers.cancel_named("m", owner="o")
                timers.after(1, notes.child("gone"), owner="p")
                assert timers.cancel_all(owner="p") == 1
                return kept, timers.list(owner="o")

        kept, listed = await asyncio.to_thread(calls)
        assert listed == [kept]
        await kit.clock.advance(5)
        assert notes.fired == [("kept", 5.0)]


async def test_one_that_keeps_killing_its_process_waits_for_its_retry_interval(
    app: Durable, storage: VirtualStorage
) -> None:
    async def act(ctx: TimerContext, text: str) -> None:
        if text == "deadly" and ctx.attempt <= 5:
            await lose_lease(kit, storage)

    notes = Notes(app, storage, act)
    async with app_under_test(app, storage=storage) as kit:
        timer = await app.timers.after(0, notes.child("deadly"), owner="o", retry_interval="1d")
        await app.timers.after(0, notes.child("next"), owner="o")
        await kit.drain()
        assert [text for text, _ in notes.fired] == ["deadly"] * 5 + ["next"]
        shown = await app.timers.get(timer.id)
        assert shown is not None
        assert shown.last_error is not None
        assert (shown.last_error.type, shown.due_at) == ("poisoned", kit.clock.now() + timedelta(days=1))
        await kit.clock.advance("1d")
        assert notes.fired[-1][0] == "deadly"
        assert await app.timers.list(owner="o") == []


async def test_an_executor_that_stops_gives_the_timer_back(storage: VirtualStorage) -> None:
    door, starts = Door(), list[int]()

    def made() -> tuple[Durable, Callable[[str], Child[None]]]:
        app = Durable("memory:")

        async def act(ctx: TimerContext, text: str) -> None:
            starts.append(ctx.attempt)
            if len(starts) == 1:
                await door.hold()

        return app, Notes(app, storage, act).child

    first, call = made()
    async with crew(storage, first, grace=0) as kits:
        await first.timers.after(0, call("a"), owner="o")
        draining = asyncio.create_task(kits[0].drain())
        await reached(door)
        draining.cancel()
    second, _ = made()
    async with crew(storage, second) as kits:
        await kits[0].drain()
        assert starts == [1, 2]
        assert await second.timers.list(owner="o") == []


async def test_a_timer_is_set_and_cancelled_with_the_callers_transaction(
    app: Durable, durable_postgres: VirtualStorage
) -> None:
    assert isinstance(durable_postgres, VirtualPostgres)
    notes = Notes(app, durable_postgres)
    async with (
        app_under_test(app, storage=durable_postgres) as kit,
        await psycopg.AsyncConnection.connect(durable_postgres.dsn) as connection,
    ):
        await app.timers.after(1, notes.child("lost"), owner="o", connection=connection)
        assert await app.timers.list(owner="o") == []
        await connection.rollback()
        kept = await app.timers.after(2, notes.child("kept"), owner="o", connection=connection)
        await connection.commit()
        assert await app.timers.cancel(kept.id, connection=connection)
        await connection.rollback()
        assert await app.timers.list(owner="o") == [kept]
        await kit.clock.advance("1m")
        assert notes.fired == [("kept", 2.0)]


async def test_a_task_in_a_thread_is_given_its_signal_when_its_time_is_over(
    app: Durable, storage: VirtualStorage
) -> None:
    ended: list[tuple[int, bool]] = []

    @app.task(timeout=0.05)
    def slow(ctx: TaskContext) -> None:
        ended.append((ctx.attempt, ctx.attempt > 1 or ctx.cancel_signal.wait(30)))

    async with app_under_test(app, storage=storage) as kit:
        timer = await app.timers.every("1h", slow.child(), owner="o")
        await kit.clock.advance("1h")
        failed = await app.timers.get(timer.id)
        assert failed is not None
        assert failed.last_error is not None
        assert (failed.attempt, failed.last_error.type) == (1, "timed_out")


@pytest.mark.parametrize("timer_id", [None, 5, b"id"])
async def test_an_id_that_is_no_text_is_refused_in_words_about_timers(
    app: Durable, storage: VirtualStorage, timer_id: Any
) -> None:
    async with app_under_test(app, storage=storage):
        for call in (app.timers.get, app.timers.cancel):
            with pytest.raises(ConfigurationError, match=r"^timer_id is .*; give the id of a timer, a str$"):
                await call(timer_id)
        assert await app.timers.get("nothing of ours") is None
