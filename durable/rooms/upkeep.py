"""Upkeep: recover what crashed, end waits that are over, close trees, delete what is old. No executor is special."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from durable.clock import Clock
from durable.events import Emitter
from durable.execution import FINISHED, Settled, Status
from durable.execution_log import ExecutionLog
from durable.storage import Hint, Note, Operation, Storage

__all__ = ["UpkeepRoom", "close_levels"]

_log = logging.getLogger("durable")
_BATCH = 500
_CLOSE_BATCH = 100
_CLOSE_LEASE = 15.0
_PAGE = 1000
_MOST_PAGES = 50
_LONGEST_PAUSE = 3600.0
_SHARE = 10
"""The look for duties may take a tenth of the time."""
_MOST_ROUNDS = 1000
"""A bound on rounds without a pause; what is left comes with the next upkeep."""


async def close_levels(storage: Storage, *, note: Note | None = None, rounds: int = _MOST_ROUNDS) -> list[str]:
    """Close what waits for it, a level of every tree at a time; gives the ids of children cancelled or asked to end."""
    cancelled: list[str] = []
    for _ in range(rounds):
        ids = await storage.claim_closes(limit=_CLOSE_BATCH, lease=_CLOSE_LEASE)
        if not ids:
            break
        ended = await storage.close_trees(ids, reason="parent_ended", note=note)
        cancelled += [child.id for child in ended]
    return cancelled


class UpkeepRoom:
    """One step does every duty until nothing is left of it."""

    def __init__(
        self,
        *,
        storage: Storage,
        tell: Callable[..., None],
        on_recovered: Callable[[Iterable[str]], None],
        emitter: Emitter,
        pools: Callable[[], Sequence[str]],
        log: ExecutionLog,
        retention: float | None,
        clock: Clock,
        interval: float,
    ) -> None:
        self._storage = storage
        self._emitter = emitter
        self._pools = pools
        self._log = log
        self._tell = tell
        self._on_recovered = on_recovered
        self._retention = retention
        self._clock = clock
        self._retire_at = float("-inf")
        self._interval = interval
        self._took = 0.0
        self._retired_up_to: str | None = None

    def pause(self) -> float:
        """Seconds until the next step: more where it is slow to look for what is due, as behind a held snapshot."""
        return max(self._interval, self._took * _SHARE)

    async def step(self) -> None:
        began_at = self._clock.monotonic()
        duties = await self._storage.duties()
        self._took = self._clock.monotonic() - began_at
        if duties.recover:
            await self._recover()
        if duties.expire_waits:
            await self._end_waits(self._storage.expire_waits)
        if duties.apply_wakeups:
            await self._end_waits(self._storage.apply_wakeups)
        if duties.recover_closes:
            await self._storage.recover_closes(limit=_BATCH)
        if (duties.close or duties.recover_closes) and await self._close():
            self._tell(Hint("cancelled", ""), Hint("finished", ""), Hint("ready", ""), *self._emitter.hints)
        if duties.forget_events:
            await self._forget_events()
        if duties.report_pools:
            await self._report_pools()
        if self._retention is not None:
            await self._retire(self._retention)

    async def _close(self) -> list[str]:
        return await close_levels(self._storage, note=self._emitter.note)

    async def _forget_events(self) -> None:
        while await self._storage.forget_events(limit=_BATCH) == _BATCH:
            pass

    async def _report_pools(self) -> None:
        """Those that are served here; the others are those of other apps, or of nobody."""
        pools = self._pools()
        if pools and await self._storage.report_pools(pools, note=self._emitter.pool_note):
            self._tell(*self._emitter.hints)

    async def _retire(self, retention: float) -> None:
        """Some pages of the records, going on where the last step ended; after the last page a pause."""
        now = self._clock.monotonic()
        if self._retired_up_to is None and now < self._retire_at:
            return
        for _ in range(_MOST_PAGES):
            retired = await self._storage.retire(older_than=retention, limit=_PAGE, after=self._retired_up_to)
            self._retired_up_to = retired.last_id
            if retired.deleted or retired.deleted_jobs:
                _log.info(
                    "%d executions and %d jobs were deleted, ended %.0f s ago or more",
                    retired.deleted, retired.deleted_jobs, retention,
                )  # fmt: skip
            if retired.last_id is None:
                self._retire_at = now + min(retention / 24, _LONGEST_PAUSE)
                return

    async def _recover(self) -> None:
        while True:
            recovered = await self._storage.recover(limit=_BATCH, note=self._emitter.note)
            for execution in recovered:
                self._log.write(
                    logging.ERROR if execution.status is Status.FAILED else logging.WARNING, execution,
                    "execution %s was recovered from executor %s: now %s",
                    execution.id, execution.executor_id, execution.status,
                )  # fmt: skip
            self._on_recovered(str(execution.status) for execution in recovered)
            self._tell_ready(execution.queue for execution in recovered)
            if recovered:
                self._tell(*self._emitter.hints)
            if any(execution.status in FINISHED for execution in recovered):
                # A parent or a callback, in whatever queue.
                self._tell(Hint("finished", ""), Hint("ready", ""))
            if len(recovered) < _BATCH:
                return

    async def _end_waits(self, end: Callable[..., Operation[Settled]]) -> None:
        while True:
            ended = await end(limit=_BATCH, note=self._emitter.note)
            self._tell_ready(ended.ready_queues)
            if not ended.accepted:
                return
            self._tell(Hint("finished", ""), *self._emitter.hints)

    def _tell_ready(self, queues: Iterable[str]) -> None:
        self._tell(*(Hint("ready", queue) for queue in set(queues)))
