"""Rest: what the claim room does after a claim that left slots free, until there is something to claim again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from durable.clock import Clock
from durable.rooms.loop import Waker, patiently
from durable.storage import NextStart, Operation, Storage

__all__ = ["Rest"]

_BREATH: Final = 0.01
"""Seconds before the first look. A room that is rung more often than that claims as often and needs no look, so a busy
executor makes none; it is also how late what comes due in just these seconds may be."""
_LONGEST_BREATH: Final = 0.16
"""Where claims give nothing though a look found work: another executor was first, or cannot let it go. The breath
grows up to here, which bounds what an unlucky executor asks of the storage to a dozen statements a second."""
_SOON: Final = 0.03
"""A claim that asks to be repeated so soon is repeated without a look; where executors compete for a pool, all do."""
_AHEAD: Final = 1.5
"""How far a look sees, in poll intervals: beyond the end of the sleep that follows it."""

Look = Callable[[datetime | None, float], Operation[NextStart]]
"""`next_start` for the room: after, within."""


class Rest:
    """Sleeps until a ring, until the next moment that is known, and at a poll until a look finds something.

    So an idle room makes one statement for each poll, which is the look, and what comes due is claimed when it does.
    """

    def __init__(self, *, storage: Storage, waker: Waker, clock: Clock, interval: float, look: Look) -> None:
        self._storage = storage
        self._waker = waker
        self._clock = clock
        self._interval = interval
        self._look = look
        self._breath = _BREATH
        self._is_promised = False
        self._looked_at: datetime | None = None
        """The storage's clock at the last look. Every claim comes after it, so what was due then has been claimed for
        in vain, and the next look begins there: nothing can come due unseen between a claim and a look."""

    async def until_work(self, count: int, claimed_at: float, wait: float | None) -> None:
        """Return when a claim is worth it again, after one at `claimed_at` that gave `count`.

        `wait`: seconds after which that claim asks to be repeated, for what the limit of a pool holds back; None: it
        does not.
        """
        is_in_vain = self._is_promised and not count
        self._breath = min(self._breath * 2, _LONGEST_BREATH, self._interval) if is_in_vain else _BREATH
        self._is_promised = False
        if wait is not None and wait <= _SOON:
            await self._waker.sleep(wait)
            return
        if await self._waker.wait(self._breath):
            return
        left = None if wait is None else max(wait - (self._clock.monotonic() - claimed_at), 0.0)
        after = self._looked_at
        while True:
            known = await self._known(after, left)
            after, left = None, None
            pause = self._waker.spread(self._interval)
            if known is None or known > pause:
                if await self._waker.wait(pause):
                    return
                continue
            self._is_promised = not await self._waker.wait(known)
            return

    async def _known(self, after: datetime | None, left: float | None) -> float | None:
        """Seconds until the next moment that is known; `left` is one."""

        async def look() -> NextStart:
            return await self._look(after, self._interval * _AHEAD)

        self._looked_at, wait = await patiently(self._storage, look, "looking for work")
        return min((moment for moment in (wait, left) if moment is not None), default=None)
