"""Retries of jobs: how often, when, after what, and what is left when they are used up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from durable import Durable, NonRetryable, Retry, RetryAfter, constant, every, exponential, linear
from durable.jobs import Continuous, ContinuousContext, JobExecutionError, RedriveResult, ShownStatus, StartResult
from durable.testing import VirtualStorage, app_under_test
from tests.support.turns import until

from .crew import Door, crew, drained, reached

INTERVAL = timedelta(hours=10)


class Attempts:
    """What each attempt was told, and what comes of it: it fails until told otherwise."""

    def __init__(self, storage: VirtualStorage) -> None:
        self._storage = storage
        self._start = storage.now()
        self.at: list[float] = []
        self.told: list[tuple[int, int, bool]] = []
        self.errors: list[str | None] = []
        self.act: Callable[[int], Any] = lambda n: fail(f"failure {n}")

    def declare(self, app: Durable, **options: Any) -> Continuous[int]:
        @app.continuous(state=int, schedule=every(INTERVAL), name="job", **options)
        async def job(ctx: ContinuousContext[int]) -> None:
            self.at.append((self._storage.now() - self._start).total_seconds())
            self.told.append((ctx.run_count, ctx.attempt, ctx.is_retry))
            self.errors.append(None if ctx.previous_error is None else ctx.previous_error.message)
            ctx.update_state(lambda n: n + 1)
            self.act(len(self.at))

        return job

    @property
    def pauses(self) -> list[float]:
        return [after - before for before, after in zip(self.at, self.at[1:], strict=False)]


def fail(words: str) -> None:
    raise ValueError(words)


@pytest.fixture
def attempts(storage: VirtualStorage) -> Attempts:
    return Attempts(storage)


async def test_ret_01_max_attempts_counts_all_starts_and_then_the_job_has_failed(
    app: Durable, storage: VirtualStorage, attempts: Attempts
) -> None:
    job = attempts.declare(app, retry=Retry(3, constant("1m"), jitter=0))
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 7)
        await kit.clock.advance("30d")
        assert attempts.at == [0, 60, 120]
        status = await job.status("k")
        assert (status.status, status.run_count, status.next_run_at) == (ShownStatus.FAILED, 0, None)


async def test_ret_02_an_attempt_knows_its_number_and_the_error_before(
    app: Durable, storage: VirtualStorage, attempts: Attempts
) -> None:
    job = attempts.declare(app, retry=Retry(3, constant("1m"), jitter=0))
    attempts.act = lambda n: fail(f"failure {n}") if n < 3 else None
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0)
        await kit.clock.advance("2m")
    assert attempts.told == [(1, 1, False), (1, 2, True), (1, 3, True)]
    assert attempts.errors == [None, "failure 1", "failure 2"]


async def test_ret_02_the_execution_id_is_the_same_in_all_attempts_and_of_no_other_run(
    app: Durable, storage: VirtualStorage
) -> None:
    ids: list[str] = []

    @app.continuous(state=int, schedule=every("1h"), retry=Retry(2, constant(0)))
    async def job(ctx: ContinuousContext[int]) -> None:
        ids.append(ctx.execution_id)
        if not ctx.is_retry:
            raise ValueError

    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0)
        await kit.clock.advance("1h")
    assert len(ids) == 4
    assert ids[0] == ids[1] != ids[2] == ids[3]


async def test_ret_03_a_success_begins_the_count_anew(
    app: Durable, storage: VirtualStorage, attempts: Attempts
) -> None:
    job = attempts.declare(app, retry=Retry(2, constant("1m"), jitter=0))
    attempts.act = lambda n: fail("odd") if n % 2 else None
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0)
        await kit.clock.advance(3 * INTERVAL)
        assert attempts.told == [(run, attempt, attempt == 2) for run in (1, 2, 3) for attempt in (1, 2)]
        assert (await job.status("k")).last_error is None


@pytest.mark.parametrize(
    ("delay", "expected"),
    [
        (constant("5s"), [5, 5, 5, 5]),
        ("5s", [5, 5, 5, 5]),
        (linear("5s"), [5, 10, 15, 20]),
        (linear("5s", max="12s"), [5, 10, 12, 12]),
        (exponential("1s"), [1, 2, 4, 8]),
        (exponential("1s", factor=3, max="20s"), [1, 3, 9, 20]),
        (lambda attempt: timedelta(seconds=attempt * 100), [100, 200, 300, 400]),
    ],
    ids=["constant", "duration", "linear", "linear, max", "exponential", "exponential, max", "function"],
)
async def test_ret_04_and_06_delays_by_the_number_of_the_failed_attempt(
    app: Durable, storage: VirtualStorage, attempts: Attempts, delay: Any, expected: list[float]
) -> None:
    job = attempts.declare(app, retry=Retry(5, delay, jitter=0))
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0)
        await kit.clock.advance("1h")
    assert attempts.pauses == expected


async def test_ret_05_jitter_takes_its_part_off_a_delay_and_never_adds(
    storage: VirtualStorage, attempts: Attempts
) -> None:
    app = Durable("memory:")
    job = attempts.declare(app, retry=Retry(30, exponential("1s", max="8s"), jitter=0.5))
    async with app_under_test(app, storage=storage, seed=3) as kit:
        await job.start("k", 0)
        await kit.clock.advance("1h")
    whole = [min(2.0**n, 8.0) for n in range(29)]
    assert len(attempts.pauses) == 29
    assert all(full / 2 <= pause <= full for pause, full in zip(attempts.pauses, whole, strict=True))
    assert len({round(pause, 6) for pause in attempts.pauses}) > 20


def test_ret_05_the_same_random_source_gives_the_same_jitter() -> None:
    retry = Retry(30, exponential("1s", max="8s"), jitter=0.5)
    one, two = ([retry.delay_before(n, random.random()) for n in range(1, 30)] for random in (Random(3), Random(3)))
    assert one == two


@pytest.mark.parametrize("result", [-1, "soon", None, ZeroDivisionError()], ids=repr)
async def test_ret_06_a_delay_function_that_gives_none_ends_the_retries(
    app: Durable, storage: VirtualStorage, attempts: Attempts, result: Any
) -> None:
    def delay(attempt: int) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    job = attempts.declare(app, retry=Retry(5, delay))
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0)
        await kit.clock.advance("1h")
        status = await job.status("k")
        assert (attempts.at, status.status) == ([0], ShownStatus.FAILED)
        assert status.last_error is not None
        assert status.last_error.message == "failure 1"


@pytest.mark.parametrize("starts_now", [True, False], ids=["started at once", "planned long before"])
async def test_ret_07_max_duration_counts_from_the_first_attempt(
    app: Durable, storage: VirtualStorage, attempts: Attempts, starts_now: bool
) -> None:
    retry = Retry(10, constant("1s"), jitter=0, max_duration="2s")
    job = attempts.declare(app, retry=retry, start_immediately=starts_now)
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0)
        await kit.clock.advance(INTERVAL + timedelta(minutes=1))
        assert attempts.pauses == [1]
        assert (await job.status("k")).status == ShownStatus.FAILED


async def test_ret_07_max_duration_counts_anew_for_a_run_that_was_triggered_in_a_backoff(
    app: Durable, storage: VirtualStorage, attempts: Attempts
) -> None:
    job = attempts.declare(app, retry=Retry(10, constant("40s"), jitter=0, max_duration="1m"))
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0)
        await kit.clock.advance("30s")
        await job.trigger("k")
        await kit.clock.advance("1h")
        assert attempts.at == [0, 30, 70]


@pytest.mark.parametrize(
    ("error", "retry_if", "expected"),
    [
        (NonRetryable("never"), None, [0]),
        (KeyError("k"), lambda error: not isinstance(error, KeyError), [0]),
        (ValueError("v"), lambda error: not isinstance(error, KeyError), [0, 60, 120]),
        (RetryAfter(90), None, [0, 90, 180]),
        (ExceptionGroup("both", [ValueError(), NonRetryable("never")]), None, [0]),
    ],
    ids=["NonRetryable", "retry_if false", "retry_if true", "RetryAfter", "in a group"],
)
async def test_ret_08_some_errors_are_not_tried_again(
    app: Durable, storage: VirtualStorage, attempts: Attempts, error: Exception, retry_if: Any, expected: list[float]
) -> None:
    def act(_: int) -> None:
        raise error

    attempts.act = act
    job = attempts.declare(app, retry=Retry(3, constant("1m"), jitter=0, retry_if=retry_if))
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0)
        await kit.clock.advance("1h")
        assert attempts.at == expected
        status = await job.status("k")
        assert (status.status, status.reason) == (
            ShownStatus.FAILED, "retries exhausted" if len(expected) == 3 else "not retryable",
        )  # fmt: skip


ERRORS = (AssertionError, TimeoutError, asyncio.CancelledError, KeyboardInterrupt, SystemExit, StopAsyncIteration)


@pytest.mark.parametrize("error", ERRORS)
async def test_ret_09_whatever_a_handler_raises_is_tried_again(
    app: Durable, storage: VirtualStorage, attempts: Attempts, error: type[BaseException]
) -> None:
    def act(n: int) -> None:
        if n == 1:
            raise error

    attempts.act = act
    job = attempts.declare(app, retry=Retry(2, constant("1m"), jitter=0))
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0)
        await kit.clock.advance("1m")
        assert [attempt for _, attempt, _ in attempts.told] == [1, 2]
        assert await job.state("k") == 1


async def test_ret_09_a_shutdown_is_no_failed_attempt(app: Durable, storage: VirtualStorage) -> None:
    door = Door()
    attempts: list[tuple[int, Any]] = []

    @app.continuous(state=int, schedule=every("1h"), retry=Retry(2, constant("1m"), jitter=0))
    async def job(ctx: ContinuousContext[int]) -> None:
        attempts.append((ctx.attempt, ctx.previous_error))
        await door.hold()

    async with app_under_test(app, storage=storage):
        await job.start("k", 0)
        await reached(door)
    door.open()
    async with app_under_test(app, storage=storage) as kit:
        await kit.drain()
        assert attempts == [(1, None), (1, None)]
        assert (await job.status("k")).run_count == 1


async def test_ret_10_a_job_whose_retries_are_used_up_is_kept_with_its_error_and_state(
    app: Durable, storage: VirtualStorage, attempts: Attempts
) -> None:
    job = attempts.declare(app, retry=Retry(2, constant("1m"), jitter=0))
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 7)
        await kit.clock.advance("1h")
        status = await job.status("k")
        assert status.last_error is not None
        assert (status.last_error.type, status.last_error.message) == ("ValueError", "failure 2")
        assert (status.status, status.reason) == (ShownStatus.FAILED, "retries exhausted")
        assert await job.state("k") == 7
        assert [line.key for line in await app.jobs.list(status="failed")] == ["k"]
        assert await job.start("k", 1) == StartResult("continuous:job:k", False, ShownStatus.FAILED)


@pytest.mark.parametrize("call", ["redrive", "trigger"])
async def test_ret_10_a_failed_job_goes_on_when_it_is_told_to(
    app: Durable, storage: VirtualStorage, attempts: Attempts, call: str
) -> None:
    job = attempts.declare(app, retry=Retry(2, constant("1m"), jitter=0))
    async with app_under_test(app, storage=storage) as kit:
        assert await job.redrive("k") == RedriveResult("continuous:job:k", False)
        await job.start("k", 7)
        await kit.clock.advance("1h")
        attempts.act = lambda _: None
        await getattr(job, call)("k")
        await kit.drain()
        status = await job.status("k")
        assert (status.status, status.run_count, status.last_error) == (ShownStatus.RUNNING, 1, None)
        assert (status.reason, status.next_run_at) == (None, kit.clock.now() + INTERVAL)
        assert attempts.told[-1] == (1, 1, False)
        assert await job.state("k") == 8
        assert await job.redrive("k") == RedriveResult("continuous:job:k", False)


async def test_ret_10_on_exhausted_continue_plans_the_next_run(
    app: Durable, storage: VirtualStorage, attempts: Attempts
) -> None:
    job = attempts.declare(app, retry=Retry(2, constant("1m"), jitter=0), on_exhausted="continue")
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 7)
        await kit.clock.advance("1m")
        status = await job.status("k")
        assert (status.status, status.next_run_at) == (ShownStatus.RUNNING, kit.clock.now() + INTERVAL)
        assert status.last_error is not None
        await kit.clock.advance(INTERVAL)
        assert attempts.told[-1] == (1, 1, False)


async def test_ret_10_on_exhausted_purge_ends_the_job_without_its_state(
    app: Durable, storage: VirtualStorage, attempts: Attempts
) -> None:
    job = attempts.declare(app, retry=Retry(2, constant("1m"), jitter=0), on_exhausted="purge")
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 7)
        await kit.clock.advance("1h")
        status = await job.status("k")
        assert (status.status, status.reason) == (ShownStatus.TERMINATED, "retries exhausted")
        assert status.last_error is not None
        assert await job.state("k") is None
        assert (await job.start("k", 1)).created


async def test_on_exhausted_purge_acts_on_the_first_failure_where_there_is_no_retry(
    app: Durable, storage: VirtualStorage, attempts: Attempts
) -> None:
    job = attempts.declare(app, on_exhausted="purge")
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 7)
        await kit.clock.advance("1d")
        assert attempts.at == [0.0]
        status = await job.status("k")
        assert (status.status, await job.state("k")) == (ShownStatus.TERMINATED, None)
        assert [event.name for event in kit.events("job.*")] == ["job.started", "job.failed", "job.terminated"]


async def test_ret_10_a_caller_that_waits_is_told_the_last_error(
    app: Durable, storage: VirtualStorage, attempts: Attempts
) -> None:
    job = attempts.declare(app, retry=Retry(2, constant(0)))
    async with app_under_test(app, storage=storage):
        with pytest.raises(JobExecutionError, match="ValueError: failure 2"):
            await job.start("k", 7, wait=True)
        with pytest.raises(JobExecutionError, match="ValueError: failure 4"):
            await job.trigger("k", wait=True)


async def test_ret_11_a_restart_in_a_backoff_keeps_the_moment_and_the_number_of_the_retry(
    app: Durable, storage: VirtualStorage, attempts: Attempts
) -> None:
    job = attempts.declare(app, retry=Retry(3, constant("1m"), jitter=0))
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0)
        await kit.clock.advance("30s")
    async with app_under_test(app, storage=storage) as kit:
        await kit.drain()
        assert attempts.at == [0]
        await kit.clock.advance("30s")
        assert (attempts.at, attempts.told[-1]) == ([0, 60], (1, 2, True))


async def test_ret_12_a_lost_worker_is_shown_and_burns_a_delivery_and_no_attempt(storage: VirtualStorage) -> None:
    """The case asks for the loss to count as an attempt; here it counts as a delivery, on purpose.

    What has a single attempt is to survive its machine, and nobody knows whether what was lost had started: it may have
    waited for a slot. The limit on losses is max_deliveries, and it is shown as lost either way.
    """
    apps = [Durable("memory:"), Durable("memory:")]
    door = Door()
    seen: list[tuple[int, str | None]] = []

    async def run(ctx: ContinuousContext[int]) -> None:
        seen.append((ctx.attempt, ctx.previous_error and ctx.previous_error.type))
        if len(seen) == 1:
            await door.hold(is_deaf=True)
            ctx.set_state(-1)

    jobs = [app.continuous(state=int, schedule=every("1h"), name="job", retry=Retry(2))(run) for app in apps]
    async with crew(storage, apps[0]) as (lost,):
        await jobs[0].start("k", 5)
        await reached(door)
        storage.move_to(storage.now() + timedelta(hours=2))
        async with crew(storage, apps[1]) as (other,):
            await other.drain()
            # The worker that was lost is alive here, and may be the one that takes it anew.
            await until(lambda: len(seen) > 1)
            assert seen == [(1, None), (1, "lease_expired")]
            door.open()
            await lost.drain()
            status = await jobs[1].status("k")
            assert (await jobs[1].state("k"), status.run_count, status.last_error) == (5, 1, None)


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "thread"])
async def test_ret_13_a_timeout_is_that_of_each_attempt(app: Durable, storage: VirtualStorage, is_async: bool) -> None:
    seen: list[tuple[int, str | None]] = []

    def note(ctx: ContinuousContext[int]) -> bool:
        seen.append((ctx.attempt, ctx.previous_error and ctx.previous_error.type))
        return ctx.attempt < 3

    async def run(ctx: ContinuousContext[int]) -> None:
        if note(ctx):
            await asyncio.Event().wait()

    def run_in_thread(ctx: ContinuousContext[int]) -> None:
        if note(ctx):
            assert ctx.cancel_signal.wait(30)

    declare = app.continuous(state=int, schedule=every("1h"), retry=Retry(3, constant(0)), timeout="50ms", name="job")
    job = declare(run if is_async else run_in_thread)
    async with app_under_test(app, storage=storage):
        await job.start("k", 5, wait=True)
        assert seen == [(1, None), (2, "timed_out"), (3, "timed_out")]


async def test_ret_14_two_executors_at_the_moment_of_a_retry_run_it_once(storage: VirtualStorage) -> None:
    apps = [Durable("memory:") for _ in range(3)]
    attempts: list[int] = []

    async def run(ctx: ContinuousContext[int]) -> None:
        attempts.append(ctx.attempt)
        raise ValueError

    retry = Retry(5, constant("1m"), jitter=0)
    jobs = [app.continuous(state=int, schedule=every("1h"), name="job", retry=retry)(run) for app in apps]
    async with crew(storage, *apps) as kits:
        await jobs[0].start("k", 5)
        await drained(kits)
        for number in range(2, 6):
            storage.move_to(storage.now() + timedelta(minutes=1))
            await drained(kits)
            assert attempts == list(range(1, number + 1))
