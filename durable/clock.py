"""How the library waits inside one process; what is due in the storage is decided by the storage's own clock."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """The time that loops, back-offs and local deadlines go by; tests supply one that they move themselves."""

    def monotonic(self) -> float:
        """Return seconds since some fixed point; never goes back. Called from any thread."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; zero or less gives other tasks one turn. Cancelling it is safe."""
        ...


class SystemClock:
    """The machine's monotonic clock and the running event loop."""

    __slots__ = ()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0.0))
