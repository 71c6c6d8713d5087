"""Subscribers for tests of lifecycle events, and ways to wait for what they are told."""

import asyncio
from typing import Final

from durable import Durable, LifecycleEvent, Retry, constant

from .place import PATIENCE

__all__ = ["QUICKLY", "Seen", "all_delivered"]

QUICKLY: Final = Retry(max_attempts=3, delay=constant(0), jitter=0)


class Seen:
    """A subscriber that keeps what it is told; it raises `failures` times before it takes anything."""

    def __init__(self, failures: int = 0) -> None:
        self.events: list[LifecycleEvent] = []
        self.failures = failures
        self._more = asyncio.Event()

    async def __call__(self, event: LifecycleEvent) -> None:
        if self.failures:
            self.failures -= 1
            raise ValueError("not now")
        self.events.append(event)
        self._more.set()

    async def count(self, count: int) -> list[LifecycleEvent]:
        """The events, as soon as there are so many."""
        async with asyncio.timeout(PATIENCE):
            while len(self.events) < count:
                self._more.clear()
                await self._more.wait()
        assert len(self.events) == count
        return self.events

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]


async def all_delivered(app: Durable) -> None:
    async with asyncio.timeout(PATIENCE):
        while any((await app.events.pending()).values()):
            pass
