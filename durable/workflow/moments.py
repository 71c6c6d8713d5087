"""The storage's time as a turn of a workflow knows it: told with each write, counted on by the local clock between."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from durable.clock import Clock

__all__ = ["Moments"]

_SHORT: Final = 1.0
_BARELY: Final = 0.1
"""Seconds by which a timer may be late because of it."""


class Moments:
    """Of one turn."""

    def __init__(self, clock: Clock, told: datetime) -> None:
        self._clock = clock
        self._told = told, clock.monotonic()

    def tell(self, at: datetime) -> None:
        self._told = at, self._clock.monotonic()

    def now(self) -> datetime:
        """The last moment that was told, and what has passed here since."""
        at, then = self._told
        return at + timedelta(seconds=self._clock.monotonic() - then)

    def shown(self) -> datetime:
        """What the body takes for now when it goes on: what the storage told last, unless that is long ago.

        So under virtual time, which stands while anything runs, a body sees that time and not some milliseconds more.
        """
        at, then = self._told
        passed = self._clock.monotonic() - then
        return at if passed < _SHORT else at + timedelta(seconds=passed)

    def until(self, moment: datetime) -> float:
        """Seconds from now, 0 for what has passed."""
        at, then = self._told
        # Counted from the moment that was told, unless that is some time ago: under virtual time, which stands while
        # anything runs, the workflow would be due a little before its timer, and suspend again.
        base = at if self._clock.monotonic() - then < _BARELY else self.now()
        return max(0.0, (moment - base).total_seconds())
