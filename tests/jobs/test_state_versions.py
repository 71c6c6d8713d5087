"""States that code of another version has stored: what may be read and written over, and what is kept."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from durable import Durable
from durable.jobs import (
    Continuous,
    ContinuousContext,
    EventContext,
    ShownStatus,
    StateVersionMismatch,
    Task,
    every,
)
from durable.testing import VirtualStorage, app_under_test

_UNREACHABLE = "postgresql://nobody@nowhere.invalid/nothing"


def total(**options: Any) -> tuple[Durable, Task[int, int], list[Any]]:
    """A Task that adds its events up, as a deployment of its own has it."""
    app = Durable(_UNREACHABLE)
    job = app.task_job("total", state=int, event=int, **options)
    previous: list[Any] = []

    @job.on_event
    async def on_event(ctx: EventContext[int, int], event: int) -> None:
        previous.append(ctx.previous_error)
        ctx.set_state((ctx.state or 0) + event)

    return app, job, previous


def ticker(**options: Any) -> tuple[Durable, Continuous[int]]:
    app = Durable(_UNREACHABLE)

    @app.continuous(name="ticker", state=int, schedule=every("1h"), **options)
    async def tick(ctx: ContinuousContext[int]) -> None:
        ctx.set_state(ctx.state + 1)

    return app, tick


def unchanged(raw: Any, version: int) -> Any:
    return raw


async def test_older_code_keeps_a_turn_on_a_newer_state_until_newer_code_runs_it(storage: VirtualStorage) -> None:
    new_app, new, previous = total(state_version=2, migrate=unchanged)
    old_app, old, handled = total()
    async with app_under_test(new_app, storage=storage):
        await new.send("k", 1, wait=True)
    async with app_under_test(old_app, storage=storage) as kit:
        await old.send("k", 10, event_id="ten")
        await kit.drain()
        status = await old.status("k")
        assert (status.status, status.attempt, status.dead_letters) == (ShownStatus.ACTIVE, 0, 0)
        assert status.next_run_at == kit.clock.now() + timedelta(seconds=30)
        assert status.last_error is not None
        assert status.last_error.type == "StateVersionMismatch"
        assert "is of version 2, this code's is 1" in status.last_error.message
        await kit.clock.advance("1h")  # it is tried again all the time, and never used up
        assert (await old.status("k")).dead_letters == 0
        assert handled == []
    async with app_under_test(new_app, storage=storage) as kit:
        await kit.clock.advance("31s")
        assert (await new.state("k")).state == 11
        assert (await new.status("k")).last_error is None
        assert previous == [None, None]


async def test_a_state_of_another_version_is_read_only_as_it_is_stored(storage: VirtualStorage) -> None:
    new_app, new, _ = total(state_version=3)
    old_app, old, _ = total(state_version=2, migrate=unchanged)
    async with app_under_test(new_app, storage=storage):
        await new.send("k", 7, wait=True)
    async with app_under_test(old_app, storage=storage):
        with pytest.raises(StateVersionMismatch, match="newer code has stored it") as caught:
            await old.state("k")
        error = caught.value
        assert (error.instance_id, error.stored_version, error.code_version) == ("task:total:k", 3, 2)
        assert error.raw_state == 7
        assert (await old.status("k")).status is ShownStatus.IDLE


async def test_an_older_state_needs_a_migrate(storage: VirtualStorage) -> None:
    first_app, first, _ = total()
    bare_app, bare, _ = total(state_version=2)
    migrating_app, migrating, _ = total(state_version=2, migrate=lambda raw, version: raw * 100 + version)
    async with app_under_test(first_app, storage=storage):
        await first.send("k", 1, wait=True)
    async with app_under_test(bare_app, storage=storage) as kit:
        await bare.send("k", 10)
        await kit.drain()
        status = await bare.status("k")
        assert status.last_error is not None
        assert "declare a migrate=" in status.last_error.message
        with pytest.raises(StateVersionMismatch, match="is of version 1, this code's is 2"):
            await bare.state("k")
    async with app_under_test(migrating_app, storage=storage) as kit:
        assert (await migrating.state("k")).state == 101
        await kit.clock.advance("31s")
        assert (await migrating.state("k")).state == 111


async def test_a_job_without_a_state_has_no_version_to_mind(storage: VirtualStorage) -> None:
    new_app, new, _ = total(state_version=2)
    old_app, old, _ = total()
    async with app_under_test(new_app, storage=storage) as kit:
        await new.send("k", 1)
    async with app_under_test(old_app, storage=storage) as kit:
        await kit.drain()
        assert (await old.state("k")).state == 1


async def test_a_run_of_a_continuous_is_kept_and_keeps_its_slot(storage: VirtualStorage) -> None:
    new_app, new = ticker(state_version=2)
    old_app, old = ticker(on_exhausted="purge")
    async with app_under_test(new_app, storage=storage):
        await new.start("k", 1, wait=True)
    async with app_under_test(old_app, storage=storage) as kit:
        await kit.clock.advance("90m")
        status = await old.status("k")
        assert (status.status, status.run_count) == (ShownStatus.RUNNING, 1)
        assert status.last_error is not None
        assert status.last_error.type == "StateVersionMismatch"
    async with app_under_test(new_app, storage=storage) as kit:
        await new.trigger("k")  # now, and not when it would be tried again
        await kit.drain()
        assert await new.state("k") == 3
        assert (await new.status("k")).run_count == 2
