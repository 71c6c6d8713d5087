"""Every kind of job: one turn at a time whoever asks and runs, late ends, deploys, transactions and shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from durable import Durable, Registry, Retry, constant, every
from durable.jobs import (
    Continuous,
    ContinuousContext,
    DebounceContext,
    EventContext,
    JobValidationError,
    ShownStatus,
    Task,
)
from durable.storage import Hint
from durable.testing import VirtualStorage, app_under_test
from tests.flow.place import PATIENCE, Place, PostgresPlace, running, soon, until

from .crew import Door, Watch, client_only, crew, drained, reached, turned

HOUR = timedelta(hours=1)


def continuous(app: Registry, function: Any, **options: Any) -> Continuous[int]:
    declare = app.continuous(**{"state": int, "schedule": every("30m"), "name": "job", **options})
    job: Continuous[int] = declare(function)
    return job


def several(count: int) -> list[Durable]:
    return [Durable("memory:") for _ in range(count)]


async def test_gen_01_of_eight_executors_one_runs_a_due_turn(storage: VirtualStorage) -> None:
    apps = several(8)
    runs: list[int] = []

    async def run(ctx: ContinuousContext[int]) -> None:
        runs.append(ctx.run_count)

    jobs = [continuous(app, run) for app in apps]
    async with crew(storage, *apps) as kits:
        await jobs[0].start("k", 0)
        await drained(kits)
        for number in (2, 3, 4):
            storage.move_to(storage.now() + timedelta(minutes=30))
            await drained(kits)
            assert runs == list(range(1, number + 1))
        assert (await jobs[0].status("k")).run_count == 4


async def test_gen_02_what_a_frozen_worker_brings_late_changes_nothing(
    storage: VirtualStorage, caplog: pytest.LogCaptureFixture
) -> None:
    apps = several(2)
    door = Door()
    target: list[int] = []
    attempts: list[str] = []

    def declare(app: Durable) -> Continuous[int]:
        other = app.task_job("other", state=int, event=int)

        @other.on_event
        async def on_event(ctx: EventContext[int, int], event: int) -> None:
            target.append(event)

        async def run(ctx: ContinuousContext[int]) -> None:
            attempts.append(ctx.execution_id)
            is_frozen = len(attempts) == 1
            if is_frozen:
                await door.hold(is_deaf=True)
            ctx.set_state(-1 if is_frozen else 1)
            ctx.send(other, "k", -1 if is_frozen else 1)

        return continuous(app, run)

    jobs = [declare(app) for app in apps]
    async with crew(storage, apps[0]) as (frozen,):
        await jobs[0].start("k", 0)
        await reached(door)
        storage.move_to(storage.now() + 2 * HOUR)
        async with crew(storage, apps[1]) as (other,):
            await other.drain()
            door.open()
            await drained([frozen, other])
            status = await jobs[1].status("k")
            assert (await jobs[1].state("k"), status.run_count, target) == (1, 1, [1])
            assert status.next_run_at == storage.now() + timedelta(minutes=30)
            assert attempts[0] == attempts[1]
        assert frozen.executor.refused_count == 1
    assert "was taken from this executor: its late end" in caplog.text


async def test_gen_03_a_turn_five_leases_long_is_not_taken_from_its_executor(place: Place) -> None:
    apps = [place.app(), place.app()]
    runs: list[str] = []
    seconds = 0.5

    async def run(ctx: ContinuousContext[int]) -> None:
        runs.append(ctx.execution_id)
        app = apps[0]
        first = (await app.execution(ctx.execution_id)).lease_expires_at
        assert first is not None
        is_renewed = first + timedelta(seconds=5 * seconds)
        await until(app, ctx.execution_id, lambda record: (record.lease_expires_at or first) > is_renewed)

    job = continuous(apps[0], run)
    continuous(apps[1], run)
    async with running(apps[0], lease=seconds), running(apps[1], lease=seconds) as other:
        await soon(job.start("k", 0, wait=True))
        assert len(runs) == 1
        assert other.refused_count == 0
        assert (await job.status("k")).run_count == 1


async def test_gen_07_only_the_clock_of_the_storage_decides(storage: VirtualStorage) -> None:
    assert abs(storage.now() - datetime.now(UTC)) > timedelta(days=30)
    apps = [Durable("memory:", clock=Watch(storage, ahead)) for ahead in (600.0, 0.0)]
    runs: list[datetime] = []

    async def run(ctx: ContinuousContext[int]) -> None:
        runs.append(ctx.execution_started_at)

    jobs = [continuous(app, run) for app in apps]
    async with crew(storage, *apps) as kits:
        start = storage.now()
        await jobs[0].start("k", 0)
        await drained(kits)
        storage.move_to(start + timedelta(minutes=30) - timedelta(microseconds=1))
        await drained(kits)
        assert runs == [start]
        storage.move_to(start + timedelta(minutes=30))
        await drained(kits)
        assert runs == [start, start + timedelta(minutes=30)]


async def test_gen_08_without_any_hint_a_poll_finds_what_is_due(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[Hint] = []

    async def deaf() -> AsyncIterator[Hint]:
        return
        yield

    app, client = place.app(), place.app()
    monkeypatch.setattr(app.storage, "listen", deaf)
    ran = asyncio.Event()

    async def run(ctx: ContinuousContext[int]) -> None:
        ran.set()

    continuous(app, run)
    job = continuous(client, run)
    async with running(app, poll_interval="20ms") as executor, client:
        await soon(executor.quiet())
        for tell in ("tell", "tell_paced"):
            monkeypatch.setattr(client.live.bus, tell, lambda *hints: lost.extend(hints))
        await job.start("k", 0)
        await soon(ran.wait())
        assert lost


@pytest.mark.parametrize("is_deaf", [True, False], ids=["ignores its cancellation", "stops"])
async def test_gen_10_a_run_that_ends_after_its_job_writes_nothing(
    app: Durable, storage: VirtualStorage, is_deaf: bool
) -> None:
    door = Door()

    async def run(ctx: ContinuousContext[int]) -> None:
        if ctx.run_count == 2:
            ctx.set_state(99)
            await door.hold(is_deaf=is_deaf)

    job = continuous(app, run)
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 5, wait=True)
        storage.move_to(storage.now() + timedelta(minutes=30))
        kit.executor.wake()
        await reached(door)
        waiting = asyncio.ensure_future(job.trigger("k"))
        assert (await waiting).queued
        assert (await job.terminate("k", reason="closed")).terminated
        door.open()
        await kit.clock.advance("10h")
        status = await job.status("k")
        assert (status.status, status.reason, status.run_count) == (ShownStatus.TERMINATED, "closed", 1)
        assert (status.next_run_at, status.is_turn_running, await job.state("k")) == (None, False, 5)


async def test_gen_11_a_new_incarnation_is_out_of_reach_of_the_runs_before(
    app: Durable, storage: VirtualStorage
) -> None:
    door = Door()
    runs: list[tuple[int, int, int]] = []

    async def run(ctx: ContinuousContext[int]) -> None:
        runs.append((ctx.epoch, ctx.run_count, ctx.state))
        if ctx.epoch == 1:
            await door.hold(is_deaf=True)
            ctx.set_state(-1)

    job = continuous(app, run)
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 1)
        await reached(door)
        await job.terminate("k")
        assert (await job.start("k", 2, wait=True)).created
        door.open()
        await kit.drain()
        status = await job.status("k")
        assert (status.status, status.run_count, await job.state("k")) == (ShownStatus.RUNNING, 1, 2)
        assert status.next_run_at == kit.clock.now() + timedelta(minutes=30)
        await kit.clock.advance("30m")
        assert runs == [(1, 1, 1), (2, 1, 2), (2, 2, 2)]


async def test_gen_12_of_twenty_starts_at_once_one_creates(storage: VirtualStorage) -> None:
    apps = several(4)
    runs: list[int] = []

    async def run(ctx: ContinuousContext[int]) -> None:
        runs.append(ctx.state)

    jobs = [continuous(app, run) for app in apps]
    async with crew(storage, *apps) as kits:
        started = await asyncio.gather(*(jobs[n % 4].start("k", n) for n in range(20)))
        await drained(kits)
        created = [n for n, result in enumerate(started) if result.created]
        assert len(created) == 1
        assert runs == created
        assert {result.status for result in started} == {ShownStatus.RUNNING}


async def test_gen_13_a_start_that_races_an_end_leaves_one_of_two_orders(storage: VirtualStorage) -> None:
    apps = several(2)

    async def run(ctx: ContinuousContext[int]) -> None: ...

    jobs = [continuous(app, run) for app in apps]
    async with crew(storage, *apps) as kits:
        for n in range(25):
            await jobs[0].start(f"k{n}", 0)
            started, ended = await asyncio.gather(jobs[0].start(f"k{n}", 1), jobs[1].terminate(f"k{n}"))
            assert ended.terminated
            await drained(kits)
            status = await jobs[0].status(f"k{n}")
            if started.created:
                assert (status.status, status.run_count) == (ShownStatus.RUNNING, 1)
                assert status.next_run_at is not None
            else:
                assert (status.status, status.next_run_at) == (ShownStatus.TERMINATED, None)


async def test_gen_14_a_job_that_an_executor_does_not_know_waits_for_one_that_does(storage: VirtualStorage) -> None:
    old, new = several(2)
    ran: list[str] = []

    async def known(ctx: ContinuousContext[int]) -> None:
        ran.append("known")

    async def added(ctx: ContinuousContext[int]) -> None:
        ran.append(f"added, attempt {ctx.attempt}")

    first = continuous(old, known, name="known")
    second = continuous(new, added, name="added")
    async with crew(storage, old) as (kit,), client_only(storage, new):
        await second.start("k", 0)
        await first.start("k", 0)
        await kit.drain()
        assert ran == ["known"]
        status = await second.status("k")
        assert (status.attempt, status.last_error, status.next_run_at) == (0, None, storage.now())
        assert [(line.name, line.status) for line in await old.jobs.list()] == [
            ("added", ShownStatus.RUNNING),
            ("known", ShownStatus.RUNNING),
        ]
    async with crew(storage, new) as (kit,):
        await kit.drain()
        assert ran == ["known", "added, attempt 1"]


async def test_gen_15_a_state_that_fits_no_more_fails_its_turn_and_stays(storage: VirtualStorage) -> None:
    before, after, mended = several(3)
    ran: list[Any] = []

    async def run(ctx: ContinuousContext[Any]) -> None:
        ran.append(ctx.state)

    old = continuous(before, run, state=dict[str, int])
    new = continuous(after, run, state=list[int])
    right = continuous(
        mended, run, state=list[int], state_version=2, migrate=lambda raw, version: [*raw.values(), version]
    )
    async with app_under_test(before, storage=storage):
        await old.start("k", {"a": 1}, wait=True)  # type: ignore[arg-type]
    async with app_under_test(after, storage=storage) as kit:
        await kit.clock.advance("31m")
        status = await new.status("k")
        assert (status.status, status.run_count) == (ShownStatus.RUNNING, 1)
        assert status.last_error is not None
        assert status.last_error.type == "JobValidationError"
        assert status.next_run_at == kit.clock.now() + timedelta(minutes=29)
        with pytest.raises(JobValidationError, match="does not fit version 1"):
            await new.state("k")
    async with app_under_test(mended, storage=storage) as kit:
        assert await right.state("k") == [1, 1]
        await kit.clock.advance("29m")
        assert ran == [{"a": 1}, [1, 1]]
        assert (await right.status("k")).last_error is None


# --- transactions of the caller's ------------------------------------------------------------------------------------


class Jobs:
    """One job of each kind on an app, and what ran."""

    def __init__(self, app: Durable) -> None:
        self.ran: list[str] = []
        ran = self.ran

        async def run(ctx: ContinuousContext[int]) -> None:
            ran.append("continuous")

        self.continuous = continuous(app, run)

        @app.debounce(event=int, flush_after="1ms")
        async def batch(ctx: DebounceContext[int, int]) -> None:
            ran.append("debounce")

        self.debounce = batch
        self.task: Task[int, int] = app.task_job("order", state=int, event=int)

        @self.task.on_event
        async def on_event(ctx: EventContext[int, int], event: int) -> None:
            ran.append("task")


@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
async def test_gen_16_calls_in_a_transaction_of_the_callers(postgres: PostgresPlace, commits: bool) -> None:
    app = postgres.app()
    jobs = Jobs(app)
    async with running(app) as executor:
        async with await psycopg.AsyncConnection.connect(postgres.dsn) as connection:
            await jobs.continuous.start("k", 0, connection=connection)
            await jobs.debounce.add("k", 1, connection=connection)
            await jobs.task.send("k", 1, connection=connection)
            executor.wake()
            await soon(executor.quiet())
            assert (jobs.ran, await app.jobs.count()) == ([], 0)
            await (connection.commit if commits else connection.rollback)()
        if commits:
            await _all_ran(app, jobs)
        else:
            await _nothing_ran(app, jobs)


@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
async def test_gen_16_calls_in_a_blocking_transaction(postgres: PostgresPlace, commits: bool) -> None:
    app = postgres.app()
    jobs = Jobs(app)

    def call() -> None:
        with app.client() as client, psycopg.connect(postgres.dsn) as connection:
            client.job(jobs.continuous).start("k", 0, connection=connection)
            client.job(jobs.debounce).add("k", 1, connection=connection)
            client.job(jobs.task).send("k", 1, connection=connection)
            (connection.commit if commits else connection.rollback)()

    async with running(app):
        await asyncio.to_thread(call)
        if commits:
            await _all_ran(app, jobs)
        else:
            await _nothing_ran(app, jobs)


async def test_gen_16_an_end_or_a_pause_that_is_rolled_back_has_not_been(postgres: PostgresPlace) -> None:
    app = postgres.app()
    jobs = Jobs(app)
    async with running(app):
        await soon(jobs.continuous.start("k", 0, wait=True))
        async with await psycopg.AsyncConnection.connect(postgres.dsn) as connection:
            assert (await jobs.continuous.pause("k", connection=connection)).changed
            assert (await jobs.continuous.terminate("k", connection=connection)).terminated
            await connection.rollback()
        assert (await jobs.continuous.status("k")).status == ShownStatus.RUNNING


async def _all_ran(app: Durable, jobs: Jobs) -> None:
    await soon(jobs.continuous.trigger("k", wait=True))
    await soon(jobs.debounce.flush("k"))
    await soon(jobs.task.send("k", 2, wait=True))
    assert set(jobs.ran) == {"continuous", "debounce", "task"}


async def _nothing_ran(app: Durable, jobs: Jobs) -> None:
    assert not (await jobs.continuous.trigger("k")).triggered
    assert not (await jobs.debounce.flush("k")).requested
    assert not (await jobs.task.state("k")).exists
    assert (jobs.ran, await app.jobs.count()) == ([], 0)


# --- shutdown --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grace", [PATIENCE, 0], ids=["within its grace", "beyond its grace"])
async def test_gen_18_a_shutdown_waits_for_a_turn_or_gives_it_back_unharmed(
    app: Durable, storage: VirtualStorage, monkeypatch: pytest.MonkeyPatch, grace: float
) -> None:
    door = Door()
    attempts: list[tuple[int, Any]] = []

    async def run(ctx: ContinuousContext[int]) -> None:
        attempts.append((ctx.attempt, ctx.previous_error))
        await door.hold()
        ctx.set_state(len(attempts))

    job = continuous(app, run, retry=Retry(2, constant(0)), max_deliveries=1)
    async with app_under_test(app, storage=storage, grace=grace) as kit:
        await job.start("k", 0)
        await reached(door)
        stop = kit.executor.stop

        async def stop_while_it_runs() -> None:
            stopping = asyncio.ensure_future(stop())
            await turned()
            if grace:
                door.open()
            await stopping

        monkeypatch.setattr(kit.executor, "stop", stop_while_it_runs)
    door.open()
    async with app_under_test(app, storage=storage) as kit:
        await kit.drain()
        assert attempts == ([(1, None)] if grace else [(1, None), (1, None)])
        status = await job.status("k")
        assert (status.run_count, status.last_error, await job.state("k")) == (1, None, len(attempts))


async def test_a_list_takes_the_statuses_that_its_lines_show(app: Durable, storage: VirtualStorage) -> None:
    @app.continuous(state=int, schedule=every("1h"), retry=Retry(2, 0), on_exhausted="fail")
    async def ticker(ctx: ContinuousContext[int]) -> None:
        if ctx.key == "failed":
            raise ValueError(ctx.key)

    @app.debounce(event=int, flush_after="1h")
    async def batcher(ctx: DebounceContext[int, int]) -> None: ...

    order = app.task_job("order", state=int, event=int)

    @order.on_event
    async def on_event(ctx: EventContext[int, int], event: int) -> None:
        if ctx.key == "planned":
            ctx.schedule("2h")

    async with app_under_test(app, storage=storage) as kit:
        for key in ("runs", "failed", "paused", "terminated"):
            await ticker.start(key, 0)
        await ticker.pause("paused")
        await ticker.terminate("terminated")
        for key in ("open", "flushed"):
            await batcher.add(key, 1)
        await batcher.flush("flushed")
        for key in ("planned", "handled"):
            await order.send(key, 1)
        await kit.drain()
        lines = await app.jobs.list() + await app.jobs.list(status="terminated")
        assert {line.key: str(line.status) for line in lines} == {
            "runs": "running", "failed": "failed", "paused": "paused", "terminated": "terminated",
            "open": "debouncing", "flushed": "idle", "planned": "active", "handled": "idle",
        }  # fmt: skip
        for status in {line.status for line in lines}:
            shown = [line for line in lines if line.status is status]
            assert await app.jobs.list(status=status) == shown
            assert await app.jobs.count(status=str(status)) == len(shown)
        assert await app.jobs.list(kind="continuous", status="idle") == []
        assert [line.key for line in await app.jobs.list(kind="task", status="idle")] == ["handled"]
