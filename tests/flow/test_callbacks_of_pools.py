"""Callbacks whose task runs in a pool."""

from __future__ import annotations

import pytest

from durable import Completion, ConfigurationError, Durable, OnComplete, TaskContext


async def test_a_callback_of_a_pool_cannot_run_in_the_transaction_of_an_end() -> None:
    app = Durable("memory:")
    pool = app.pool("calls")

    @pool.task
    async def ended(ctx: TaskContext, end: Completion[None, None]) -> None: ...

    @app.task
    async def work() -> None: ...

    async with app:
        with pytest.raises(ConfigurationError, match="runs in a pool"):
            await work.enqueue(on_complete=OnComplete(ended, mode="transaction"))
