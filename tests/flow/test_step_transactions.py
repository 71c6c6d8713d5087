"""Steps in transactions, many at once, beside a storage that has one connection for all else."""

from __future__ import annotations

import asyncio
from typing import Any

from durable import Durable, WorkflowContext
from tests.flow.place import PATIENCE, PostgresPlace, running

FLOWS = 6
STEPS = 5


async def test_transactions_that_wait_for_their_checkpoints_keep_no_other_work_from_going_on(
    postgres: PostgresPlace,
) -> None:
    app = postgres.app()

    async def look(connection: Any, number: int) -> int:
        await connection.execute("select 1")
        return number

    async def noop(number: int) -> int:
        return number

    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        async def one(number: int) -> int:
            await ctx.step(noop, number)
            await ctx.sleep(0.005 * number)
            return await ctx.transaction(look, number)

        return sum(await ctx.gather(*[one(number) for number in range(STEPS)]))

    async with running(app):
        handles = [await flow.enqueue() for _ in range(FLOWS)]
        results = await asyncio.gather(*(handle.result(timeout=PATIENCE) for handle in handles))
        assert results == [sum(range(STEPS))] * FLOWS


async def test_updates_in_transactions_are_answered_by_many_workflows_at_once(postgres: PostgresPlace) -> None:
    app: Durable = postgres.app()

    async def look(connection: Any, number: int) -> int:
        await connection.execute("select 1")
        return number

    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        return await ctx.wait_signal("go", int)

    @flow.update
    async def ask(ctx: WorkflowContext, number: int) -> int:
        return await ctx.transaction(look, number)

    async with running(app):
        handles = [await flow.enqueue() for _ in range(FLOWS)]
        asked = [handle.update(ask, number, timeout=PATIENCE) for handle in handles for number in range(STEPS)]
        assert await asyncio.gather(*asked) == [*range(STEPS)] * FLOWS
        for handle in handles:
            await handle.signal("go", 1)
        assert [await handle.result(timeout=PATIENCE) for handle in handles] == [1] * FLOWS
