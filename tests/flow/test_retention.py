"""Results stay until the executor's retention has passed; then their trees go whole."""

import asyncio

import pytest

from durable import ConfigurationError, Durable, ExecutionNotFound, ExecutorSettings, Spawn, Status

from .place import PATIENCE, Place, running


async def gone(app: Durable, execution_id: str) -> None:
    """Return as soon as an execution is not stored any more."""
    async with asyncio.timeout(PATIENCE):
        while (await app.status(execution_id)).is_found:
            pass  # each look is a round trip


async def test_pool_22_a_result_is_kept_until_retention_and_then_gone(app: Durable, place: Place) -> None:
    @app.task
    async def leaf() -> None: ...

    @app.parent()
    async def top() -> Spawn[None]:
        return Spawn(None, [leaf.child(), leaf.child()])

    async with running(app):
        handle = await top.enqueue()
        await handle.result(PATIENCE)
        waiting = await leaf.enqueue(delay="1h")
        assert place.count() == 4
    async with running(app, retention="10ms"):
        await gone(app, handle.execution_id)
        with pytest.raises(ExecutionNotFound):
            await handle.result(0)
        assert await waiting.status() is Status.READY
    assert place.count() == 1


async def test_a_key_is_free_again_after_retention(app: Durable) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    async with running(app, retention="10ms"):
        first = await work.enqueue(1, idempotency_key="k")
        await gone(app, first.execution_id)
        second = await work.enqueue(2, idempotency_key="k")
        assert second.execution_id != first.execution_id


async def test_without_retention_nothing_is_deleted(app: Durable, place: Place) -> None:
    @app.task
    async def work() -> None: ...

    async with running(app, retention=None, upkeep_interval="10ms") as executor:
        handle = await work.enqueue()
        await handle.result(PATIENCE)
        # Upkeep announces the executor after it has done all else.
        async with asyncio.timeout(PATIENCE):
            while executor.id not in [row.id for row in await app.storage.executors()]:
                pass
    assert place.count() == 1


def test_retention_is_thirty_days_unless_told_otherwise() -> None:
    assert ExecutorSettings().retention == 30 * 86_400
    assert ExecutorSettings(retention=None).retention is None
    assert ExecutorSettings(retention="1h").retention == 3600
    with pytest.raises(ConfigurationError, match="retention"):
        ExecutorSettings(retention=-1)
