"""Aside: write what met something held that nobody can name, beside all others, until it is written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from durable.clock import Clock
from durable.group_commit import GroupCommit
from durable.rooms.held import Held

__all__ = ["Aside"]

I = TypeVar("I")  # noqa: E741 - item
O = TypeVar("O")  # noqa: E741 - output
_PATIENCE: Final = 0.1
"""Seconds that a try waits. What waits holds rows of its own meanwhile, which a renewal of their leases passes over."""
_PAUSE: Final = 0.5


class Aside(Generic[I, O]):
    """Takes items whose write waited in vain although none of the rows that they are known to touch is held.

    Somebody's open transaction may be storing the idempotency key or the sleeping id of a child, or a job that did not
    exist before. Only a try can tell when that is over: now and then all of them are tried together, and where that
    fails one by one.
    """

    def __init__(self, write: Callable[[Sequence[I], float], Awaitable[Sequence[O | Held]]], clock: Clock) -> None:
        """`write` waits so many seconds for what is held, and gives `Held` for each item that it has not written."""
        self._write = write
        self._clock = clock
        self._group: GroupCommit[I, O | Held] = GroupCommit(self._try, gathers=True)

    async def put(self, item: I) -> O:
        """Give what its write gives, however long that takes."""
        while True:
            written = await self._group.submit(item)
            if not isinstance(written, Held):
                return written
            await self._clock.sleep(_PAUSE)

    async def cancel(self) -> None:
        """Try no more; those who wait are cancelled."""
        await self._group.cancel()

    async def _try(self, items: Sequence[I]) -> Sequence[O | Held]:
        tried = await self._write(items, _PATIENCE)
        if len(items) == 1:
            return tried
        alone: list[O | Held] = []
        for item, result in zip(items, tried, strict=True):
            alone += await self._write([item], _PATIENCE) if isinstance(result, Held) else [result]
        return alone
