"""Continuous: when it runs next, however late, long or often it ran before, and what a pause does to that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable import ConfigurationError, Durable, Retry, Schedule, constant, cron, every
from durable.jobs import Continuous, ContinuousContext, InvalidJobState, PauseResult, ShownStatus
from durable.testing import Kit, VirtualStorage, app_under_test

from .crew import Door, Watch, reached

MINUTE = timedelta(minutes=1)
ID = "continuous:job:k"
START = datetime(2030, 1, 1, tzinfo=UTC)


class Runs:
    """When each run began, for which slot, and what to do in it."""

    def __init__(self, storage: VirtualStorage) -> None:
        self._storage = storage
        self.at: list[float] = []
        self.slots: list[float | None] = []
        self.act: Callable[[int], Any] = lambda _: None

    def declare(self, app: Durable, schedule: Schedule, **options: Any) -> Continuous[int]:
        @app.continuous(state=int, schedule=schedule, name="job", **options)
        async def job(ctx: ContinuousContext[int]) -> None:
            slot = ctx.scheduled_for
            self.at.append(minutes(self._storage.now()))
            self.slots.append(None if slot is None else minutes(slot))
            ctx.update_state(lambda n: n + 1)
            self.act(len(self.at))

        return job


def minutes(at: datetime) -> float:
    return (at - START) / MINUTE


@pytest.fixture
def runs(storage: VirtualStorage) -> Runs:
    return Runs(storage)


async def next_run(job: Continuous[int]) -> float:
    at = (await job.status("k")).next_run_at
    assert at is not None
    return minutes(at)


async def come_late(kit: Kit, storage: VirtualStorage, late: float) -> None:
    """Time goes on while no executor looks, and then one does."""
    storage.move_to(storage.now() + late * MINUTE)
    await kit.drain()


GRID = {
    "grid, skip": every("10m", anchor="schedule"),
    "grid, one": every("10m", anchor="schedule", catch_up="one"),
    "grid, all": every("10m", anchor="schedule", catch_up="all"),
    "cron, skip": cron("*/10 * * * *"),
    "cron, one": cron("*/10 * * * *", catch_up="one"),
    "cron, all": cron("*/10 * * * *", catch_up="all"),
}
SCHEDULES = {"completion": every("10m"), **GRID}


@pytest.mark.parametrize(("anchor", "expected"), [("completion", 70.0), ("schedule", 60.0)])
async def test_con_06_a_run_that_came_late(
    app: Durable, storage: VirtualStorage, runs: Runs, anchor: Any, expected: float
) -> None:
    job = runs.declare(app, every("30m", anchor=anchor))
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0, wait=True)
        await come_late(kit, storage, 40)
        assert runs.at == [0, 40]
        assert await next_run(job) == expected


@pytest.mark.parametrize("name", GRID)
async def test_con_07_slots_that_nobody_used(app: Durable, storage: VirtualStorage, runs: Runs, name: str) -> None:
    job = runs.declare(app, GRID[name])
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0, wait=True)
        await come_late(kit, storage, 55)
        made_up: dict[str, list[float]] = {"skip": [], "one": [10], "all": [10, 20, 30, 40, 50]}
        expected = made_up[name.split(", ")[1]]
        assert runs.slots[1:] == expected
        assert runs.at[1:] == [55] * len(expected)
        assert await next_run(job) == 60
        await kit.clock.advance("25m")
        assert runs.slots[-3:] == runs.at[-3:] == [60, 70, 80]
        assert (await job.status("k")).run_count == len(runs.at)


@pytest.mark.parametrize("fails", [False, True], ids=["ends well", "fails"])
@pytest.mark.parametrize("name", SCHEDULES)
async def test_con_08_a_run_longer_than_the_interval(
    storage: VirtualStorage, runs: Runs, name: str, fails: bool
) -> None:
    watch = Watch(storage)
    app = Durable("memory:", clock=watch)
    job = runs.declare(app, SCHEDULES[name])

    def take_long(run: int) -> None:
        if run == 1:
            watch.take(minutes=25)
            if fails:
                raise ValueError

    runs.act = take_long
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0)
        await kit.drain()
        await kit.clock.advance("20m")
        assert runs.at[1:] == {"completion": [35, 45], "all": [25, 25, 30, 40]}.get(name.rpartition(", ")[2], [30, 40])


@pytest.mark.parametrize(
    ("expression", "zone", "start", "expected"),
    [
        ("0 12 * * *", "UTC", "2030-03-01T12:00", ["03-02T12:00", "03-03T12:00"]),
        ("30 0 0 1 * *", "UTC", "2030-01-31T23:00", ["02-01T00:00:30", "03-01T00:00:30"]),
        ("0 9 * * *", "Asia/Tokyo", "2030-03-01T01:00", ["03-02T00:00", "03-03T00:00"]),
        ("30 2 * * *", "America/New_York", "2026-03-07T12:00", ["03-08T07:00", "03-09T06:30"]),
        ("30 1 * * *", "America/New_York", "2026-10-31T12:00", ["11-01T05:30", "11-02T06:30"]),
        ("0 0 13 * FRI", "UTC", "2026-11-07T00:00", ["11-13T00:00", "11-20T00:00"]),
        ("0 0 15 * FRI", "UTC", "2026-11-07T00:00", ["11-13T00:00", "11-15T00:00"]),
    ],
    ids=["strictly after", "six fields", "zone", "gap", "repeated hour", "day OR day, both", "day OR day, one"],
)
async def test_con_09_cron(
    app: Durable, storage: VirtualStorage, expression: str, zone: str, start: str, expected: list[str]
) -> None:
    slots: list[datetime] = []

    @app.continuous(state=int, schedule=cron(expression, zone), start_immediately=False)
    async def job(ctx: ContinuousContext[int]) -> None:
        assert ctx.scheduled_for == ctx.execution_started_at
        slots.append(ctx.execution_started_at)
        if len(slots) == 2:
            ctx.terminate()

    at = datetime.fromisoformat(start).replace(tzinfo=UTC)
    async with app_under_test(app, storage=storage, at=at) as kit:
        await job.start("k", 0)
        await kit.clock.advance("40d")
    assert slots == [datetime.fromisoformat(f"{at.year}-{each}").replace(tzinfo=UTC) for each in expected]


async def test_con_09_a_run_that_ends_exactly_on_a_slot_leaves_it_out(storage: VirtualStorage, runs: Runs) -> None:
    watch = Watch(storage)
    app = Durable("memory:", clock=watch)
    job = runs.declare(app, cron("*/10 * * * *"))
    runs.act = lambda run: watch.take(minutes=10) if run == 1 else None
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0, wait=True)
        await kit.drain()
        assert await next_run(job) == 20


@pytest.mark.parametrize("expression", ["", "* * *", "61 * * * *", "0 0 30 2 *", "every day", "0 0 * * FRI-SUN"])
def test_con_09_a_bad_expression_is_refused_where_it_is_written(expression: str) -> None:
    with pytest.raises(ConfigurationError):
        cron(expression)


async def test_con_18_a_failure_without_retry_is_shown_and_the_next_slot_stands(
    app: Durable, storage: VirtualStorage, runs: Runs
) -> None:
    job = runs.declare(app, every("10m"))

    def fail_once(run: int) -> None:
        if run == 2:
            raise ValueError("out of luck")

    runs.act = fail_once
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0, wait=True)
        await kit.clock.advance("10m")
        status = await job.status("k")
        assert (status.status, status.run_count) == (ShownStatus.RUNNING, 1)
        assert status.last_error is not None
        assert status.last_error.message == "out of luck"
        assert status.next_run_at == kit.clock.now() + 10 * MINUTE
        assert await job.state("k") == 1
        await kit.clock.advance("10m")
        status = await job.status("k")
        assert (runs.at, status.run_count, status.last_error) == ([0, 10, 20], 2, None)


# --- pause -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
async def test_con_20_a_pause_over_several_slots(app: Durable, storage: VirtualStorage, runs: Runs, name: str) -> None:
    job = runs.declare(app, SCHEDULES[name])
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0, wait=True)
        assert await job.pause("k") == PauseResult(ID, True, ShownStatus.PAUSED)
        await kit.clock.advance("35m")
        status = await job.status("k")
        assert (runs.at, status.status, status.next_run_at) == ([0], ShownStatus.PAUSED, None)
        assert await job.resume("k") == PauseResult(ID, True, ShownStatus.RUNNING)
        await kit.drain()
        made_up = {"skip": 0, "one": 1, "all": 3}.get(name.rpartition(", ")[2], 1)
        assert runs.at[1:] == [35] * made_up
        assert await next_run(job) == (45 if name == "completion" else 40)


async def test_con_20_a_pause_that_ends_before_the_slot_changes_nothing(
    app: Durable, storage: VirtualStorage, runs: Runs
) -> None:
    job = runs.declare(app, every("10m"))
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0, wait=True)
        await job.pause("k")
        await kit.clock.advance("5m")
        await job.resume("k")
        assert await next_run(job) == 10
        await kit.clock.advance("5m")
        assert runs.slots == [0, 10]


async def test_con_20_a_run_that_goes_on_ends_and_no_other_begins(app: Durable, storage: VirtualStorage) -> None:
    door = Door()

    @app.continuous(state=int, schedule=every("10m"))
    async def job(ctx: ContinuousContext[int]) -> None:
        await door.hold()
        ctx.set_state(ctx.run_count)

    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0)
        await reached(door)
        assert (await job.pause("k")).status == ShownStatus.PAUSED
        door.open()
        await kit.clock.advance("1h")
        assert await job.state("k") == 1
        assert (await job.status("k")).status == ShownStatus.PAUSED
        assert [line.status for line in await app.jobs.list(status="paused")] == [ShownStatus.PAUSED]


async def test_con_20_a_pause_in_a_backoff_takes_the_retry_and_a_resume_begins_anew(
    app: Durable, storage: VirtualStorage
) -> None:
    attempts: list[int] = []

    @app.continuous(state=int, schedule=every("10m"), retry=Retry(5, constant("5m"), jitter=0))
    async def job(ctx: ContinuousContext[int]) -> None:
        attempts.append(ctx.attempt)
        if len(attempts) < 3:
            raise ValueError(f"no {len(attempts)}")

    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0)
        await kit.clock.advance("5m")
        failed = await job.status("k")
        await job.pause("k")
        paused = await job.status("k")
        assert failed.last_error is not None
        assert (paused.status, paused.last_error) == (ShownStatus.PAUSED, failed.last_error)
        assert str(failed.last_error) == "ValueError: no 2"
        await kit.clock.advance("1h")
        assert attempts == [1, 2]
        await job.resume("k")
        assert (await job.status("k")).last_error == failed.last_error
        await kit.drain()
        assert attempts == [1, 2, 1]
        status = await job.status("k")
        assert (status.run_count, status.last_error) == (1, None)


async def test_con_20_a_trigger_runs_once_while_paused(app: Durable, storage: VirtualStorage, runs: Runs) -> None:
    job = runs.declare(app, every("10m"))
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0, wait=True)
        await job.pause("k")
        assert (await job.trigger("k", wait=True)).triggered
        await kit.clock.advance("1h")
        assert runs.slots == [0, None]
        assert (await job.status("k")).status == ShownStatus.PAUSED


async def test_con_20_pause_and_resume_say_what_they_met(app: Durable, storage: VirtualStorage, runs: Runs) -> None:
    job = runs.declare(app, every("10m"), retry=Retry(2, constant(0)))

    def fail(run: int) -> None:
        if run > 1:
            raise ValueError

    runs.act = fail
    async with app_under_test(app, storage=storage) as kit:
        assert await job.pause("k") == PauseResult(ID, False, ShownStatus.NOT_FOUND)
        assert await job.resume("k") == PauseResult(ID, False, ShownStatus.NOT_FOUND)
        await job.start("k", 0, wait=True)
        assert await job.resume("k") == PauseResult(ID, False, ShownStatus.RUNNING)
        assert await job.pause("k") == PauseResult(ID, True, ShownStatus.PAUSED)
        assert await job.pause("k") == PauseResult(ID, False, ShownStatus.PAUSED)
        assert await job.resume("k") == PauseResult(ID, True, ShownStatus.RUNNING)
        await kit.clock.advance("10m")
        assert (await job.status("k")).status == ShownStatus.FAILED
        for call in (job.pause, job.resume):
            with pytest.raises(InvalidJobState, match="is failed") as caught:
                await call("k")
            assert caught.value.instance_id == ID
        await job.terminate("k")
        assert await job.pause("k") == PauseResult(ID, False, ShownStatus.NOT_FOUND)


# --- deploys and numbers ---------------------------------------------------------------------------------------------


async def test_con_21_after_a_deploy_the_next_slot_stands_and_the_new_interval_counts_from_it(
    storage: VirtualStorage, runs: Runs
) -> None:
    before, after = Durable("memory:"), Durable("memory:")
    old = runs.declare(before, every("30m"))
    new = runs.declare(after, every("7m"))
    async with app_under_test(before, storage=storage):
        await old.start("k", 0, wait=True)
    async with app_under_test(after, storage=storage) as kit:
        assert await next_run(new) == 30
        await kit.clock.advance("45m")
        assert runs.at == [0, 30, 37, 44]


def test_con_22_a_number_is_seconds_and_never_a_moment() -> None:
    assert every(90) == every("1m30s") == every(timedelta(seconds=90))
    with pytest.raises(ConfigurationError, match="interval is 1893456000"):
        every(1893456000)


@pytest.mark.parametrize("interval", [0, -1, True, None, "", "30", "soon", float("nan"), START])
def test_con_22_what_is_no_interval_is_refused(interval: Any) -> None:
    with pytest.raises(ConfigurationError, match="interval is"):
        every(interval)
