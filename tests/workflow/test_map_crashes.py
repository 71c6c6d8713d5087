"""A map, and what a workflow starts beside it, whatever write a crash comes after."""

from __future__ import annotations

import pytest

from durable import Durable, WorkflowContext
from durable.testing import crash_everywhere
from durable.workflow import maps


async def test_a_map_gives_the_same_after_a_crash_anywhere(app: Durable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "_PAGE", 3)

    @app.task
    async def double(n: int) -> int:
        return 2 * n

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[int]:
        await ctx.start(double, 1)
        return await ctx.map(double, (n for n in range(8)), concurrency=3)

    await crash_everywhere(flow)
