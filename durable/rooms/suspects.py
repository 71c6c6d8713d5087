"""Suspects: count the start of what may be killing its process, and start one of these at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from durable.attempts import Attempt, Holdings
from durable.clock import Clock
from durable.execution import Settlement
from durable.rooms.loop import patiently
from durable.storage import Storage
from durable.transitions import counted, release

__all__ = ["SuspectRoom"]

_log = logging.getLogger("durable")
_LONGEST_ALONE: Final = 10.0
"""Seconds that one suspect keeps the others waiting. What kills its process mostly does so at once, and a handler that
takes long must not hold up all that died beside it."""
_PUT_OFF: Final = 1.0
_APART: Final = 0.02
_LONGEST_PUT_OFF: Final = 30.0
"""Seconds until a suspect that was given back is due again: the later, the more of them there are."""


class SuspectRoom:
    """Takes suspects that have a slot, writes that they start, and starts them. In batches, as they come.

    Who was lost before starts alone among its like: if the process dies, the others have lost no delivery by it. They
    are given back, so another executor may run them meanwhile.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        holdings: Holdings,
        clock: Clock,
        start: Callable[[Attempt], None],
        settle: Callable[[Attempt, Settlement], None],
        drop: Callable[[Attempt], None],
        ended: Callable[[], None],
    ) -> None:
        self._storage = storage
        self._holdings = holdings
        self._clock = clock
        self._start = start
        self._settle = settle
        self._drop = drop
        self._ended = ended
        self._only: Attempt | None = None
        """The suspect that was let in last."""
        self._given_back = 0
        """Since then."""
        self._pending: list[Attempt] = []
        self._beginning: list[Attempt] = []
        """Those whose starts are being counted."""
        self._arrived = asyncio.Event()
        self._is_stopping = False

    def admit(self, attempt: Attempt) -> bool:
        """True if it may wait for a slot here; otherwise it was given back."""
        if not attempt.claimed.deliveries:
            return True  # it was never lost: it has one delivery only, which is to be counted at its start
        if self._is_taken():
            delay = min(_PUT_OFF + self._given_back * _APART, _LONGEST_PUT_OFF)
            self._given_back += 1
            self._settle(attempt, release(attempt.claimed)._replace(delay=delay, reason="suspect"))
            return False
        self._only, self._given_back = attempt, 0
        return True

    def put(self, attempt: Attempt) -> None:
        """Start it as soon as its start is counted; its slot is given back if that cannot be."""
        self._pending.append(attempt)
        self._arrived.set()

    async def run(self) -> None:
        """Count and start until `stop`; what is being counted then is given back."""
        while not self._is_stopping:
            self._arrived.clear()
            batch, self._pending = self._pending, []
            if batch:
                await self._begin(batch)
            await self._arrived.wait()

    def stop(self) -> None:
        """Start nothing from now on, and let `run` end."""
        self._is_stopping = True
        self._arrived.set()

    def take_unstarted(self) -> list[Attempt]:
        """What has a slot and was not started, for shutdown to release."""
        unstarted = [*self._beginning, *self._pending]
        self._beginning, self._pending = [], []
        return unstarted

    def _is_taken(self) -> bool:
        only = self._only
        if only is None or only.is_lost or only not in self._holdings:
            return False  # a lost one is another's by now, perhaps the one that asks
        return only.task is None or self._clock.monotonic() - only.started_at < _LONGEST_ALONE

    async def _begin(self, batch: list[Attempt]) -> None:
        async def count() -> frozenset[str]:
            return await self._storage.count_starts([attempt.key for attempt in batch])

        held: frozenset[str] = frozenset()
        self._beginning = batch
        try:
            held = await patiently(self._storage, count, "counting starts")
        except Exception:
            _log.exception("%d executions whose starts cannot be counted are left to their leases", len(batch))
        batch, self._beginning = self._beginning, []
        for attempt in batch:
            self._go_on(attempt, is_held=attempt.claimed.id in held and not attempt.is_lost)

    def _go_on(self, attempt: Attempt, *, is_held: bool) -> None:
        if is_held:
            attempt.claimed = counted(attempt.claimed)
            if not self._is_stopping:
                self._start(attempt)
                return
            self._settle(attempt, release(attempt.claimed))
        else:
            self._drop(attempt)
        self._ended()
