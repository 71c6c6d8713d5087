"""Continuous: a run that has begun is tried to its end whatever slots pass, and no trigger takes a slot away."""

from __future__ import annotations

from datetime import timedelta

import pytest

from durable import Durable, Retry, constant, every
from durable.jobs import ContinuousContext, ShownStatus
from durable.testing import VirtualStorage, app_under_test

from .crew import Door, client_only, reached
from .stage import lose_lease
from .test_continuous_schedule import GRID, MINUTE, Runs, minutes, next_run, runs

__all__ = ["runs"]


def retried_after(delay: str, attempts: int = 3) -> Retry:
    return Retry(attempts, constant(delay), jitter=0)


@pytest.mark.parametrize("name", GRID)
async def test_ret_01_retries_that_last_longer_than_the_interval_are_all_made(
    app: Durable, storage: VirtualStorage, runs: Runs, name: str
) -> None:
    job = runs.declare(app, GRID[name], retry=retried_after("15m"))

    def fail(run: int) -> None:
        raise ValueError(f"no {run}")

    runs.act = fail
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0)
        await kit.clock.advance("16m")
        status = await job.status("k")
        assert (status.attempt, status.last_error and status.last_error.message) == (2, "no 2")
        await kit.clock.advance("3h")
        assert (runs.at, runs.slots) == ([0, 15, 30], [0, 0, 0])
        status = await job.status("k")
        assert (status.status, status.last_error and status.last_error.message) == (ShownStatus.FAILED, "no 3")


@pytest.mark.parametrize("name", GRID)
async def test_a_retry_after_the_next_slot_leaves_that_to_catch_up(
    app: Durable, storage: VirtualStorage, runs: Runs, name: str
) -> None:
    job = runs.declare(app, GRID[name], retry=retried_after("25m"))

    def fail_first(run: int) -> None:
        if run == 1:
            raise ValueError

    runs.act = fail_first
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0)
        await kit.clock.advance("30m")
        expected: list[float] = [0, 0, 10, 20, 30] if name.endswith("all") else [0, 0, 30]
        assert runs.slots == expected
        assert runs.at[:2] == [0, 25]


@pytest.mark.parametrize("way", ["stop", "crash"])
@pytest.mark.parametrize("name", GRID)
async def test_a_run_cut_short_runs_again_though_the_next_slot_has_passed(
    app: Durable, storage: VirtualStorage, name: str, way: str
) -> None:
    door = Door()
    begun: list[tuple[str, float]] = []

    @app.continuous(state=int, schedule=GRID[name])
    async def job(ctx: ContinuousContext[int]) -> None:
        assert ctx.scheduled_for is not None
        begun.append((ctx.execution_id, minutes(ctx.scheduled_for)))
        if len(begun) > 1:
            ctx.set_state(ctx.run_count)
        elif way == "stop":
            await door.hold()
        else:
            await lose_lease(kit, storage)

    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0)
        if way == "stop":
            await reached(door)
        else:
            await kit.drain()
    if way == "stop":
        storage.move_to(storage.now() + 25 * MINUTE)
    async with app_under_test(app, storage=storage) as kit:
        await kit.drain()
        assert begun[0] == begun[1]
        assert await job.state("k") == (await job.status("k")).run_count >= 1
        assert await next_run(job) % 10 == 0


# --- triggers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("delay", "end"), [("10m", 15.0), ("22m", 27.0)])
@pytest.mark.parametrize("name", GRID)
async def test_con_10_slots_that_pass_during_a_triggered_run_are_left_to_catch_up(
    app: Durable, storage: VirtualStorage, runs: Runs, name: str, delay: str, end: float
) -> None:
    job = runs.declare(app, GRID[name], retry=retried_after(delay))

    def fail_second(run: int) -> None:
        if run == 2:
            raise ValueError

    runs.act = fail_second
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0, wait=True)
        await kit.clock.advance("5m")
        await job.trigger("k")
        await kit.clock.advance(timedelta(minutes=end - 5))
        late: dict[str, list[float]] = {"one": [10], "all": [10, 20]}
        made_up = [10.0] if end == 15 else late.get(name.split(", ")[1], [])
        assert runs.slots == [0, None, None, *made_up]
        assert runs.at == [0, 5, end] + [end] * len(made_up)
        assert await next_run(job) == (20 if end == 15 else 30)
        await kit.clock.advance("30m")
        assert runs.slots[-2:] == runs.at[-2:]


@pytest.mark.parametrize("name", GRID)
async def test_con_24_a_trigger_of_a_run_that_is_due_is_that_run(
    app: Durable, storage: VirtualStorage, runs: Runs, name: str
) -> None:
    job = runs.declare(app, GRID[name])
    async with app_under_test(app, storage=storage):
        await job.start("k", 0, wait=True)
    storage.move_to(storage.now() + 35 * MINUTE)
    async with client_only(storage, app):
        assert (await job.trigger("k")).triggered
    async with app_under_test(app, storage=storage) as kit:
        await kit.drain()
        assert runs.slots == ([0, None, 20, 30] if name.endswith("all") else [0, None])
        assert await next_run(job) == 40


async def test_con_10_a_trigger_before_the_slot_leaves_an_interval_from_completion_to_count_anew(
    app: Durable, storage: VirtualStorage, runs: Runs
) -> None:
    job = runs.declare(app, every("10m"), retry=retried_after("10m"))

    def fail_second(run: int) -> None:
        if run == 2:
            raise ValueError

    runs.act = fail_second
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0, wait=True)
        await kit.clock.advance("5m")
        await job.trigger("k")
        await kit.clock.advance("30m")
        assert runs.at == [0, 5, 15, 25, 35]
