"""Turns that end their own job: what is told to those who wait, and what becomes of the events they did not see."""

from __future__ import annotations

import asyncio

import pytest

from durable import Durable, every
from durable.jobs import (
    Continuous,
    ContinuousContext,
    DebounceContext,
    EventContext,
    ExecuteContext,
    InstanceNotFound,
    InvalidJobState,
    Task,
)
from durable.testing import VirtualStorage, app_under_test

from .crew import Door, client_only, reached, turned

CLOSE = "close"


def account(app: Durable, door: Door) -> tuple[Task[list[str], str], list[tuple[int, int, str]]]:
    """An account that handles transfers, and is closed by an event; with (epoch, number, event) of what it handled.

    Before it closes, it waits at the door.
    """
    handled: list[tuple[int, int, str]] = []
    job = app.task_job("account", state=list[str], event=str)

    @job.on_event
    async def on_event(ctx: EventContext[list[str], str], event: str) -> None:
        handled.append((ctx.epoch, ctx.event_number, event))
        ctx.set_state([*(ctx.state or []), event])
        if event == CLOSE:
            await door.hold()
            ctx.terminate("closed")
        if event == "broken":
            raise ValueError(event)

    @job.execute
    async def execute(ctx: ExecuteContext[list[str]]) -> None:
        await door.hold()
        ctx.terminate("executed")

    return job, handled


def opened() -> Door:
    door = Door()
    door.open()
    return door


# --- waiting -------------------------------------------------------------------------------------------------


async def test_a_send_that_waits_returns_when_the_turn_of_its_event_ends_the_job(
    app: Durable, storage: VirtualStorage
) -> None:
    job, handled = account(app, opened())
    async with app_under_test(app, storage=storage):
        sent = await job.send("k", CLOSE, wait=True)
        assert (sent.created, handled) == (True, [(1, 1, CLOSE)])
        status = await job.status("k")
        assert (status.status, status.reason) == ("terminated", "closed")


async def test_a_send_that_waits_behind_the_end_of_the_job_waits_for_its_own_turn(
    app: Durable, storage: VirtualStorage
) -> None:
    door = Door()
    job, handled = account(app, door)
    async with app_under_test(app, storage=storage):
        first = asyncio.create_task(job.send("k", CLOSE, wait=True))
        await reached(door)
        second = asyncio.create_task(job.send("k", "10 €", wait=True))
        while (await job.status("k")).pending_count == 0:
            await turned()
        door.open()
        await asyncio.gather(first, second)
        assert handled == [(1, 1, CLOSE), (2, 1, "10 €")]
        assert (await job.state("k")).state == ["10 €"]


async def test_a_send_that_waits_is_told_that_the_job_was_ended_before(app: Durable, storage: VirtualStorage) -> None:
    door = Door()
    job, handled = account(app, door)
    async with app_under_test(app, storage=storage):
        await job.send("k", CLOSE)
        await reached(door)
        waiting = asyncio.create_task(job.send("k", "10 €", event_id="ten", wait=True))
        while (await job.status("k")).pending_count == 0:
            await turned()
        await job.terminate("k")
        with pytest.raises(InstanceNotFound, match="before event 'ten' was handled"):
            await waiting
        door.open()
        assert handled == [(1, 1, CLOSE)]


async def test_a_trigger_that_waits_returns_when_its_turn_ends_the_job(app: Durable, storage: VirtualStorage) -> None:
    job, _ = account(app, opened())
    async with app_under_test(app, storage=storage):
        await job.send("k", "10 €", wait=True)
        assert (await job.trigger("k", wait=True)).triggered
        assert (await job.status("k")).reason == "executed"


async def test_a_trigger_behind_the_turn_that_ends_the_job_is_not_taken_for_done(
    app: Durable, storage: VirtualStorage
) -> None:
    door = Door()
    job, _ = account(app, door)
    async with app_under_test(app, storage=storage):
        await job.send("k", CLOSE)
        await reached(door)
        waiting = asyncio.create_task(job.trigger("k", wait=True))
        view = None
        while view is None or not view.job.is_triggered:
            (view,) = await app.storage.get_jobs([job.__calls__.spec.job_key("k")])
        door.open()
        with pytest.raises(InstanceNotFound, match="was ended before the turn that was asked for"):
            await waiting


async def test_a_trigger_whose_job_is_ended_or_paused_before_it_runs(app: Durable, storage: VirtualStorage) -> None:
    refresher = ending_run(app, "never")
    async with client_only(storage, app):
        for call, expected in ((refresher.terminate, InstanceNotFound), (refresher.pause, InvalidJobState)):
            await refresher.start("k", 0)
            waiting = asyncio.create_task(refresher.trigger("k", wait=True))
            view = None
            while view is None or not view.job.is_triggered:
                (view,) = await app.storage.get_jobs([refresher.__calls__.spec.job_key("k")])
            await call("k")
            with pytest.raises(expected):
                await waiting


def ending_run(app: Durable, reason: str) -> Continuous[int]:
    @app.continuous(state=int, schedule=every("1h"))
    async def refresher(ctx: ContinuousContext[int]) -> None:
        ctx.terminate(reason)

    return refresher


