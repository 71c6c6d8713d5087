"""Claim: ask for as many executions as there is room for, and start them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from durable.attempts import Attempt, Holdings
from durable.clock import Clock
from durable.execution import Claimed, QueueLevel
from durable.rooms.beside import Beside
from durable.rooms.loop import Waker, patiently
from durable.rooms.onward import Onward
from durable.rooms.rest import Rest
from durable.rooms.suspects import SuspectRoom
from durable.settings import ExecutorSettings
from durable.storage import Hint, NextStart, Operation, Storage

__all__ = ["ClaimRoom"]

_log = logging.getLogger("durable")
_LOOK_AHEAD = 0.05
"""Seconds of work to claim ahead of the free slots, at least. An executor whose handlers take long claims next to
nothing ahead, so work it cannot start stays free for others."""
_CLAIMS_AHEAD = 3
"""Claims that the work ahead should outlast: the next is made when half of it is left. Where slow claims left slots
empty, the rate would fall, and so would what the next claim asks for."""
_LONGEST_AHEAD = 0.5
"""Seconds of work to claim ahead, at most."""
_MOST_AHEAD = 2000
_TELLING = 100
"""Ends that tell of a rate that has grown before the time for a look is over. A few do not: one short handler before a
long one would have work claimed ahead, which waits for the long one."""
_SHORTEST = 0.001
"""Seconds: what ends sooner together counts as if it had taken so long."""
_LEAST_WAIT = 0.01
"""Seconds between claims that wait for a pool's next tokens: a fast rate gives several at once."""
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
        pools: Callable[[], tuple[str, ...]],
        holdings: Holdings,
        clock: Clock,
        waker: Waker,
        start: Callable[[Attempt], None],
        suspects: SuspectRoom,
        on_lost: Callable[[Attempt], None],
        on_claimed: Callable[[int], None],
        apart: Callable[[], int] = lambda: 0,
    ) -> None:
        """`apart`: how many ends wait for others than the storage, and say nothing of how fast it is."""
        self._executor_id = executor_id
        self._storage = storage
        self._settings = settings
        self._task_names = task_names
        self._pools = pools
        self._holdings = holdings
        self._clock = clock
        self._waker = waker
        self._start = start
        self._suspects = suspects
        self._on_lost = on_lost
        self._on_claimed = on_claimed
        self._apart = apart
        self._onward = Onward(clock)
        self._slot_freed = asyncio.Event()
        self._answered = asyncio.Event()
        self._answered.set()
        self._on_way = 0
        """Claims that were sent, and executions that are being stored as started here; `_answered` is set at none."""
        self._ahead: deque[Attempt] = deque()
        self._queues = settings.queues
        self._rounds = 0
        self._pool_rings = 0
        """Rings of the waker that are for pools alone."""
        self._wait: float | None = None
        self._rest = Rest(storage=storage, waker=waker, clock=clock, interval=settings.poll_interval, look=self._look)
        self._beside = Beside(clock=clock, interval=settings.poll_interval, look=self._look_at_queues)
        self._running = 0
        self.claimed_count = 0
        self._is_stopping = False
        self._took = 0.0
        """Seconds that a claim takes, over the last few."""
        self._rate = 0.0
        self._ended_since = 0
        self._rated_at = clock.monotonic()

    @property
    def running(self) -> int:
        return self._running

    def on_hint(self, hint: Hint) -> None:
        if hint.topic == "reconnected" or (hint.topic == "ready" and hint.queue in ("", *self._settings.queues)):
            self._waker.ring()
        elif hint.topic == "ready" and hint.queue in self._pools():
            self._ring_for_pools()

    def attempt_ended(self) -> None:
        """A handler gave its slot back; its end need not be written yet."""
        self._running -= 1
        self._ended_since += 1
        self._fill()
        self._slot_freed.set()

    def ends_written(self) -> None:
        """Ends that waited to be written are gone, or apart: what had stopped the claims for them may be over."""
        self._slot_freed.set()

    def _ring_for_pools(self) -> None:
        self._pool_rings += 1
        self._waker.ring()

    async def run(self) -> None:
        """Claim until `stop`; a claim that is on its way is finished, so that what it took can be given back."""
        while not self._is_stopping:
            limit = self._limit()
            if limit <= 0:
                self._slot_freed.clear()
                await self._slot_freed.wait()
                continue
            self._wait = None
            began_at = self._clock.monotonic()
            rings, pool_rings = self._waker.rings, self._pool_rings
            count = await self._round(limit)
            if count < limit:
                await self._rest.until_work(count, began_at, self._wait)
                if self._waker.rings - rings != self._pool_rings - pool_rings or self._waker.rings == rings:
                    self._beside.forget()  # it was not, or not only, rung for pools

    def reserve(self) -> float | None:
        """A slot for what is being stored as started here; gives the monotonic time. None: others come first.

        That is so unless the room sleeps, because it has found nothing more to claim.
        """
        is_free = self._running < self._settings.concurrency and not self._ahead
        if self._is_stopping or not is_free or not self._waker.is_asleep:
            return None
        self._running += 1
        self._send()
        return self._clock.monotonic()

    def arrived(self, claimed: Claimed | None, reserved_at: float) -> None:
        """What a slot was reserved for was stored, and is started; None: it was not."""
        self._answer()
        self._running -= 1
        if claimed is not None:
            self._take([claimed], reserved_at)
        else:
            self._fill()
        self._slot_freed.set()

    def stop(self) -> None:
        """Start nothing from now on, and let `run` end."""
        self._is_stopping = True
        self._waker.ring()
        self._slot_freed.set()

    @property
    def is_answered(self) -> bool:
        return self._answered.is_set()

    async def answered(self) -> None:
        """Wait until no claim is on its way, and nothing that is to be started here: nobody knows yet what it took."""
        await self._answered.wait()

    @contextmanager
    def _asking(self) -> Generator[None]:
        self._send()
        try:
            yield
        finally:
            self._answer()

    def _send(self) -> None:
        self._on_way += 1
        self._answered.clear()

    def _answer(self) -> None:
        self._on_way -= 1
        if not self._on_way:
            self._answered.set()

    def take_unstarted(self) -> list[Attempt]:
        """What was claimed ahead and not started, for shutdown to release."""
        ahead, self._ahead = list(self._ahead), deque()
        return ahead

    def drop_lost(self) -> None:
        """Forget what was claimed ahead and lost before it could start."""
        self._ahead = deque(attempt for attempt in self._ahead if not attempt.is_lost)

    async def _round(self, limit: int) -> int:
        """Ask queues and pools, turn about in which of them is first; gives how many were claimed."""
        if not self._pools():
            return await patiently(self._storage, lambda: self._claim(limit), "claiming")
        self._rounds += 1
        other_rings, began_at = self._waker.rings - self._pool_rings, self._clock.monotonic()
        if self._beside.may_pass(other_rings):
            return await patiently(self._storage, lambda: self._claim_pooled(limit), "claiming")
        count = 0
        for ask in (self._claim, self._claim_pooled) if self._rounds % 2 else (self._claim_pooled, self._claim):
            if count >= limit or self._is_stopping:
                break
            left = limit - count
            found = await patiently(self._storage, lambda ask=ask, left=left: ask(left), "claiming")  # type: ignore[misc]
            count += found
            if ask == self._claim and found < left:
                await patiently(self._storage, lambda: self._beside.had_less(other_rings, began_at), "looking for work")
        return count

    async def _claim_pooled(self, limit: int) -> int:
        if self._is_stopping:
            return 0  # the storage was away meanwhile
        sent_at = self._clock.monotonic()
        pools = self._pools()
        first = self._rounds // 2 % len(pools)
        with self._asking():
            found = await self._storage.claim_pooled(
                executor_id=self._executor_id,
                pools=(*pools[first:], *pools[:first]),
                task_names=self._task_names,
                limit=limit,
                lease=self._settings.lease,
            )
        if found.wait is not None:
            self._wait = max(found.wait, _LEAST_WAIT) if found.wait else 0.0
        return self._take(found.claimed, sent_at)

    async def _claim(self, limit: int) -> int:
        after = self._onward.after()
        count = await self._claim_behind(after, limit)
        if after and count < limit:
            count += await self._claim_behind({}, limit - count)
        return count

    async def _claim_behind(self, after: Mapping[QueueLevel, str], limit: int) -> int:
        if self._is_stopping:
            return 0  # the storage was away meanwhile
        sent_at = self._clock.monotonic()
        with self._asking():
            claimed = await self._storage.claim(
                executor_id=self._executor_id,
                queues=self._next_queues(),
                task_names=self._task_names,
                limit=limit,
                lease=self._settings.lease,
                after=after,
            )
        self._onward.note(claimed, limit=limit, is_whole=not after, took=self._clock.monotonic() - sent_at)
        return self._take(claimed, sent_at)

    def _look(self, after: datetime | None, within: float) -> Operation[NextStart]:
        return self._storage.next_start(
            queues=self._settings.queues, pools=self._pools(), task_names=self._task_names, after=after, within=within
        )

    async def _look_at_queues(self) -> float | None:
        _, wait = await self._storage.next_start(
            queues=self._settings.queues,
            pools=(),
            task_names=self._task_names,
            after=None,
            within=self._settings.poll_interval,
        )
        return wait

    def _take(self, claimed: Sequence[Claimed], sent_at: float) -> int:
        self._took += (self._clock.monotonic() - sent_at - self._took) / 8
        self.claimed_count += len(claimed)
        self._on_claimed(len(claimed))
        deadline = sent_at + self._settings.lease * (1 - _MARGIN)
        for turn in claimed:
            attempt = Attempt(turn, sent_at, deadline)
            before = self._holdings.add(attempt)
            if before is not None:
                # This process was away so long that others took the execution and gave it back: it holds it anew.
                self._on_lost(before)
            if not turn.is_suspect or self._suspects.admit(attempt):
                self._ahead.append(attempt)
        self._fill()
        return len(claimed)

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
            begin = self._suspects.put if attempt.claimed.is_suspect else self._start
            begin(attempt)

    def _limit(self) -> int:
        """Free slots and a little ahead; nothing while more than half of the little is still there."""
        free = self._settings.concurrency - self._running
        ahead = self._look_ahead()
        if free <= 0 and len(self._ahead) * 2 > ahead:
            return 0
        backlog = len(self._holdings) - self._running - len(self._ahead) - self._apart()
        # Ends that wait to be written hold leases too: a slow storage must slow the claims down.
        most = self._settings.concurrency + 2 * _MOST_AHEAD - backlog
        return min(free + ahead - len(self._ahead), most)

    def _look_ahead(self) -> int:
        now = self._clock.monotonic()
        passed = now - self._rated_at
        is_growing = self._ended_since >= _TELLING and self._ended_since > 2 * self._rate * passed
        if passed >= _LOOK_AHEAD or is_growing:
            self._rate = self._ended_since / max(passed, _SHORTEST)
            self._rated_at, self._ended_since = now, 0
        seconds = min(max(_LOOK_AHEAD, _CLAIMS_AHEAD * self._took), _LONGEST_AHEAD)
        return min(int(self._rate * seconds), _MOST_AHEAD)
