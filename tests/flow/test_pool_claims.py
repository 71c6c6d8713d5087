"""What an executor asks the storage for while a pool is busy: the pool, and its queues only with a cause."""

from typing import Any

import pytest

from durable import Durable

from .place import PATIENCE, running

FAR: dict[str, Any] = {"poll_interval": "10m"}


async def test_ends_in_a_pool_have_the_pool_asked_again_and_not_the_queues(
    app: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = app.pool("work", max_parallelism=1)
    claim, claims = app.storage.claim, 0

    def counted(**options: Any) -> Any:
        nonlocal claims
        claims += 1
        return claim(**options)

    @pool.task
    async def in_pool(n: int) -> int:
        return n

    @app.task
    async def in_queue(n: int) -> int:
        return n

    async with running(app, **FAR):
        handles = await in_pool.enqueue_many(range(40))
        monkeypatch.setattr(app.storage, "claim", counted)
        assert [await handle.result(PATIENCE) for handle in handles] == list(range(40))
        asked = claims
        # The hint of an enqueue is a cause, though no poll comes for minutes.
        assert await (await in_queue.enqueue(7)).result(PATIENCE) == 7
    assert asked < 20
    assert claims > asked
