"""Hints within one process: who may have new work, a result or a cancellation to look for. Never data.

A hint heard from another process and one given here take the same way, so nobody who waits needs to know which it was.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from durable.storage import Hint, Storage

__all__ = ["Bus"]

_log = logging.getLogger("durable")

Listener = Callable[[Hint], None]

_LEAST_GAP = 0.01
_MOST_GAP = 0.05
"""Seconds between statements with hints that may wait: each is a commit, and NOTIFY makes commits wait in line."""
_AT_ONCE = 4
"""Hints of a first gap that do not wait: who enqueues the next when the last has started elsewhere is no stream."""
_MANY = 2
"""So many hints in one gap are a stream, for which the next gap is twice as long."""


class Bus:
    """Passes hints to the listeners of this process, at once, and to other processes, coalesced and in its own time."""

    def __init__(self, storage: Storage, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._storage = storage
        self._teller = secrets.token_hex(4)
        """By which this process knows the hints that were its own: heard anew, each would cost a claim or a look."""
        self._listeners: list[Listener] = []
        self._pending: set[Hint] = set()
        self._enqueues, self._ends = _Pace(self.tell_others, sleep), _Pace(self.tell_others, sleep)
        """Apart, because what is enqueued now and then must not wait for a stream of ends."""
        self._sender: asyncio.Task[None] | None = None
        self._hearer: asyncio.Task[None] | None = None

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` for every hint from now on; the result ends that."""
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    def tell(self, *hints: Hint) -> None:
        """Give hints after a commit. Listeners here run before it returns; other processes hear some time later."""
        for hint in hints:
            self._deliver(hint)
        self.tell_others(*hints)

    def tell_others(self, *hints: Hint) -> None:
        """Give hints to other processes only; for what this one has already acted upon."""
        if not hints or not self._storage.is_shared:
            return
        self._pending.update(hints)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send(), name="durable-hints")

    def tell_paced(self, *hints: Hint) -> None:
        """As `tell`; but other processes hear of a stream of such hints in bursts, 10 to 50 ms apart.

        So what many callers, or one that does nothing else, enqueue does not pay a second commit for each.
        """
        for hint in hints:
            self._deliver(hint)
        if hints and self._storage.is_shared:
            self._enqueues.put(hints)

    def tell_others_paced(self, *hints: Hint) -> None:
        """As `tell_others`, in bursts where they come in a stream."""
        if hints and self._storage.is_shared:
            self._ends.put(hints)

    def hurry(self) -> None:
        """Somebody waits here for what others do: tell them now what is held back."""
        for pace in (self._enqueues, self._ends):
            pace.hurry()

    def hear(self) -> None:
        """Start listening to other processes, if nobody has asked for it before."""
        if self._storage.is_shared and self._hearer is None:
            self._hearer = asyncio.create_task(self._listen(), name="durable-listen")

    async def close(self) -> None:
        """Send what is pending, for a moment at most, and stop listening; any hint may be dropped."""
        self.hurry()
        if self._sender is not None:
            await asyncio.wait({self._sender}, timeout=0.3)
        for task in (self._sender, self._hearer):
            if task is not None:
                task.cancel()
                await asyncio.wait({task}, timeout=0.3)
        self._sender = self._hearer = None
        for pace in (self._enqueues, self._ends):
            await pace.stop()

    def _deliver(self, hint: Hint) -> None:
        for listener in tuple(self._listeners):
            listener(hint)

    async def _send(self) -> None:
        # What is told while a statement is on its way goes out with the next one, so a busy process sends few.
        while self._pending:
            hints, self._pending = self._pending, set()
            try:
                await self._storage.hint(sorted(hints), teller=self._teller)
            except Exception as error:
                # A lost hint costs one poll interval; the loops that do the work report a lost database.
                _log.debug("hints were not sent: %s", error)

    async def _listen(self) -> None:
        hints: AsyncIterator[Hint] = self._storage.listen(teller=self._teller)
        try:
            async for hint in hints:
                self._deliver(hint)
        except Exception:
            _log.exception("listening ended; polling goes on")


class _Pace:
    """Passes on hints at once, or in bursts where they come in a stream."""

    def __init__(self, tell: Callable[[Hint], None], sleep: Callable[[float], Awaitable[None]]) -> None:
        self._tell = tell
        self._sleep = sleep
        self._held: set[Hint] = set()
        """Hints that wait for the end of the gap."""
        self._held_count = 0
        self._at_once = 0
        """Hints that need not wait any more, until a gap brings none."""
        self._pacer: asyncio.Task[None] | None = None

    def put(self, hints: Iterable[Hint]) -> None:
        if self._pacer is None or self._pacer.done():
            self._at_once = _AT_ONCE
            self._pacer = asyncio.create_task(self._pace(), name="durable-hints-paced")
        is_at_once = self._at_once > 0
        if is_at_once:
            self._at_once -= 1
        else:
            self._held_count += 1
        self._held.update(hints)
        if is_at_once:
            self.hurry()

    def hurry(self) -> None:
        """Pass on what is held back."""
        held, self._held = self._held, set()
        for hint in held:
            self._tell(hint)

    async def stop(self) -> None:
        if self._pacer is not None:
            self._pacer.cancel()
            await asyncio.wait({self._pacer}, timeout=0.3)
            self._pacer = None

    async def _pace(self) -> None:
        """Hold hints back for a gap after each burst, and end when a gap has brought none."""
        gap = _LEAST_GAP
        while True:
            await self._sleep(gap)
            count, self._held_count = self._held_count, 0
            if not count:
                return
            self.hurry()
            gap = min(gap * 2, _MOST_GAP) if count > _MANY else _LEAST_GAP
