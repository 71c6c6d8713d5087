"""Continuous: after a pause nothing begins but what a trigger asks for, whatever becomes of the attempt that runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from durable import Durable, Retry, constant, every
from durable.jobs import Continuous, ContinuousContext, InvalidJobState, ShownStatus
from durable.testing import VirtualStorage, app_under_test
from tests.flow.place import soon

from .crew import client_only
from .stage import Gate

Attempts = list[tuple[int, int]]
"""The number of the run and of the attempt of each start."""


def declared(app: Durable, gate: Gate, act: Callable[[int], None]) -> tuple[Continuous[int], Attempts]:
    """A job whose first attempt stops at a gate."""
    attempts: Attempts = []

    @app.continuous(state=int, schedule=every("1h"), retry=Retry(4, constant("10m"), jitter=0))
    async def job(ctx: ContinuousContext[int]) -> None:
        attempts.append((ctx.run_count, ctx.attempt))
        if len(attempts) == 1:
            await gate.hold()
        act(len(attempts))
        ctx.set_state(len(attempts))

    return job, attempts


def fail_until(count: int) -> Callable[[int], None]:
    def act(number: int) -> None:
        if number <= count:
            raise ValueError(f"no {number}")

    return act


@pytest.mark.parametrize("is_triggered", [False, True])
async def test_con_20_a_pause_during_an_attempt_takes_its_retries(
    app: Durable, storage: VirtualStorage, is_triggered: bool
) -> None:
    gate = Gate()
    job, attempts = declared(app, gate, fail_until(1))
    async with client_only(storage, app):
        await job.start("k", 0)
        if is_triggered:
            await job.trigger("k")
    async with app_under_test(app, storage=storage) as kit:
        await gate.reached()
        assert (await job.pause("k")).changed
        gate.open()
        await kit.drain()
        status = await job.status("k")
        assert (status.status, status.next_run_at, status.attempt) == (ShownStatus.PAUSED, None, 1)
        assert [line.next_run_at for line in await app.jobs.list()] == [None]
        await kit.clock.advance("5h")
        assert attempts == [(1, 1)]
        status = await job.status("k")
        assert (status.status, status.attempt, status.is_turn_running) == (ShownStatus.PAUSED, 0, False)
        assert str(status.last_error) == "ValueError: no 1"
        assert (await job.resume("k")).changed
        await kit.drain()
        assert attempts == [(1, 1), (1, 1)]
        status = await job.status("k")
        assert (status.status, status.run_count, status.last_error) == (ShownStatus.RUNNING, 1, None)


async def test_con_20_a_resume_before_the_retry_lets_it_come(app: Durable, storage: VirtualStorage) -> None:
    gate = Gate()
    job, attempts = declared(app, gate, fail_until(1))
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0)
        await gate.reached()
        await job.pause("k")
        gate.open()
        await kit.clock.advance("5m")
        await job.resume("k")
        await kit.clock.advance("5m")
        assert attempts == [(1, 1), (1, 2)]


async def test_con_20_a_second_pause_takes_the_retry_at_once(app: Durable, storage: VirtualStorage) -> None:
    gate = Gate()
    job, attempts = declared(app, gate, fail_until(1))
    async with app_under_test(app, storage=storage) as kit:
        waiting = asyncio.ensure_future(job.start("k", 0, wait=True))
        await gate.reached()
        await job.pause("k")
        gate.open()
        await kit.drain()
        assert not (await job.pause("k")).changed
        with pytest.raises(InvalidJobState):
            await soon(waiting)
        assert (await job.status("k")).attempt == 0
        await kit.clock.advance("1h")
        assert attempts == [(1, 1)]


async def test_con_20_what_a_stop_cut_short_waits_for_the_end_of_a_pause(app: Durable, storage: VirtualStorage) -> None:
    gate = Gate()
    job, attempts = declared(app, gate, fail_until(0))
    async with app_under_test(app, storage=storage):
        await job.start("k", 0)
        await gate.reached()
        await job.pause("k")
    gate.open()
    async with app_under_test(app, storage=storage) as kit:
        await kit.clock.advance("2h")
        assert attempts == [(1, 1)]
        await job.resume("k")
        await kit.drain()
        assert attempts == [(1, 1), (1, 1)]


async def test_con_20_a_trigger_after_the_pause_runs_and_is_retried(app: Durable, storage: VirtualStorage) -> None:
    gate = Gate()
    job, attempts = declared(app, gate, fail_until(2))
    async with app_under_test(app, storage=storage) as kit:
        await job.start("k", 0)
        await gate.reached()
        await job.pause("k")
        gate.open()
        await kit.drain()
        assert (await job.trigger("k")).triggered
        await kit.drain()
        assert attempts == [(1, 1), (1, 1)]
        await kit.clock.advance("5h")
        assert attempts == [(1, 1), (1, 1), (1, 2)]
        status = await job.status("k")
        assert (status.status, status.run_count, status.last_error) == (ShownStatus.PAUSED, 1, None)
