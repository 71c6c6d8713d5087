"""Renew: extend the leases of what runs here, from a thread with a connection of its own.

A blocked event loop does not stop the thread, so long or blocking handlers keep their leases. And a thread that hangs
in a dead connection does not keep a lease: each attempt carries a monotonic deadline, counted from when its last
accepted renewal was sent, and the event loop judges it without asking anybody.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from durable.attempts import Attempt, Holdings
from durable.clock import Clock
from durable.storage import Storage

__all__ = ["RenewRoom"]

_log = logging.getLogger("durable")
_MARGIN = 0.1
_PAUSE = 0.25
_IDLE_PAUSE = 1.0
"""Seconds between two looks at the deadlines; the longer ones where nothing runs, and an idle process sleeps."""
_BUSY_PAUSE = 0.25
"""Seconds until a lease is renewed whose row was held: a write of this executor that waits for others may have held it,
and does so for half a second at most."""
_BLOCKED_AFTER = 1.0
"""Seconds without a turn of the event loop that are worth a warning."""


class RenewRoom:
    """The thread, and the check of deadlines that the event loop makes beside it."""

    def __init__(
        self, *, storage: Storage, holdings: Holdings, clock: Clock, lease: float, on_lost: Callable[[Attempt], None]
    ) -> None:
        self._storage = storage
        self._holdings = holdings
        self._clock = clock
        self._lease = lease
        self._on_lost = on_lost
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_seen_at = clock.monotonic()
        self._pause = 0.0
        self._is_blocked_reported = False

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        # A daemon: a renewal that hangs in a dead connection must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="durable-renew", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; does not wait for one that hangs."""
        self._stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=0.5)

    async def run(self) -> None:
        """Judge the deadlines for ever."""
        while True:
            now = self._clock.monotonic()
            self._loop_seen_at = now
            for attempt in self._holdings:
                if now >= attempt.deadline and not attempt.is_lost:
                    self._on_lost(attempt)
            # Whatever is claimed meanwhile has more than half of its lease left at the next look.
            self._pause = min(self._lease / 12, _PAUSE) if self._holdings else min(self._lease / 4, _IDLE_PAUSE)
            await self._clock.sleep(self._pause)

    def _run(self) -> None:
        lane = self._storage.lane()
        usual = pause = self._lease / 6
        while not self._stopping.wait(pause):
            pause = usual
            self._report_blocked_loop()
            held = self._due()
            if not held:
                continue
            try:
                sent_at = self._clock.monotonic()
                renewed = lane.run(self._storage.renew([attempt.key for attempt in held], lease=self._lease))
                missing = [attempt.key for attempt in held if attempt.claimed.id not in renewed]
                # Not lost, but held by somebody's transaction: tried again, until the lease is over.
                busy = lane.run(self._storage.leased(missing)) if missing else frozenset[str]()
            except Exception as error:
                _log.warning("leases were not renewed, tried again: %s", error)
                continue
            self._note([attempt for attempt in held if attempt.claimed.id not in busy], renewed, sent_at)
            if busy:
                pause = min(usual, _BUSY_PAUSE)
        lane.close()

    def _due(self) -> list[Attempt]:
        """Attempts past a third of their lease: most executions end before and are never renewed."""
        now = self._clock.monotonic()
        return [
            attempt
            for attempt in self._holdings.snapshot()
            if not attempt.is_lost and now - attempt.renewed_at >= self._lease / 3
        ]

    def _note(self, held: list[Attempt], renewed: frozenset[str], sent_at: float) -> None:
        lost: list[Attempt] = []
        newest = {attempt.claimed.id: attempt for attempt in sorted(held, key=lambda attempt: attempt.claimed.fence)}
        for attempt in held:
            if attempt.claimed.id in renewed and newest[attempt.claimed.id] is attempt:
                attempt.renewed_at = sent_at
                attempt.deadline = sent_at + self._lease * (1 - _MARGIN)
            else:
                lost.append(attempt)
        if lost and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._drop, lost)

    def _drop(self, lost: list[Attempt]) -> None:
        for attempt in lost:
            # One that was settled while the renewal was on its way is not held any more, and not lost.
            if attempt in self._holdings and not attempt.is_over:
                self._on_lost(attempt)

    def _report_blocked_loop(self) -> None:
        behind = self._clock.monotonic() - self._loop_seen_at
        if behind < _BLOCKED_AFTER + self._pause:
            self._is_blocked_reported = False
            return
        if self._is_blocked_reported or self._loop is None:
            return
        self._is_blocked_reported = True
        running = asyncio.current_task(self._loop)
        culprit = next((a.claimed for a in self._holdings.snapshot() if a.task is running and running), None)
        _log.warning(
            "the event loop has been blocked for %.1f s by %s; blocking code belongs in a sync task",
            behind, f"task {culprit.task_name} (execution {culprit.id})" if culprit else "code outside of any task",
        )  # fmt: skip
