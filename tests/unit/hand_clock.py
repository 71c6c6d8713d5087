"""A clock for what asks a clock and nothing else."""

from __future__ import annotations

__all__ = ["HandClock"]


class HandClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
