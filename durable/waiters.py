"""Wait for the ends of executions: any number of waiters, one listener, one query per look for all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from random import Random
from typing import Final

from durable.bus import Bus
from durable.errors import ExecutionNotFound, NotOpen
from durable.execution import FinishedExecution
from durable.rooms.loop import Waker, patiently
from durable.storage import Hint, Storage

__all__ = ["Waiters"]

_log = logging.getLogger("durable")
_LOOKS_PER_CHECK = 10
"""How many looks pass between checks that what is waited for still exists: retention may have taken it."""

_FRESH: Final = 0.02
"""Seconds in which nobody looks for the end of what this process has just stored, and has not heard of any end since: a
look would compete with the claim that the caller waits for. An end that comes so soon is written here, or told."""
_MOST_FRESH: Final = 1000
"""How many of these are known at a time, so that who never waits for them pays with no memory."""
_PAUSE_PER_WAITER = 5e-6
"""Seconds of rest after a look for each execution waited for: about as long as looking for it took."""


class Waiters:
    """Futures by execution id. Memory follows the number of waiters and returns to nothing with them."""

    def __init__(self, storage: Storage, bus: Bus, *, poll_interval: float, random: Random) -> None:
        self._storage = storage
        self._bus = bus
        self._poll_interval = poll_interval
        self._waker = Waker(random)
        self._futures: dict[str, list[asyncio.Future[FinishedExecution]]] = {}
        self._unchecked: set[str] = set()
        self._fresh: dict[str, float] = {}
        """When this process stored them, by the event loop's time."""
        self._first_look: asyncio.TimerHandle | None = None
        """Of those that were fresh when somebody began to wait for them."""
        self._looker: asyncio.Task[None] | None = None
        self._unsubscribe = bus.subscribe(self._on_hint)

    async def wait(self, execution_id: str) -> FinishedExecution:
        """The end of one execution; raises ExecutionNotFound if there is none, or none any more."""
        (future,) = self.futures([execution_id])
        return await future

    def stored(self, execution_ids: Iterable[str]) -> None:
        """Take note of what this process has just stored: it is there, and has hardly ended."""
        if len(self._fresh) >= _MOST_FRESH:
            self._fresh.clear()
        self._fresh.update(dict.fromkeys(execution_ids, asyncio.get_running_loop().time()))

    def futures(
        self, execution_ids: Sequence[str], *, within: float | None = None
    ) -> list[asyncio.Future[FinishedExecution]]:
        """A future for the end of each; cancel those nobody waits for any more. `within`: seconds of the caller's."""
        loop = asyncio.get_running_loop()
        self._bus.hear()
        self._bus.hurry()
        made: list[asyncio.Future[FinishedExecution]] = []
        is_patient = within is None or within > 2 * _FRESH
        fresh_after = loop.time() - _FRESH if is_patient else loop.time()
        are_fresh = True
        for execution_id in execution_ids:
            future: asyncio.Future[FinishedExecution] = loop.create_future()
            self._futures.setdefault(execution_id, []).append(future)
            future.add_done_callback(lambda done, key=execution_id: self._forget(key, done))  # type: ignore[misc]
            if self._fresh.pop(execution_id, fresh_after) <= fresh_after:
                self._unchecked.add(execution_id)
                are_fresh = False
            made.append(future)
        if not are_fresh:
            self._waker.ring()
        elif self._first_look is None:
            self._first_look = loop.call_later(_FRESH, self._look_first)
        if self._looker is None:
            self._looker = asyncio.create_task(self._look_for_ever(), name="durable-waiters")
        return made

    @property
    def are_interested(self) -> bool:
        """Ends that are written here are worth a `resolve`."""
        return bool(self._futures or self._fresh)

    def resolve(self, ends: Iterable[FinishedExecution]) -> None:
        """Hand over ends that this process wrote or read."""
        for end in ends:
            self._fresh.pop(end.id, None)
            for future in tuple(self._futures.get(end.id, ())):
                if not future.done():
                    future.set_result(end)

    async def close(self) -> None:
        """Tell everybody who still waits: NotOpen, because a cancellation would look like one of their own."""
        self._unsubscribe()
        if self._first_look is not None:
            self._first_look.cancel()
        for execution_id, futures in list(self._futures.items()):
            for future in list(futures):
                if not future.done():
                    future.set_exception(NotOpen(f"the app was closed while execution {execution_id} was waited for"))
        if self._looker is not None:
            self._looker.cancel()
            await asyncio.wait({self._looker}, timeout=0.3)

    def _on_hint(self, hint: Hint) -> None:
        if hint.topic not in ("finished", "cancelled", "reconnected"):
            return
        self._fresh.clear()  # it may have been one of those
        if self._futures:
            self._waker.ring()

    def _look_first(self) -> None:
        self._first_look = None
        if self._futures:
            self._waker.ring()

    def _forget(self, execution_id: str, future: asyncio.Future[FinishedExecution]) -> None:
        waiting = self._futures.get(execution_id, [])
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            self._futures.pop(execution_id, None)
            self._unchecked.discard(execution_id)

    async def _look_for_ever(self) -> None:
        looks = 0
        try:
            while self._futures:
                await self._waker.sleep(self._poll_interval)
                looks += 1
                if looks % _LOOKS_PER_CHECK == 0:
                    self._unchecked.update(self._futures)
                try:
                    await patiently(self._storage, self._look, "waiting for results")
                except Exception:
                    _log.exception("looking for results failed; it goes on after a pause")
                if self._futures:
                    # A hint comes for every batch that anybody settles; a look asks for all that is waited for.
                    await asyncio.sleep(_PAUSE_PER_WAITER * len(self._futures))
        finally:
            self._looker = None

    async def _look(self) -> None:
        if not self._futures:
            return
        self.resolve(await self._storage.finished(list(self._futures)))
        unchecked = list(self._unchecked & self._futures.keys())
        if not unchecked:
            return
        existing = await self._storage.existing(unchecked)
        self._unchecked.difference_update(unchecked)
        for execution_id in set(unchecked) - existing:
            for future in tuple(self._futures.get(execution_id, ())):
                if not future.done():
                    future.set_exception(ExecutionNotFound(execution_id))
