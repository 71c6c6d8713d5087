"""Task jobs: a trigger while an event waits for another attempt asks for one more turn, and takes no event away."""

from __future__ import annotations

from datetime import timedelta

from durable import Durable, Retry, constant
from durable.jobs import EventContext, ExecuteContext, ShownStatus, Task
from durable.testing import VirtualStorage, app_under_test

from .crew import client_only
from .stage import Gate

Notes = list[tuple[str, int]]
"""What ran, and in which attempt."""


def declared(app: Durable, failures: int) -> tuple[Task[list[str], str], Notes]:
    """A job whose event fails so many times, and is tried three times."""
    job = app.task_job("job", state=list[str], event=str, retry=Retry(3, constant("1h"), jitter=0))
    notes: Notes = []

    @job.on_event
    async def on_event(ctx: EventContext[list[str], str], event: str) -> None:
        notes.append((event, ctx.attempt))
        if len(notes) <= failures:
            raise ValueError("no")
        ctx.set_state([*(ctx.state or []), event])

    @job.execute
    async def execute(ctx: ExecuteContext[list[str]]) -> None:
        notes.append(("execute", ctx.attempt))
        ctx.set_state([*(ctx.state or []), "executed"])

    return job, notes


async def test_tsk_16_a_trigger_in_the_backoff_of_an_event_runs_behind_it(
    app: Durable, storage: VirtualStorage
) -> None:
    job, notes = declared(app, 1)
    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "a")
        await kit.drain()
        for _ in range(2):
            triggered = await job.trigger("k")
            assert (triggered.triggered, triggered.queued) == (True, True)
        await kit.drain()
        status = await job.status("k")
        assert (status.attempt, status.next_run_at) == (1, kit.clock.now() + timedelta(hours=1))
        await kit.clock.advance("1h")
        assert notes == [("a", 1), ("a", 2), ("execute", 1)]
        status = await job.status("k")
        assert (status.status, status.event_count, status.execute_count) == (ShownStatus.IDLE, 1, 1)
        assert (await job.state("k")).state == ["a", "executed"]


async def test_tsk_16_a_trigger_runs_behind_an_event_that_fails_for_good(app: Durable, storage: VirtualStorage) -> None:
    job, notes = declared(app, 3)
    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", "a")
        await kit.drain()
        assert (await job.trigger("k")).queued
        await kit.clock.advance("2h")
        assert notes == [("a", 1), ("a", 2), ("a", 3), ("execute", 1)]
        assert (await job.status("k")).dead_letters == 1
        assert (await job.redrive("k")).redriven
        await kit.drain()
        assert (await job.state("k")).state == ["executed", "a"]


async def test_tsk_16_a_trigger_of_an_event_that_a_stop_cut_short_runs_behind_it(
    app: Durable, storage: VirtualStorage
) -> None:
    job = app.task_job("job", state=list[str], event=str)
    gate = Gate()
    notes: list[str] = []

    @job.on_event
    async def on_event(ctx: EventContext[list[str], str], event: str) -> None:
        notes.append(event)
        await gate.hold()

    @job.execute
    async def execute(ctx: ExecuteContext[list[str]]) -> None:
        notes.append("execute")

    async with app_under_test(app, storage=storage):
        await job.send("k", "a")
        await gate.reached()
    async with client_only(storage, app):
        triggered = await job.trigger("k")
        assert (triggered.triggered, triggered.queued) == (True, True)
    gate.open()
    async with app_under_test(app, storage=storage) as kit:
        await kit.drain()
        assert notes == ["a", "a", "execute"]
        status = await job.status("k")
        assert (status.event_count, status.execute_count) == (1, 1)
