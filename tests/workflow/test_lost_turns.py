"""Turns whose end is refused, or whose transaction cannot begin, leave nothing that their history does not know."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from durable import Durable, WorkflowContext
from durable.execution import Settled, Settlement
from durable.testing import VirtualStorage, app_under_test


async def test_a_turn_whose_end_was_refused_goes_on_from_its_history_and_not_from_memory(
    app: Durable, storage: VirtualStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same executor claims it again, with a fence that is as much higher as after an end that was accepted."""
    fences: list[int] = []

    @app.workflow
    async def sleeper(ctx: WorkflowContext) -> str:
        began = ctx.now()
        await ctx.sleep("1h")
        return str(ctx.now() - began)

    async with app_under_test(app, storage=storage) as kit:
        settle = kit.app.storage.settle

        async def refused() -> Settled:
            return Settled(frozenset(), frozenset())

        def refusing(settlements: Sequence[Settlement], **options: Any) -> Any:
            fences.extend(item.fence for item in settlements)
            return refused() if len(fences) == 1 else settle(settlements, **options)

        monkeypatch.setattr(kit.app.storage, "settle", refusing)
        handle = await sleeper.enqueue()
        await kit.drain()
        await kit.clock.advance("2h")
        await kit.clock.advance("2h")
        assert await handle.result(timeout=0) == "1:00:00"
        (history,) = await kit.app.storage.histories([(handle.execution_id, 0, 0)])
    assert fences[:2] == [1, 3]
    assert [(entry.seq, entry.kind) for entry in history.entries] == [(1, "code"), (2, "sleeping"), (3, "slept")]


async def test_a_workflow_whose_transaction_cannot_begin_is_given_back_and_goes_on(
    app: Durable, durable_postgres: VirtualStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    async def book(connection: Any) -> str:
        ran.append("book")
        return "booked"

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        return str(await ctx.transaction(book))

    async with app_under_test(app, storage=durable_postgres) as kit:
        transaction = kit.app.storage.transaction
        tries: list[bool] = []

        @asynccontextmanager
        async def failing(*args: Any) -> AsyncGenerator[Any]:
            tries.append(True)
            if len(tries) == 1:
                raise ConnectionError("the server is away")
            async with transaction(*args) as connection:
                yield connection

        monkeypatch.setattr(kit.app.storage, "transaction", failing)
        handle = await flow.enqueue()
        await kit.drain()
        record = await handle.execution()
        assert (await handle.result(timeout=0), ran, record.attempts) == ("booked", ["book"], 1)
