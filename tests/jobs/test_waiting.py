"""Callers that wait for a turn, while it goes on between two of their looks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable import Durable
from durable.jobs import ExecuteContext, InstanceNotFound, Task
from durable.script import Ask, EndOf, Script
from durable.testing import VirtualStorage, app_under_test
from tests.flow.place import soon


def counter(app: Durable, looked: asyncio.Event) -> Task[int, int]:
    """Handles an event when the caller has looked: an executor may be quicker than a caller's second statement."""
    job = app.task_job("counter", state=int, event=int)

    @job.on_event
    async def on_event(ctx: Any, event: int) -> None:
        await looked.wait()
        ctx.set_state((ctx.state or 0) + event)

    @job.execute
    async def execute(ctx: ExecuteContext[int]) -> None: ...

    return job


async def looked_once(script: Script[None], app: Durable) -> Any:
    """The answer to the first question of a script, which it has not been told yet."""
    first = script.send(None)
    assert isinstance(first, Ask)
    return await first.make(app.live.storage)


async def finish(script: Script[None], answer: Any, app: Durable) -> None:
    try:
        while True:
            match script.send(answer):
                case Ask(make, _):
                    answer = await make(app.live.storage)
                case EndOf(execution_id):
                    (answer,) = await soon(asyncio.gather(*app.live.waiters.futures([execution_id])))
                case step:
                    raise AssertionError(step)
    except StopIteration:
        pass


async def test_a_turn_that_ends_between_two_looks_has_handled_the_event(app: Durable, storage: VirtualStorage) -> None:
    looked = asyncio.Event()
    job = counter(app, looked)
    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", 5, event_id="five")
        script = job.__calls__.wait_for_event(job.__calls__.spec.job_key("k"), "five", None)
        before = await looked_once(script, app)
        looked.set()
        await kit.drain()
        await finish(script, before, app)
        assert (await job.state("k")).state == 5


async def test_an_event_that_was_handled_and_forgotten_between_two_looks_has_been_handled(
    app: Durable, storage: VirtualStorage
) -> None:
    looked = asyncio.Event()
    job = counter(app, looked)
    async with app_under_test(app, storage=storage) as kit:
        await job.send("k", 5)
        (event,) = await app.live.storage.pending_events(job.__calls__.spec.job_key("k"))
        assert event.event_id is not None
        script = job.__calls__.wait_for_event(job.__calls__.spec.job_key("k"), event.event_id, None)
        before = await looked_once(script, app)
        looked.set()
        await kit.clock.advance("1h")
        await app.live.storage.forget_events(limit=10)
        assert await app.live.storage.event_end(job.__calls__.spec.job_key("k"), event.event_id) is None
        await finish(script, before, app)


async def test_an_event_of_a_job_that_was_ended_is_not_waited_for(app: Durable, storage: VirtualStorage) -> None:
    looked = asyncio.Event()
    job = counter(app, looked)
    async with app_under_test(app, storage=storage):
        await job.send("k", 5, event_id="five")
        script = job.__calls__.wait_for_event(job.__calls__.spec.job_key("k"), "five", None)
        before = await looked_once(script, app)
        assert await app.live.storage.end_job(job.__calls__.spec.job_key("k"), reason=None)
        with pytest.raises(InstanceNotFound, match="before event 'five' was handled"):
            await finish(script, before, app)
        looked.set()
