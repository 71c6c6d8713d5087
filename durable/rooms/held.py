"""Held rows: what to do about executions that somebody's open transaction holds, for as long as its owner likes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from durable.clock import Clock
from durable.rooms.loop import patiently
from durable.storage import Storage

__all__ = ["LOCK_TIMEOUT", "MOST_LOOKS", "Held", "HeldRows"]

_log = logging.getLogger("durable")

LOCK_TIMEOUT: Final = 0.5
"""Seconds that a batch waits for a row: far longer than a transaction of durable's own holds one, and far shorter than
a lease. What has not got it by then waits apart, so that the rest of the batch goes on."""
MOST_LOOKS: Final = 3
"""Tries of a batch in a row that met held rows; others may be held by then."""
_PAUSE: Final = 0.2
"""Seconds between two looks at rows that something waits for."""


class Held:
    """Instead of what a write gives: somebody holds what it needs, and nothing was written."""


class HeldRows:
    """Remembers which rows are held, while something waits for them, and looks now and then whether they are free."""

    def __init__(self, *, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._held: frozenset[str] = frozenset()
        self._waiting: list[tuple[frozenset[str], asyncio.Future[None]]] = []
        self._looking: asyncio.Task[None] | None = None
        self._is_stopped = False

    @property
    def clock(self) -> Clock:
        """What those go by who wait for what no look can tell."""
        return self._clock

    @property
    def are_any(self) -> bool:
        return bool(self._held)

    def among(self, ids: Iterable[str]) -> frozenset[str]:
        """Those that are known to be held."""
        return self._held.intersection(ids)

    async def look(self, ids: Iterable[str]) -> bool:
        """Ask which are held; false if none is, or if nobody can tell."""
        try:
            found = await self._ask(ids)
        except Exception:
            _log.exception("rows that are held could not be looked at")
            return False
        self._held |= found
        return bool(found)

    def free(self, ids: frozenset[str]) -> asyncio.Future[None]:
        """Done when none of them is held any more, as far as a look can tell; cancelled when nobody looks any more."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._is_stopped:
            future.cancel()
            return future
        self._waiting.append((ids, future))
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_again(), name="durable-held-rows")
        return future

    def stop(self) -> None:
        """Look no more; those who wait are cancelled."""
        self._is_stopped = True
        if self._looking is not None:
            self._looking.cancel()
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            future.cancel()

    async def _ask(self, ids: Iterable[str]) -> frozenset[str]:
        asked = sorted(set(ids))

        async def ask() -> frozenset[str]:
            return await self._storage.held_rows(asked)

        return await patiently(self._storage, ask, "looking for rows that are held")

    async def _look_again(self) -> None:
        try:
            while self._waiting:
                await self._clock.sleep(_PAUSE)
                self._waiting = [(ids, future) for ids, future in self._waiting if not future.done()]
                asked = frozenset[str]().union(*(ids for ids, _ in self._waiting))
                found = await self._ask(asked)
                # What others have found held meanwhile stays so.
                self._held = (self._held - asked) | found
                self._let_go()
        except Exception:
            _log.exception("rows that are held could not be looked at: what waits for them tries again")
            self._held = frozenset()
            self._let_go()
        finally:
            self._looking, self._held = None, frozenset()

    def _let_go(self) -> None:
        """Of those whose rows are free."""
        for ids, future in self._waiting:
            if not future.done() and not self.among(ids):
                future.set_result(None)
