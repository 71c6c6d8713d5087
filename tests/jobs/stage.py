"""What the tests of Debounce and Task share: handlers that note what they were given, gates, and a lost lease."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from durable import Durable, Retry, constant
from durable.jobs import Debounce, DebounceContext
from durable.testing import Kit, VirtualStorage
from tests.flow.place import PATIENCE

__all__ = ["TWICE", "Flush", "Gate", "appended", "failing", "flush_of", "gathering", "lose_lease", "times"]

TWICE = Retry(max_attempts=2, delay=constant("1m"), jitter=0)


@dataclass(frozen=True)
class Flush:
    """One call of the handler of a Debounce."""

    state: list[int]
    events: list[int]
    reason: str
    attempt: int
    batch_id: str
    started_at: datetime


def gathering(app: Durable, **options: Any) -> tuple[Debounce[list[int], int], list[Flush]]:
    """A Debounce whose state is the list of its events, and the flushes it has had."""
    flushes: list[Flush] = []

    @app.debounce(event=int, state=list[int], reducer=appended, **{"flush_after": "10s", **options})
    async def batcher(ctx: DebounceContext[list[int], int]) -> None:
        flushes.append(flush_of(ctx))

    return batcher, flushes


def failing(app: Durable, count: int, error: Exception, **options: Any) -> tuple[Debounce[list[int], int], list[Flush]]:
    """A Debounce whose first `count` flushes fail."""
    flushes: list[Flush] = []

    @app.debounce(event=int, state=list[int], reducer=appended, **{"flush_after": "10s", **options})
    async def batcher(ctx: DebounceContext[list[int], int]) -> None:
        flushes.append(flush_of(ctx))
        if len(flushes) <= count:
            raise error

    return batcher, flushes


def appended(state: list[int] | None, event: int) -> list[int]:
    return [*(state or []), event]


def flush_of(ctx: DebounceContext[list[int], int]) -> Flush:
    return Flush(ctx.state, list(ctx.events), ctx.flush_reason, ctx.attempt, ctx.batch_id, ctx.debounce_started_at)


def times(flushes: list[Flush]) -> list[tuple[list[int], str]]:
    """What was flushed, and why."""
    return [(flush.events, flush.reason) for flush in flushes]


class Gate:
    """Where a handler stops until the test lets it go on."""

    def __init__(self) -> None:
        self._entered = asyncio.Event()
        self._opened = asyncio.Event()
        self._error: Exception | None = None

    async def hold(self) -> None:
        self._entered.set()
        await self._opened.wait()
        if self._error is not None:
            raise self._error

    async def reached(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._entered.wait()

    def open(self) -> None:
        self._opened.set()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._opened.set()


async def lose_lease(kit: Kit, storage: VirtualStorage) -> None:
    """Called by a handler: whatever runs is taken for dead, as if its process had ended here."""
    storage.move_to(kit.clock.now() + timedelta(hours=2))
    lane = kit.app.storage.lane()
    try:
        # Without a turn of the event loop: the executor looks for work by itself, and would stop this handler.
        (recovered,) = lane.run(kit.app.storage.recover(limit=10))
    finally:
        lane.close()
    assert recovered
