"""Wait for what workflows say: woken by hints and by their ends, else after the poll interval."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict

from durable.bus import Bus
from durable.script import Heard
from durable.storage import Hint, said_by
from durable.waiters import Waiters

__all__ = ["News"]


class News:
    """Counts hints, so that one which comes between a look and the wait after it is not missed."""

    def __init__(self, bus: Bus, waiters: Waiters, *, poll_interval: float) -> None:
        self._bus = bus
        self._waiters = waiters
        self._poll_interval = poll_interval
        self._counts: Counter[str] = Counter()
        self._gaps = 0
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        bus.subscribe(self._on_hint)

    async def of(self, execution_id: str, heard: int | None, limit: float | None) -> Heard:
        """See NewsOf."""
        self._bus.hear()
        place = said_by(execution_id).queue
        if heard is None or heard != self._number(place):
            return Heard(self._number(place), 0.0)
        stirred = asyncio.Event()
        (end,) = self._waiters.futures([execution_id])
        end.add_done_callback(lambda _: stirred.set())
        self._waiting[place].add(stirred)
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._poll_interval if limit is None else min(limit, self._poll_interval)):
                await stirred.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting[place].discard(stirred)
            end.cancel()
        if not end.cancelled():
            end.result()  # raises where there is no such execution, and where the app was closed
        return Heard(self._number(place), time.monotonic() - began)

    def _number(self, place: str) -> int:
        return self._counts[place] + self._gaps

    def _on_hint(self, hint: Hint) -> None:
        if hint.topic == "said":
            self._counts[hint.queue] += 1
            places = [hint.queue]
        elif hint.topic == "reconnected":
            self._gaps += 1
            places = list(self._waiting)
        else:
            return
        for place in places:
            for stirred in self._waiting.get(place, ()):
                stirred.set()
