"""Beat: store the progress details of running attempts, the last of each, many in one statement."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

from durable.attempts import Attempt
from durable.codec import Codec
from durable.storage import Storage

__all__ = ["BeatRoom"]

_log = logging.getLogger("durable")


class BeatRoom:
    """Collects details from coroutines and threads; what comes while a write is on its way goes with the next."""

    def __init__(self, *, storage: Storage, codec: Codec) -> None:
        self._storage = storage
        self._shape = codec.value(Any, "heartbeat details")
        self._pending: dict[tuple[str, int], str] = {}
        self._lock = threading.Lock()
        self._arrived = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def beat(self, attempt: Attempt, details: Any) -> None:
        text = self._shape.dump(details, "details")
        with self._lock:
            self._pending[attempt.key] = text
        self._loop.call_soon_threadsafe(self._arrived.set)

    async def run(self) -> None:
        """Write for ever. Details are for people: a write that fails is dropped, the next beat brings newer ones."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            with self._lock:
                batch, self._pending = self._pending, {}
            try:
                await self._storage.heartbeat([(*key, text) for key, text in batch.items()])
            except Exception as error:
                _log.warning("progress of %d executions was not stored: %s", len(batch), error)
