"""Continuous: the blocking client has the same calls, and a registry that is included declares as an app does."""

from __future__ import annotations

import asyncio
from typing import Any

from durable import Durable, Registry, Retry, constant, every
from durable.jobs import (
    Continuous,
    ContinuousContext,
    ContinuousStatus,
    JobExecutionError,
    PauseResult,
    RedriveResult,
    ShownStatus,
    StartResult,
    TerminateResult,
    TriggerResult,
)
from durable.testing import VirtualStorage, app_under_test

ID = "continuous:job:k"


def declared(on: Registry) -> Continuous[int]:
    @on.continuous(state=int, schedule=every("1h"), retry=Retry(2, constant(0)))
    def job(ctx: ContinuousContext[int]) -> None:
        if ctx.state < 0:
            raise ValueError("below zero")
        ctx.update_state(lambda n: n + 1)

    return job


def use(app: Durable, job: Continuous[int]) -> list[Any]:
    """Every call, in a thread without an event loop."""
    with app.client() as client:
        calls = client.job(job)
        results: list[Any] = [
            calls.status("k").status,
            calls.start("k", 5, wait=True, timeout="30s"),
            calls.start("k", 9),
            calls.trigger("k", wait=True, timeout="30s"),
            calls.state("k"),
            calls.pause("k"),
            calls.resume("k"),
            calls.redrive("k"),
            [line.key for line in client.jobs.list(kind="continuous")],
            client.jobs.count(name="job"),
            calls.terminate("k", reason="over"),
            calls.trigger("k"),
        ]
        try:
            calls.start("bad", -1, wait=True, timeout="30s")
        except JobExecutionError as error:
            results.append(str(error.error))
        results += [calls.redrive("bad"), calls.status("k")]
        return results


EXPECTED: list[Any] = [
    ShownStatus.NOT_FOUND,
    StartResult(ID, True, ShownStatus.RUNNING),
    StartResult(ID, False, ShownStatus.RUNNING),
    TriggerResult(ID, True, False),
    7,
    PauseResult(ID, True, ShownStatus.PAUSED),
    PauseResult(ID, True, ShownStatus.RUNNING),
    RedriveResult(ID, False),
    ["k"],
    1,
    TerminateResult(ID, True, "over"),
    TriggerResult(ID, False, False),
    "ValueError: below zero",
    RedriveResult("continuous:job:bad", True),
    ContinuousStatus(status=ShownStatus.TERMINATED, run_count=2, reason="over"),
]


async def test_con_01_to_17_by_the_blocking_client(app: Durable, storage: VirtualStorage) -> None:
    job = declared(app)
    async with app_under_test(app, storage=storage):
        assert await asyncio.to_thread(use, app, job) == EXPECTED


async def test_con_01_a_job_of_a_registry_that_is_included(app: Durable, storage: VirtualStorage) -> None:
    registry = Registry()
    job = declared(registry)
    app.include(registry)
    async with app_under_test(app, storage=storage):
        assert await job.start("k", 5, wait=True) == StartResult(ID, True, ShownStatus.RUNNING)
        assert (await job.state("k"), app.jobs.get("continuous", "job")) == (6, job)
