"""Repeat a step: at an interval with jitter, at once when woken, with a back-off while the storage is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_delay,
    stop_never,
    wait_random_exponential,
)

from durable.storage import Storage

__all__ = ["Waker", "patiently", "repeat"]

T = TypeVar("T")
_log = logging.getLogger("durable")


class Waker:
    """An alarm that one loop sleeps on: wakes early when rung, also when rung before it slept."""

    def __init__(self, random: Random) -> None:
        self._event = asyncio.Event()
        self._asleep = asyncio.Event()
        self._random = random
        self.rings = 0
        """How often it was rung."""

    @property
    def is_asleep(self) -> bool:
        """The loop has done what it was woken for and sleeps."""
        return self._asleep.is_set()

    async def asleep(self) -> None:
        """Wait until the loop sleeps; a ring that it has not yet heard counts as being awake."""
        await self._asleep.wait()

    def ring(self) -> None:
        self.rings += 1
        self._event.set()
        self._asleep.clear()

    def spread(self, seconds: float) -> float:
        """`seconds` ± 20 %, so that the loops of many executors do not march in step."""
        return seconds * (0.8 + 0.4 * self._random.random())

    async def sleep(self, seconds: float) -> None:
        """Sleep `seconds` ± 20 %."""
        await self.wait(self.spread(seconds))

    async def wait(self, seconds: float) -> bool:
        """Sleep exactly so long, or until rung: True."""
        if not self._event.is_set():
            self._asleep.set()
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            pass
        finally:
            self._asleep.clear()
        is_rung = self._event.is_set()
        self._event.clear()
        return is_rung


async def patiently(storage: Storage, call: Callable[[], Awaitable[T]], what: str, *, within: float | None = None) -> T:
    """Call until the storage serves: random waits up to 2 s, a line of log now and then. Other errors pass through.

    After `within` seconds the storage's own error is raised; None means never. The call may have been carried out
    when it failed; it must bear being repeated.
    """
    try:
        return await call()
    except Exception as error:
        if not storage.is_transient(error):
            raise
    retrying = AsyncRetrying(
        retry=retry_if_exception(storage.is_transient),
        wait=wait_random_exponential(multiplier=0.1, max=2.0),
        stop=stop_never if within is None else stop_after_delay(within),
        before_sleep=lambda state: _report(state, what),
        reraise=True,
    )

    async def once() -> T:
        return await call()

    return await retrying(once)


def _report(state: RetryCallState, what: str) -> None:
    error = state.outcome.exception() if state.outcome else None
    # The first waits are a few tenths of a second; from the fourth on there is at most one line a second.
    if state.attempt_number == 1 or state.attempt_number % 4 == 0:
        _log.warning("%s waits for the storage (try %d): %s", what, state.attempt_number, error)


async def repeat(
    step: Callable[[], Awaitable[None]],
    *,
    storage: Storage,
    waker: Waker,
    interval: Callable[[], float],
    what: str,
    is_over: Callable[[], bool],
) -> None:
    """Run `step`, `interval` seconds apart, until it is over; an error is logged and never ends the loop.

    Cancelling alone may not end it: a pool that hands out a connection in the same moment swallows the cancellation.
    """
    while True:
        try:
            await patiently(storage, step, what)
        except Exception:
            _log.exception("%s failed; it goes on after a pause", what)
        if is_over():
            return
        await waker.sleep(interval())
