"""Moves virtual time from one due moment to the next, and at each lets the executor run until it has nothing to do."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from durable.errors import StillRunning
from durable.execution import Claimed
from durable.executor import Executor
from durable.testing.virtual import VirtualStorage

__all__ = ["Driver"]

_MOST_SHOWN = 10
_MOST_REPORTS = 240
"""Minutes of one advance that are stopped at for reports of pools alone: a month of them would take a minute."""


class Driver:
    """Time moves only while the executor is idle, so no lease ends under a handler, however far it moves.

    The leases of a storage are judged by virtual time, which stands still while anything runs; those of the executor
    by the machine's monotonic clock, on which it renews them as ever. So both agree at every moment.
    """

    def __init__(self, executor: Executor, virtual: VirtualStorage, *, patience: float) -> None:
        self._executor = executor
        self._virtual = virtual
        self._patience = patience

    def now(self) -> datetime:
        return self._virtual.now()

    async def drain(self) -> datetime | None:
        """Run what is due now, and what comes of it, until nothing is; gives the next moment, None if there is none.

        Raises StillRunning when that takes longer than the patience, which is real time and counts for each moment.
        """
        limit = asyncio.timeout(self._patience)
        try:
            async with limit:
                return await self._run_due()
        except TimeoutError:
            if not limit.expired():
                raise
            raise StillRunning(self._patience, self._unfinished()) from None

    async def advance_to(self, target: datetime) -> None:
        """As drain, at every due moment up to the target in turn; a moment that comes up on the way counts too.

        So do the minutes at which pools are reported, up to a number: what ends after those is in a later report.
        """
        due = await self.drain()
        reports = _MOST_REPORTS if self._executor.reports_pools else 0
        while True:
            report = self._next_minute() if reports else None
            moment = min((each for each in (due, report) if each is not None), default=None)
            if moment is None or moment > target:
                break
            reports -= moment == report
            self._virtual.move_to(moment)
            due = await self.drain()
        if target > self.now():
            self._virtual.move_to(target)

    async def _run_due(self) -> datetime | None:
        while True:
            self._executor.wake()
            await self._executor.quiet()
            # What a claim had to skip, because another transaction held it, is due still.
            claimed = self._executor.claimed_count
            due = await self._executor.next_due()
            if self._executor.claimed_count != claimed or not self._executor.is_quiet:
                continue  # it looked by itself meanwhile, and what it has claimed has no moment
            if due is None or due > self.now():
                return due

    def _next_minute(self) -> datetime:
        """When pools are reported next: by the clock, whatever the storage holds."""
        return self.now().replace(second=0, microsecond=0) + timedelta(minutes=1)

    def _unfinished(self) -> list[str]:
        held = self._executor.held
        shown = [_line(claimed) for claimed in held[:_MOST_SHOWN]]
        if len(held) > _MOST_SHOWN:
            shown.append(f"{len(held) - _MOST_SHOWN} more")
        return shown or ["something is due that was not run, perhaps because another transaction holds it"]


def _line(claimed: Claimed) -> str:
    turn = f", iteration {claimed.iteration}" if claimed.iteration else ""
    return f"task {claimed.task_name!r} (execution {claimed.id}, attempt {claimed.attempts}{turn})"
