"""`cancel_all` where the clock stands still: everything of this moment is cancelled, and what tells of it is not."""

from __future__ import annotations

from typing import Any

import pytest

from durable import Completion, ConfigurationError, Durable, OnComplete, Status
from durable.testing import VirtualStorage, app_under_test


async def test_what_was_enqueued_at_this_moment_is_cancelled(app: Durable, storage: VirtualStorage) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    async with app_under_test(app, storage=storage) as kit:
        handles = [await work.enqueue(n, delay="1h") for n in range(3)]
        assert await app.cancel_all() == 3
        assert [await handle.status() for handle in handles] == [Status.CANCELLED] * 3
        later = await work.enqueue(4, delay="1h")
        assert await app.cancel_all(before=kit.clock.now()) == 0
        assert await later.status() is Status.READY


async def test_callbacks_of_what_was_cancelled_are_called(app: Durable, storage: VirtualStorage) -> None:
    told: list[str] = []

    @app.task
    async def work() -> None: ...

    @app.task
    async def tell(end: Completion[None]) -> None:
        told.append(str(end.status))

    async with app_under_test(app, storage=storage) as kit:
        for _ in range(3):
            await work.enqueue(delay="1h", on_complete=OnComplete(tell))
        assert await app.cancel_all() == 3
        await kit.drain()
        assert told == ["cancelled"] * 3


@pytest.mark.parametrize("task", ["work", 5, object])
async def test_what_is_no_task_is_refused_before_anything_is_cancelled(
    app: Durable, storage: VirtualStorage, task: Any
) -> None:
    @app.task
    async def work() -> None: ...

    async with app_under_test(app, storage=storage):
        handle = await work.enqueue(delay="1h")
        with pytest.raises(ConfigurationError, match=r"^task is .*; give a declared task or workflow, not its name"):
            await app.cancel_all(task=task)
        with app.client() as client, pytest.raises(ConfigurationError, match=r"^task is .*; give a declared task"):
            client.cancel_all(task=task)
        assert await handle.status() is Status.READY
        assert await app.cancel_all(task=work) == 1
