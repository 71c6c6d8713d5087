"""The function behind a declared job can be called in a unit test, with what stands in for its context."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from durable import Durable, every
from durable.jobs import ContinuousContext, DebounceContext, EventContext


def test_the_function_of_a_job_runs_as_it_is() -> None:
    app = Durable("memory:")
    orders = app.task_job("orders", state=int, event=int)

    @app.continuous(state=int, schedule=every("1h"))
    async def refresh(ctx: ContinuousContext[int]) -> int:
        return ctx.state + 1

    @app.debounce(event=int, flush_after="1s")
    def batch(ctx: DebounceContext[int, int]) -> list[int]:
        return list(ctx.events)

    @orders.on_event
    async def ordered(ctx: EventContext[int, int], event: int) -> None:
        ctx.set_state(event)

    states: list[int] = []
    fake = cast("Any", SimpleNamespace(state=1, events=(2, 3), set_state=states.append))
    assert asyncio.run(refresh(fake)) == 2
    assert batch(fake) == [2, 3]
    asyncio.run(cast("Any", ordered(fake, 4)))
    assert states == [4]
