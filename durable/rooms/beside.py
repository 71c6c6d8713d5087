"""Beside: when queues that had too little are asked again, while pools keep the claim room busy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from durable.clock import Clock

__all__ = ["Beside"]

_SOONEST: Final = 0.03
"""Seconds to the next asking, at least: another executor may be first to take what a look found."""


class Beside:
    """Spares busy pools a claim that finds nothing, each time.

    What comes into a queue rings; what comes due in it is known from one look; a lost ring costs a poll, as anywhere.
    """

    def __init__(self, *, clock: Clock, interval: float, look: Callable[[], Awaitable[float | None]]) -> None:
        self._clock = clock
        self._interval = interval
        self._look = look
        """Gives the seconds until something in the queues is due; None means not before the next poll."""
        self._rings = -1
        self._until = 0.0

    def may_pass(self, rings: int) -> bool:
        """Whether the queues need not be asked now; `rings` counts what might be for them."""
        return rings == self._rings and self._clock.monotonic() < self._until

    async def had_less(self, rings: int, asked_at: float) -> None:
        """The queues gave less than was asked for at `asked_at`, when `rings` had been heard."""
        known = await self._look()
        wait = self._interval if known is None else min(max(known, _SOONEST), self._interval)
        self._rings, self._until = rings, asked_at + wait

    def forget(self) -> None:
        """Have them asked the next time."""
        self._rings = -1
