"""Deliver: hand events to their subscribers, in order, once each has the right to; the commit never waits for this."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Final

from durable.clock import Clock
from durable.errors import DeliveryFailed
from durable.events import Emitter, Subscriber
from durable.notice import Notice
from durable.retry import Retry, exponential
from durable.rooms.loop import Waker, patiently
from durable.storage import Hint, Storage

__all__ = ["DeliverRoom"]

_log = logging.getLogger("durable")
_AT_ONCE: Final = 500
_LEASE: Final = 30.0
_RENEW_EVERY: Final = 10.0
_MARK_EVERY: Final = 1.0
"""Seconds after which what was delivered is marked, so that a crash repeats little of a slow subscriber's."""
_PAUSES: Final = Retry(delay=exponential("500ms", max="1m"))


class _Lost(Exception):
    """Another executor has the right to deliver by now."""


class DeliverRoom:
    """One lane for each subscriber, so that a slow or dead one holds back nobody else."""

    def __init__(self, *, executor_id: str, storage: Storage, emitter: Emitter, clock: Clock, random: Random) -> None:
        self._executor_id = executor_id
        self._storage = storage
        self._emitter = emitter
        self._clock = clock
        self._random = random
        self._is_stopping = False
        self.lanes = [(subscriber, Waker(random)) for subscriber in emitter.freeze()]

    def on_hint(self, hint: Hint) -> None:
        if hint.topic in ("noted", "reconnected"):
            self.ring()

    def ring(self) -> None:
        """There is something new to deliver."""
        for _, waker in self.lanes:
            waker.ring()

    def stop(self) -> None:
        """Let each lane deliver what is there by now, and end."""
        self._is_stopping = True
        self.ring()

    def is_stopping(self) -> bool:
        return self._is_stopping

    async def step(self, subscriber: Subscriber, waker: Waker) -> None:
        """Deliver until nothing is left, somebody else does it, or the subscriber fails."""
        while True:
            taken = await self._storage.take_notices(
                subscriber.name, holder=self._executor_id, limit=max(subscriber.batch, _AT_ONCE), lease=_LEASE
            )
            if not taken.notices:
                return
            try:
                await self._deliver(subscriber, taken.notices)
            except asyncio.CancelledError:
                # This executor stops under a slow subscriber; the next one need not wait for the lease.
                await self._give_back(subscriber, 0.0)
                raise
            except _Lost:
                _log.warning("delivering to %r took so long that another executor took over", subscriber.name)
                return
            except Exception as error:
                await self._put_off(subscriber, waker, taken.failure_count, error)
                return

    async def _deliver(self, subscriber: Subscriber, notices: Sequence[Notice]) -> None:
        """Send the notices a batch at a time, and mark those that were taken, also when a later batch fails."""
        done: list[str] = []
        marked_at = self._clock.monotonic()
        try:
            for first in range(0, len(notices), subscriber.batch):
                batch = notices[first : first + subscriber.batch]
                await self._send(subscriber, batch)
                done += [notice.id for notice in batch]
                if self._clock.monotonic() - marked_at >= _MARK_EVERY:
                    await self._mark(subscriber, done)
                    await self._renew(subscriber)
                    done, marked_at = [], self._clock.monotonic()
        finally:
            await self._mark(subscriber, done)

    async def _send(self, subscriber: Subscriber, batch: Sequence[Notice]) -> None:
        """Call the subscriber, and keep the right to deliver while it works, however long that is."""
        sending = asyncio.ensure_future(subscriber.send([self._emitter.event(notice) for notice in batch]))
        try:
            while not (await asyncio.wait({sending}, timeout=_RENEW_EVERY))[0]:
                await self._renew(subscriber)
        finally:
            sending.cancel()
        if sending.cancelled():
            raise DeliveryFailed("the subscriber was cancelled")
        await sending

    async def _renew(self, subscriber: Subscriber) -> None:
        async def renew() -> bool:
            return await self._storage.renew_delivery(subscriber.name, holder=self._executor_id, lease=_LEASE)

        if not await patiently(self._storage, renew, "delivering"):
            raise _Lost

    async def _mark(self, subscriber: Subscriber, ids: Sequence[str]) -> None:
        async def mark() -> None:
            await self._storage.delivered(subscriber.name, ids, holder=self._executor_id)

        if ids:
            # Only this keeps what was delivered from being delivered again, so it waits for the storage.
            await patiently(self._storage, mark, "marking events as delivered")

    async def _put_off(self, subscriber: Subscriber, waker: Waker, failure_count: int, error: Exception) -> None:
        pause = _PAUSES.delay_before(failure_count + 1, self._random.random())
        # The message may hold payload, so only that of our own errors is logged.
        why = str(error) if isinstance(error, DeliveryFailed) else type(error).__name__
        _log.warning("events are kept for subscriber %r: %s; it is tried again in %.1f s", subscriber.name, why, pause)
        await patiently(self._storage, partial(self._give_back, subscriber, pause), "putting a delivery off")
        asyncio.get_running_loop().call_later(pause, waker.ring)

    async def _give_back(self, subscriber: Subscriber, pause: float) -> None:
        await self._storage.put_off_delivery(subscriber.name, holder=self._executor_id, delay=pause)
