"""Arguments that could be stored nowhere, or do nothing: refused at the call, on every storage alike."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable import ConfigurationError, Durable
from durable.memory import MemoryStorage

from .place import Place


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("a\x00b", "reason contains NUL or half of a surrogate pair"),
        ("a\ud800b", "reason contains NUL or half of a surrogate pair"),
        ("x" * 10_001, "reason has 10001 characters; it must have 1 to 10000"),
        (7, "reason is a int; give a str"),
    ],
)
async def test_a_reason_is_a_text_that_can_be_stored(place: Place, reason: Any, told: str) -> None:
    app = place.app()

    @app.task
    async def work() -> None: ...

    def blocking(execution_id: str) -> None:
        with app.client() as client:
            for call in (lambda: client.cancel(execution_id, reason=reason), lambda: client.cancel_all(reason=reason)):
                with pytest.raises(ConfigurationError, match=told):
                    call()

    async with app:
        handle = await work.enqueue(delay="1h")
        with pytest.raises(ConfigurationError, match=told):
            await handle.cancel(reason=reason)
        with pytest.raises(ConfigurationError, match=told):
            await app.cancel_all(reason=reason)
        await asyncio.to_thread(blocking, handle.execution_id)
        assert (await handle.cancel(reason="")).outcome == "cancelled"


async def test_memory_refuses_a_connection_that_it_cannot_join() -> None:
    app = Durable(storage=MemoryStorage())

    @app.task
    async def work() -> None: ...

    async with app:
        with pytest.raises(ConfigurationError, match="joins a transaction, and the storage in memory has none"):
            await work.enqueue(connection=object())
        with app.client() as client, pytest.raises(ConfigurationError, match="storage in memory has none"):
            client.enqueue(work, connection=object())
