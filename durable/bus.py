"""Hints within one process: who may have new work, a result or a cancellation to look for. Never data.

A hint heard from another process and one given here take the same way, so nobody who waits needs to know which it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from durable.storage import Hint, Storage

__all__ = ["Bus"]

_log = logging.getLogger("durable")

Listener = Callable[[Hint], None]


class Bus:
    """Passes hints to the listeners of this process, at once, and to other processes, coalesced and in its own time."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._listeners: list[Listener] = []
        self._pending: set[Hint] = set()
        self._sender: asyncio.Task[None] | None = None
        self._hearer: asyncio.Task[None] | None = None

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` for every hint from now on; the result ends that."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def tell(self, *hints: Hint) -> None:
        """Give hints after a commit. Listeners here run before it returns; other processes hear some time later."""
        for hint in hints:
            self._deliver(hint)
        self.tell_others(*hints)

    def tell_others(self, *hints: Hint) -> None:
        """Give hints to other processes only; for what this one has already acted upon."""
        if not hints or not self._storage.is_shared:
            return
        self._pending.update(hints)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send(), name="durable-hints")

    def hear(self) -> None:
        """Start listening to other processes, if nobody has asked for it before."""
        if self._storage.is_shared and self._hearer is None:
            self._hearer = asyncio.create_task(self._listen(), name="durable-listen")

    async def close(self) -> None:
        """Send what is pending, for a moment at most, and stop listening; any hint may be dropped."""
        if self._sender is not None:
            await asyncio.wait({self._sender}, timeout=0.3)
        for task in (self._sender, self._hearer):
            if task is not None:
                task.cancel()
                await asyncio.wait({task}, timeout=0.3)
        self._sender = self._hearer = None

    def _deliver(self, hint: Hint) -> None:
        for listener in tuple(self._listeners):
            listener(hint)

    async def _send(self) -> None:
        # What is told while a statement is on its way goes out with the next one, so a busy process sends few.
        while self._pending:
            hints, self._pending = self._pending, set()
            try:
                await self._storage.hint(sorted(hints))
            except Exception as error:
                # A lost hint costs one poll interval; the loops that do the work report a lost database.
                _log.debug("hints were not sent: %s", error)

    async def _listen(self) -> None:
        hints: AsyncIterator[Hint] = self._storage.listen()
        try:
            async for hint in hints:
                self._deliver(hint)
        except Exception:
            _log.exception("listening ended; polling goes on")
