"""Claim: ask for as many executions as there is room for, and start them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from durable.attempts import Attempt, Holdings
from durable.clock import Clock
from durable.execution import Claimed
from durable.rooms.loop import Waker, patiently
from durable.settings import ExecutorSettings
from durable.storage import Hint, Storage

__all__ = ["ClaimRoom"]

_log = logging.getLogger("durable")
_LOOK_AHEAD = 0.05
"""Seconds of work to claim ahead of the free slots: about what a claim takes on a busy server. An executor whose
handlers take long claims next to nothing ahead, so work it cannot start stays free for others."""
_MOST_AHEAD = 1000
_MARGIN = 0.1
"""Part of the lease that this process gives up at its end, for clocks that run at different rates."""


class ClaimRoom:
    """Keeps the slots filled; starts what waits when one becomes free."""

    def __init__(
        self,
        *,
        executor_id: str,
        storage: Storage,
        settings: ExecutorSettings,
        task_names: Sequence[str],
        holdings: Holdings,
        clock: Clock,
        waker: Waker,
        start: Callable[[Attempt], None],
        on_lost: Callable[[Attempt], None],
        on_claimed: Callable[[int], None],
    ) -> None:
        self._executor_id = executor_id
        self._storage = storage
        self._settings = settings
        self._task_names = task_names
        self._holdings = holdings
        self._clock = clock
        self._waker = waker
        self._start = start
        self._on_lost = on_lost
        self._on_claimed = on_claimed
        self._slot_freed = asyncio.Event()
        self._ahead: deque[Attempt] = deque()
        self._queues = settings.queues
        self._running = 0
        self._is_stopping = False
        self._rate = 0.0
        self._ended_since = 0
        self._rated_at = clock.monotonic()

    @property
    def running(self) -> int:
        return self._running

    def on_hint(self, hint: Hint) -> None:
        if hint.topic == "reconnected" or (hint.topic == "ready" and hint.queue in ("", *self._settings.queues)):
            self._waker.ring()

    def attempt_ended(self) -> None:
        """A handler gave its slot back; its end need not be written yet."""
        self._running -= 1
        self._ended_since += 1
        self._fill()
        self._slot_freed.set()

    def ends_written(self) -> None:
        """Ends that waited to be written are gone: what had stopped the claims on their account may be over."""
        self._slot_freed.set()

    async def run(self) -> None:
        """Claim until `stop`; a claim that is on its way is finished, so that what it took can be given back."""
        while not self._is_stopping:
            limit = self._limit()
            if limit <= 0:
                self._slot_freed.clear()
                await self._slot_freed.wait()
                continue
            claimed = await patiently(self._storage, lambda limit=limit: self._claim(limit), "claiming")  # type: ignore[misc]
            if len(claimed) < limit:
                await self._waker.sleep(self._settings.poll_interval)

    def stop(self) -> None:
        """Start nothing from now on, and let `run` end."""
        self._is_stopping = True
        self._waker.ring()
        self._slot_freed.set()

    def take_unstarted(self) -> list[Attempt]:
        """What was claimed ahead and not started, for shutdown to release."""
        ahead, self._ahead = list(self._ahead), deque()
        return ahead

    def drop_lost(self) -> None:
        """Forget what was claimed ahead and lost before it could start."""
        self._ahead = deque(attempt for attempt in self._ahead if not attempt.is_lost)

    async def _claim(self, limit: int) -> list[Claimed]:
        sent_at = self._clock.monotonic()
        claimed = await self._storage.claim(
            executor_id=self._executor_id,
            queues=self._next_queues(),
            task_names=self._task_names,
            limit=limit,
            lease=self._settings.lease,
        )
        self._on_claimed(len(claimed))
        deadline = sent_at + self._settings.lease * (1 - _MARGIN)
        for turn in claimed:
            attempt = Attempt(turn, sent_at, deadline)
            before = self._holdings.add(attempt)
            if before is not None:
                # This process was away so long that others took the execution and gave it back: it holds it anew.
                self._on_lost(before)
            self._ahead.append(attempt)
        self._fill()
        return claimed

    def _next_queues(self) -> tuple[str, ...]:
        """The queues, each time beginning with the next one: of equal priority, none starves behind a busy one."""
        queues = self._queues
        self._queues = (*queues[1:], queues[0])
        return queues

    def _fill(self) -> None:
        while self._ahead and not self._is_stopping and self._running < self._settings.concurrency:
            attempt = self._ahead.popleft()
            if attempt.is_lost:
                continue
            self._running += 1
            self._start(attempt)

    def _limit(self) -> int:
        """Free slots and a little ahead; nothing while more than half of the little is still there."""
        free = self._settings.concurrency - self._running
        ahead = self._look_ahead()
        if free <= 0 and len(self._ahead) * 2 > ahead:
            return 0
        backlog = len(self._holdings) - self._running - len(self._ahead)
        # Ends that wait to be written hold leases too: a slow storage must slow the claims down.
        most = self._settings.concurrency + 2 * _MOST_AHEAD - backlog
        return min(free + ahead - len(self._ahead), most)

    def _look_ahead(self) -> int:
        now = self._clock.monotonic()
        passed = now - self._rated_at
        if passed >= _LOOK_AHEAD:
            self._rate = self._ended_since / passed
            self._rated_at, self._ended_since = now, 0
        return min(int(self._rate * _LOOK_AHEAD), _MOST_AHEAD)