async def test_a_start_that_waits_returns_when_the_first_run_ends_the_job(
    app: Durable, storage: VirtualStorage
) -> None:
    refresher = ending_run(app, "done")
    async with app_under_test(app, storage=storage):
        started = await refresher.start("k", 0, wait=True)
        assert (started.created, started.status) == (True, "terminated")


async def test_a_start_that_waits_is_told_that_the_job_was_ended_before(app: Durable, storage: VirtualStorage) -> None:
    refresher = ending_run(app, "never")
    async with client_only(storage, app):
        waiting = asyncio.create_task(refresher.start("k", 0, wait=True))
        while (await refresher.status("k")).status == "not_found":
            await turned()
        await refresher.terminate("k")
        with pytest.raises(InstanceNotFound, match="was ended before its turn began"):
            await waiting


async def test_a_flush_that_waits_returns_when_it_ends_the_job(app: Durable, storage: VirtualStorage) -> None:
    door = Door()
    flushed: list[tuple[int, list[int]]] = []

    @app.debounce(event=int, flush_after="10s")
    async def batcher(ctx: DebounceContext[int, int]) -> None:
        flushed.append((ctx.epoch, list(ctx.events)))
        await door.hold()
        ctx.terminate("enough")

    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        waiting = asyncio.create_task(batcher.flush("k", wait=True))
        await reached(door)
        await batcher.add("k", 2)
        door.open()
        assert (await waiting).flushed
        await kit.clock.advance("9s")
        assert flushed == [(1, [1])]
        await kit.clock.advance("1s")
        assert flushed == [(1, [1]), (2, [2])]
        status = await batcher.status("k")
        assert (status.status, status.reason) == ("terminated", "enough")
        assert [event.name for event in kit.events(task=batcher)] == [
            "debounce.started", "debounce.started", "job.terminated", "job.terminated",
        ]  # fmt: skip


# --- what the ending turn did not see --------------------------------------------------------------------------


async def test_no_event_is_lost_to_a_turn_that_ends_its_job(app: Durable, storage: VirtualStorage) -> None:
    door = Door()
    job, handled = account(app, door)
    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "1 €", wait=True)
        await job.send("k", CLOSE)
        await reached(door)
        for euros in (2, 3):
            await job.send("k", f"{euros} €")
        door.open()
        await kit.drain()
        assert handled == [(1, 1, "1 €"), (1, 2, CLOSE), (2, 1, "2 €"), (2, 2, "3 €")]
        assert (await job.state("k")).state == ["2 €", "3 €"]
        status = await job.status("k")
        assert (status.status, status.event_count, status.reason) == ("idle", 2, None)
        assert [event.name for event in kit.events(task=job)] == [
            "job.started", "job.executed", "job.terminated", "job.started", "job.executed", "job.executed",
        ]  # fmt: skip


async def test_an_event_that_ended_its_job_is_not_handled_again(app: Durable, storage: VirtualStorage) -> None:
    job, handled = account(app, opened())
    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", CLOSE, event_id="transfer-1", wait=True)
        assert (await job.send("k", CLOSE, event_id="transfer-1")).duplicate
        await job.send("k", "2 €")
        assert (await job.send("k", CLOSE, event_id="transfer-1")).duplicate
        await kit.drain()
        assert handled == [(1, 1, CLOSE), (2, 1, "2 €")]


async def test_dead_letters_outlive_the_turn_that_ends_their_job(app: Durable, storage: VirtualStorage) -> None:
    job, handled = account(app, opened())
    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "broken")
        await job.send("k", CLOSE, wait=True)
        status = await job.status("k")
        assert (status.status, status.dead_letters) == ("terminated", 1)
        assert (await job.redrive("k")).redriven
        await kit.drain()
        assert handled == [(1, 1, "broken"), (1, 2, CLOSE), (2, 1, "broken")]


async def test_a_call_that_ends_the_job_throws_its_events_away(app: Durable, storage: VirtualStorage) -> None:
    door = Door()
    job, handled = account(app, door)
    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", CLOSE)
        await reached(door)
        await job.send("k", "2 €")
        await job.terminate("k")
        door.open()
        await kit.drain()
        assert (await job.status("k")).status == "terminated"
        assert handled == [(1, 1, CLOSE)]


async def test_an_end_from_outside_remembers_the_ids_of_handled_events(app: Durable, storage: VirtualStorage) -> None:
    handled: list[int] = []
    job = app.task_job("account", state=int, event=int, dedupe_window="1h")

    @job.on_event
    async def on_event(ctx: EventContext[int, int], event: int) -> None:
        handled.append(event)

    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", 1, event_id="a")
        await kit.drain()
        assert (await job.terminate("k", reason="closed")).terminated
        assert (await job.send("k", 1, event_id="a")).duplicate
        await job.send("k", 2, event_id="b")
        assert (await job.send("k", 1, event_id="a", wait=True)).duplicate
        await kit.drain()
        assert handled == [1, 2]
        await kit.clock.advance("1h")
        assert not (await job.send("k", 1, event_id="a")).duplicate
        await kit.drain()
        assert handled == [1, 2, 1]
