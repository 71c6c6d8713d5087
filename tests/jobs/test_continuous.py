"""Continuous: starting, triggering, ending, and what its status says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from durable import Durable, Registry, Retry, constant, every
from durable.jobs import (
    Continuous,
    ContinuousContext,
    ContinuousStatus,
    JobExecutionError,
    JobValidationError,
    ShownStatus,
    StartResult,
    TerminateResult,
    TriggerResult,
)
from durable.testing import VirtualStorage, app_under_test

from .crew import Door, crew, drained, reached, turned

MINUTE = timedelta(minutes=1)
ID = "continuous:refresh:k"


@dataclass
class Tokens:
    n: int


def counting(app: Registry, runs: list[tuple[int, int]], **options: Any) -> Continuous[Tokens]:
    """Notes the number of each run and the state that it was given, and adds one to that."""

    @app.continuous(state=Tokens, **{"schedule": every("30m"), **options})
    async def refresh(ctx: ContinuousContext[Tokens]) -> None:
        runs.append((ctx.run_count, ctx.state.n))
        ctx.update_state(lambda state: Tokens(state.n + 1))

    return refresh


async def test_con_01_a_start_runs_at_once_with_the_given_state(app: Durable, storage: VirtualStorage) -> None:
    runs: list[tuple[int, int]] = []
    refresh = counting(app, runs)
    async with app_under_test(app, storage=storage) as kit:
        assert await refresh.start("k", Tokens(5)) == StartResult(ID, True, ShownStatus.RUNNING)
        await kit.drain()
        assert runs == [(1, 5)]
        assert await refresh.state("k") == Tokens(6)
        assert await refresh.status("k") == ContinuousStatus(
            status=ShownStatus.RUNNING, run_count=1, next_run_at=kit.clock.now() + 30 * MINUTE
        )


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "thread"])
async def test_con_01_the_context_says_what_runs(app: Durable, storage: VirtualStorage, is_async: bool) -> None:
    seen: list[Any] = []

    def look(ctx: ContinuousContext[Tokens]) -> None:
        seen.append((ctx.key, ctx.job_name, ctx.instance_id, ctx.epoch, ctx.attempt, ctx.is_retry, ctx.previous_error))
        seen.append((ctx.created_at, ctx.execution_started_at, ctx.scheduled_for, ctx.state))
        ctx.set_state(Tokens(7))
        seen.append(ctx.state)

    async def look_async(ctx: ContinuousContext[Tokens]) -> None:
        look(ctx)

    declare = app.continuous(state=Tokens, schedule=every("30m"), name="refresh")
    refresh = declare(look_async if is_async else look)
    async with app_under_test(app, storage=storage) as kit:
        now = kit.clock.now()
        await refresh.start("k", Tokens(1), wait=True)
        assert seen == [("k", "refresh", ID, 1, 1, False, None), (now, now, now, Tokens(1)), Tokens(7)]
        assert await refresh.state("k") == Tokens(7)


async def test_con_01_a_start_that_waits_gives_the_end_of_the_first_run(app: Durable, storage: VirtualStorage) -> None:
    runs: list[tuple[int, int]] = []
    refresh = counting(app, runs)
    async with app_under_test(app, storage=storage):
        assert (await refresh.start("k", Tokens(5), wait=True)).created
        assert runs == [(1, 5)]


async def test_con_01_a_start_that_waits_raises_what_the_first_run_failed_with(
    app: Durable, storage: VirtualStorage
) -> None:
    @app.continuous(state=Tokens, schedule=every("30m"))
    async def refresh(ctx: ContinuousContext[Tokens]) -> None:
        raise ValueError("no tokens")

    async with app_under_test(app, storage=storage):
        with pytest.raises(JobExecutionError, match="no tokens") as caught:
            await refresh.start("k", Tokens(5), wait=True)
        assert caught.value.instance_id == ID
        assert caught.value.error is not None
        assert (caught.value.error.type, caught.value.error.message) == ("ValueError", "no tokens")
        assert (await app.execution(caught.value.execution_id)).status == "failed"


async def test_con_02_a_second_start_changes_nothing(app: Durable, storage: VirtualStorage) -> None:
    runs: list[tuple[int, int]] = []
    refresh = counting(app, runs)
    async with app_under_test(app, storage=storage) as kit:
        await refresh.start("k", Tokens(5), wait=True)
        assert await refresh.start("k", Tokens(100), wait=True) == StartResult(ID, False, ShownStatus.RUNNING)
        await kit.drain()
        assert runs == [(1, 5)]
        assert await refresh.state("k") == Tokens(6)
        await refresh.start("other", Tokens(9), wait=True)
        assert runs == [(1, 5), (1, 9)]


async def test_con_03_without_an_immediate_start_the_first_slot_is_the_first_run(
    app: Durable, storage: VirtualStorage
) -> None:
    runs: list[tuple[int, int]] = []
    refresh = counting(app, runs, start_immediately=False)
    async with app_under_test(app, storage=storage) as kit:
        first_at = kit.clock.now() + 30 * MINUTE
        assert (await refresh.start("k", Tokens(5))).created
        await kit.drain()
        assert runs == []
        assert (await refresh.status("k")).next_run_at == first_at
        await kit.clock.advance(30 * MINUTE - timedelta(microseconds=1))
        assert runs == []
        await kit.clock.advance_to(first_at)
        assert runs == [(1, 5)]


async def test_con_04_a_state_that_does_not_fit_is_an_error_and_starts_nothing(
    app: Durable, storage: VirtualStorage
) -> None:
    runs: list[tuple[int, int]] = []
    refresh = counting(app, runs)
    wrong: Any = {"n": "many"}
    async with app_under_test(app, storage=storage) as kit:
        with pytest.raises(JobValidationError, match="continuous:refresh:k"):
            await refresh.start("k", wrong)
        assert (await refresh.status("k")).status == ShownStatus.NOT_FOUND
        assert await app.jobs.count() == 0
        assert (await refresh.start("k", Tokens(1))).created
        await kit.drain()
        assert runs == [(1, 1)]


async def test_con_05_a_start_after_an_end_begins_anew(app: Durable, storage: VirtualStorage) -> None:
    epochs: list[tuple[int, int, int]] = []

    @app.continuous(state=Tokens, schedule=every("30m"))
    async def refresh(ctx: ContinuousContext[Tokens]) -> None:
        epochs.append((ctx.epoch, ctx.run_count, ctx.state.n))

    async with app_under_test(app, storage=storage) as kit:
        await refresh.start("k", Tokens(1), wait=True)
        await kit.clock.advance("30m")
        await refresh.terminate("k", reason="over")
        assert (await refresh.start("k", Tokens(10), wait=True)).created
        status = await refresh.status("k")
        assert (status.status, status.run_count, status.reason) == (ShownStatus.RUNNING, 1, None)
        assert epochs == [(1, 1, 1), (1, 2, 1), (2, 1, 10)]


async def test_con_10_a_trigger_runs_now_and_counts_the_interval_from_there(
    app: Durable, storage: VirtualStorage
) -> None:
    runs: list[tuple[int, int]] = []
    refresh = counting(app, runs)
    async with app_under_test(app, storage=storage) as kit:
        await refresh.start("k", Tokens(0), wait=True)
        await kit.clock.advance("10m")
        assert await refresh.trigger("k", wait=True) == TriggerResult(ID, True, False)
        assert runs == [(1, 0), (2, 1)]
        status = await refresh.status("k")
        assert (status.run_count, status.next_run_at) == (2, kit.clock.now() + 30 * MINUTE)
        await kit.clock.advance("29m")
        assert len(runs) == 2
        await kit.clock.advance("1m")
        assert len(runs) == 3


async def test_con_10_a_trigger_leaves_a_grid_as_it_is(app: Durable, storage: VirtualStorage) -> None:
    slots: list[Any] = []

    @app.continuous(state=Tokens, schedule=every("30m", anchor="schedule"))
    async def refresh(ctx: ContinuousContext[Tokens]) -> None:
        slots.append(ctx.scheduled_for)

    async with app_under_test(app, storage=storage) as kit:
        start = kit.clock.now()
        await refresh.start("k", Tokens(0), wait=True)
        await kit.clock.advance("10m")
        await refresh.trigger("k", wait=True)
        assert (await refresh.status("k")).next_run_at == start + 30 * MINUTE
        await kit.clock.advance("50m")
        assert slots == [start, None, start + 30 * MINUTE, start + 60 * MINUTE]


async def test_con_11_triggers_while_it_runs_are_one_more_run(app: Durable, storage: VirtualStorage) -> None:
    door = Door()
    runs: list[int] = []
    running = most = 0

    @app.continuous(state=Tokens, schedule=every("30m"))
    async def refresh(ctx: ContinuousContext[Tokens]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        runs.append(ctx.run_count)
        await door.hold()
        running -= 1

    async with app_under_test(app, storage=storage) as kit:
        await refresh.start("k", Tokens(0))
        await reached(door)
        results = [await refresh.trigger("k") for _ in range(5)]
        assert results == [TriggerResult(ID, True, True)] * 5
        waiting = asyncio.ensure_future(refresh.trigger("k", wait=True))
        status = await refresh.status("k")
        assert (status.is_turn_running, status.next_run_at, status.attempt) == (True, None, 1)
        door.open()
        assert (await waiting).triggered
        await kit.drain()
        assert (runs, most) == ([1, 2], 1)
        assert (await refresh.status("k")).next_run_at == kit.clock.now() + 30 * MINUTE


async def test_con_12_a_trigger_of_what_does_not_live_says_so(app: Durable, storage: VirtualStorage) -> None:
    runs: list[tuple[int, int]] = []
    refresh = counting(app, runs)
    async with app_under_test(app, storage=storage) as kit:
        assert await refresh.trigger("k", wait=True) == TriggerResult(ID, False, False)
        await refresh.start("k", Tokens(0), wait=True)
        await refresh.terminate("k")
        assert await refresh.trigger("k") == TriggerResult(ID, False, False)
        await kit.clock.advance("1d")
        assert runs == [(1, 0)]
        assert (await refresh.status("k")).status == ShownStatus.TERMINATED


async def test_con_13_a_trigger_during_a_backoff_is_a_fresh_run_and_the_retry_is_gone(
    app: Durable, storage: VirtualStorage
) -> None:
    attempts: list[tuple[int, int, Any]] = []

    @app.continuous(state=Tokens, schedule=every("30m"), retry=Retry(3, constant("10m"), jitter=0))
    async def refresh(ctx: ContinuousContext[Tokens]) -> None:
        attempts.append((ctx.run_count, ctx.attempt, ctx.previous_error and ctx.previous_error.message))
        if len(attempts) < 3:
            raise ValueError(f"failure {len(attempts)}")

    async with app_under_test(app, storage=storage) as kit:
        await refresh.start("k", Tokens(0))
        await kit.clock.advance("10m")
        assert attempts == [(1, 1, None), (1, 2, "failure 1")]
        assert (await refresh.trigger("k", wait=True)).triggered
        assert attempts[2:] == [(1, 1, None)]
        await kit.clock.advance("29m")
        assert len(attempts) == 3
        assert (await refresh.status("k")).run_count == 1


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "thread"])
async def test_con_14_a_job_that_ends_itself_in_its_first_run(
    app: Durable, storage: VirtualStorage, is_async: bool
) -> None:
    after: list[str] = []

    def end(ctx: ContinuousContext[Tokens]) -> None:
        ctx.set_state(Tokens(99))
        try:
            ctx.terminate("nothing to do")
        except Exception:  # what users write around anything
            after.append("swallowed")
        after.append("went on")

    async def end_async(ctx: ContinuousContext[Tokens]) -> None:
        end(ctx)

    refresh = app.continuous(state=Tokens, schedule=every("30m"), name="refresh")(end_async if is_async else end)
    async with app_under_test(app, storage=storage) as kit:
        started = await refresh.start("k", Tokens(1), wait=True)
        assert started == StartResult(ID, True, ShownStatus.TERMINATED)
        status = await refresh.status("k")
        assert (status.status, status.reason, status.next_run_at) == (ShownStatus.TERMINATED, "nothing to do", None)
        assert await refresh.state("k") == Tokens(1)
        await kit.clock.advance("1d")
        assert after == []


async def test_con_15_except_exception_does_not_swallow_an_end(app: Durable, storage: VirtualStorage) -> None:
    runs: list[int] = []

    @app.continuous(state=Tokens, schedule=every("30m"), retry=Retry(5, constant(0)))
    async def refresh(ctx: ContinuousContext[Tokens]) -> None:
        runs.append(ctx.attempt)
        try:
            ctx.terminate()
        except Exception:
            runs.append(-1)

    async with app_under_test(app, storage=storage) as kit:
        await refresh.start("k", Tokens(1))
        await kit.drain()
        assert runs == [1]
        status = await refresh.status("k")
        assert (status.status, status.reason) == (ShownStatus.TERMINATED, None)


async def test_con_16_a_job_that_ends_itself_in_a_planned_run(app: Durable, storage: VirtualStorage) -> None:
    runs: list[int] = []

    @app.continuous(state=Tokens, schedule=every("30m"))
    async def refresh(ctx: ContinuousContext[Tokens]) -> None:
        runs.append(ctx.run_count)
        ctx.set_state(Tokens(ctx.run_count))
        if ctx.run_count == 3:
            ctx.terminate("enough")

    async with app_under_test(app, storage=storage) as kit:
        await refresh.start("k", Tokens(0))
        await kit.clock.advance("1d")
        assert runs == [1, 2, 3]
        assert await refresh.state("k") == Tokens(2)
        assert (await refresh.status("k")).reason == "enough"


async def test_con_17_a_second_end_finds_nothing(app: Durable, storage: VirtualStorage) -> None:
    runs: list[tuple[int, int]] = []
    refresh = counting(app, runs)
    async with app_under_test(app, storage=storage) as kit:
        assert await refresh.terminate("k") == TerminateResult(ID, False, "not_found")
        await refresh.start("k", Tokens(3), wait=True)
        assert await refresh.terminate("k", reason="closed") == TerminateResult(ID, True, "closed")
        assert await refresh.terminate("k", reason="again") == TerminateResult(ID, False, "not_found")
        await kit.clock.advance("1d")
        status = await refresh.status("k")
        assert (runs, status.status, status.reason) == ([(1, 3)], ShownStatus.TERMINATED, "closed")
        assert await refresh.state("k") == Tokens(4)
        assert [job.key for job in await app.jobs.list()] == []
        assert [job.key for job in await app.jobs.list(status="terminated")] == ["k"]


async def test_con_19_a_failed_attempt_leaves_no_state_to_the_next(app: Durable, storage: VirtualStorage) -> None:
    seen: list[int] = []

    @app.continuous(state=Tokens, schedule=every("30m"), retry=Retry(3, constant("1m"), jitter=0))
    async def refresh(ctx: ContinuousContext[Tokens]) -> None:
        seen.append(ctx.state.n)
        ctx.set_state(Tokens(ctx.state.n + 1))
        ctx.state.n += 10
        if ctx.attempt < 3:
            raise ValueError

    async with app_under_test(app, storage=storage) as kit:
        await refresh.start("k", Tokens(0))
        await kit.drain()
        assert await refresh.state("k") == Tokens(0)
        await kit.clock.advance("2m")
        assert seen == [0, 0, 0]
        assert await refresh.state("k") == Tokens(11)


async def test_con_23_the_status_in_a_backoff_says_when_and_why(app: Durable, storage: VirtualStorage) -> None:
    @app.continuous(state=Tokens, schedule=every("30m"), retry=Retry(3, constant("5m"), jitter=0))
    async def refresh(ctx: ContinuousContext[Tokens]) -> None:
        if ctx.attempt < 3:
            raise ValueError(f"attempt {ctx.attempt}")

    async with app_under_test(app, storage=storage) as kit:
        await refresh.start("k", Tokens(0))
        for attempt in (1, 2):
            await kit.drain()
            status = await refresh.status("k")
            assert (status.status, status.attempt, status.run_count) == (ShownStatus.RUNNING, attempt, 0)
            assert status.next_run_at == kit.clock.now() + 5 * MINUTE
            assert status.last_error is not None
            assert (status.last_error.type, status.last_error.message) == ("ValueError", f"attempt {attempt}")
            (line,) = await app.jobs.list()
            assert (line.instance_id, line.next_run_at) == (ID, status.next_run_at)
            await kit.clock.advance("5m")
        status = await refresh.status("k")
        assert (status.attempt, status.run_count, status.last_error) == (0, 1, None)


async def test_con_24_a_trigger_at_the_moment_of_a_slot_never_runs_beside_it(storage: VirtualStorage) -> None:
    apps = [Durable("memory:"), Durable("memory:")]
    runs: list[int] = []
    running = most = 0

    async def refresh(ctx: ContinuousContext[Tokens]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await turned()
        runs.append(ctx.run_count)
        running -= 1

    jobs = [app.continuous(state=Tokens, schedule=every("30m"))(refresh) for app in apps]
    async with crew(storage, *apps) as kits:
        await jobs[0].start("k", Tokens(0), wait=True)
        for n in range(1, 6):
            storage.move_to(storage.now() + 30 * MINUTE)
            await asyncio.gather(kits[0].drain(), jobs[1].trigger("k"), jobs[0].trigger("k"), kits[1].drain())
            await drained(kits)
            assert n + 1 <= len(runs) <= 3 * n + 1
        assert most == 1
        assert runs == list(range(1, len(runs) + 1))
        assert (await jobs[0].status("k")).next_run_at == storage.now() + 30 * MINUTE
