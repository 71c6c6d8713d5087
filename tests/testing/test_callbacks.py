"""Callbacks under a virtual clock: `drain` waits for them as for the work that they follow."""

from __future__ import annotations

from typing import Any

import pytest

from durable import Completion, Durable, OnComplete, Retry, Status, TaskContext
from durable.storage import ExecutionFilter
from durable.testing import VirtualStorage, app_under_test


async def test_drain_waits_for_the_callbacks_of_what_it_runs(app: Durable, storage: VirtualStorage) -> None:
    ends: list[tuple[int, Status]] = []

    @app.task(queue="calls")
    async def called(end: Completion[int, int]) -> None:
        ends.append((end.context, end.status))

    @app.task
    async def work(n: int) -> int:
        return 1 // n

    async with app_under_test(app, storage=storage) as kit:
        for n in (0, 1):
            await work.enqueue(n, on_complete=OnComplete(called, context=n))
        assert ends == []
        await kit.drain()
        assert sorted(ends) == [(0, Status.FAILED), (1, Status.COMPLETED)]


async def test_a_callback_that_fails_is_retried_in_virtual_time(app: Durable, storage: VirtualStorage) -> None:
    seen: list[Any] = []

    @app.task(retry=Retry(3, "1h", jitter=0))
    async def called(end: Completion[int, None]) -> None:
        seen.append(end.status)
        if len(seen) < 3:
            raise ValueError("not yet")

    @app.task
    async def work() -> int:
        return 1

    async with app_under_test(app, storage=storage) as kit:
        await work.enqueue(on_complete=OnComplete(called))
        await kit.drain()
        assert len(seen) == 1
        await kit.clock.advance("1d")
        assert len(seen) == 3


@pytest.mark.parametrize("fails", [False, True])
async def test_drain_waits_for_callbacks_in_the_transaction_of_the_end(
    app: Durable, durable_postgres: VirtualStorage, fails: bool
) -> None:
    seen: list[Status] = []

    @app.task(retry=Retry(2, 0, jitter=0))
    async def called(ctx: TaskContext, end: Completion[int, None]) -> None:
        seen.append(end.status)
        if fails and len(seen) == 1:
            raise ValueError("not in the transaction")

    @app.task
    async def work() -> int:
        return 1

    async with app_under_test(app, storage=durable_postgres) as kit:
        await work.enqueue(on_complete=OnComplete(called, mode="transaction"))
        await kit.drain()
        assert seen == [Status.COMPLETED] * (2 if fails else 1)
        found = await app.storage.search(ExecutionFilter(), limit=9)
        assert {record.status for record in found} == {Status.COMPLETED}
