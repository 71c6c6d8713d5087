"""Settle: write how turns ended, in batches that fill while a write is in flight."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from durable.attempts import Attempt, Holdings
from durable.callbacks import queue_of
from durable.errors import ErrorInfo, SleepingIdConflict
from durable.execution import FINISHED, Kind, Settled, Settlement
from durable.execution_log import ExecutionLog
from durable.rooms.loop import patiently
from durable.storage import Note, Storage
from durable.stored_errors import store_error
from durable.transitions import blocked, fail

__all__ = ["Ending", "SettleRoom"]

_log = logging.getLogger("durable")
_MOST = 1000
_BUSY_PAUSE = 0.02
"""Seconds until an end is tried again whose job somebody holds: as long as a send takes on a busy server."""

Ending = tuple[Attempt, Settlement]


class SettleRoom:
    """Takes the ends of turns and writes them under their fences; a refused one is dropped and reported."""

    def __init__(
        self,
        *,
        storage: Storage,
        holdings: Holdings,
        on_settled: Callable[[list[Settlement], Settled, int], None],
        log: ExecutionLog,
        noted: Callable[[Attempt, Settlement], Settlement] = lambda _, settlement: settlement,
        note: Note | None = None,
        on_freed: Callable[[set[str]], None],
    ) -> None:
        self._storage = storage
        self._log = log
        self._noted = noted
        self._note = note
        self._holdings = holdings
        self._on_settled = on_settled
        self._on_freed = on_freed
        self._pending: list[Ending] = []
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.refused_count = 0

    def put(self, attempt: Attempt, settlement: Settlement) -> None:
        """Hand an end over; it goes out with the next write."""
        self._pending.append((attempt, settlement))
        self._idle.clear()
        self._arrived.set()

    def finish(self, endings: list[Ending], settled: Settled) -> None:
        """Take note of ends that were written, or refused, elsewhere."""
        self._finish(endings, settled)

    async def flushed(self) -> None:
        """Wait until everything handed over has been written or refused."""
        await self._idle.wait()

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await self._arrived.wait()
            batch = self._take()
            if not self._pending:
                self._arrived.clear()
            try:
                await self._settle(batch)
            finally:
                if not self._pending:
                    self._idle.set()

    def _take(self) -> list[Ending]:
        """The next batch. It holds an execution once: the storage answers by id, and a late end of an older attempt
        must not pass for the end of the newer one."""
        ids = {settlement.id for _, settlement in self._pending}
        if len(ids) == len(self._pending) <= _MOST:
            whole, self._pending = self._pending, []
            return whole
        batch: dict[str, Ending] = {}
        left: list[Ending] = []
        for ending in self._pending:
            is_next = len(batch) < _MOST and ending[1].id not in batch
            if is_next:
                batch[ending[1].id] = ending
            else:
                left.append(ending)
        self._pending = left
        return list(batch.values())

    async def _settle(self, batch: list[Ending]) -> None:
        try:
            await self._write(batch)
        except Exception as error:
            if len(batch) > 1:
                _log.warning("a batch of %d ends was refused as a whole, each is written alone: %s", len(batch), error)
                for single in batch:
                    await self._settle([single])
            else:
                await self._settle_unwritable(*batch[0], error)

    async def _settle_unwritable(self, attempt: Attempt, settlement: Settlement, error: Exception) -> None:
        """One end that the storage will not take: the execution fails with that as its error.

        A workflow does not: what it has done is in its history, and neither undone nor lost if it is kept for later.
        """
        message = "execution %s could not be settled as %s: %s"
        self._log.write(logging.ERROR, attempt.claimed, message, settlement.id, settlement.status, error)
        kind = "SleepingIdConflict" if isinstance(error, SleepingIdConflict) else type(error).__name__
        stored = store_error(ErrorInfo(kind, str(error), is_retryable=False))
        if attempt.claimed.kind is Kind.WORKFLOW:
            ended = blocked(attempt.claimed, stored, "storage_refused")
        else:
            failed = fail(attempt.claimed, stored, retry_delay=None)
            ended = failed if attempt.close is None else attempt.close(failed)
        try:
            await self._write([(attempt, self._noted(attempt, ended))])
        except Exception:
            _log.exception("execution %s is left to its lease", settlement.id)
            self._holdings.remove(attempt)

    async def _write(self, batch: list[Ending]) -> None:
        settlements = [settlement for _, settlement in batch]
        is_first_try = True
        accepted_before: frozenset[str] = frozenset()

        async def write() -> Settled:
            nonlocal is_first_try, accepted_before
            if not is_first_try:
                # The try before may have been committed; only the storage knows.
                accepted_before |= await self._storage.settled([(item.id, item.fence) for item in settlements])
            is_first_try = False
            left = [item for item in settlements if item.id not in accepted_before]
            return await self._storage.settle(left, note=self._note)

        settled = await patiently(self._storage, write, "settling")
        if accepted_before:
            settled = settled._replace(accepted=settled.accepted | accepted_before)
        if settled.busy:
            self._put_back([ending for ending in batch if ending[1].id in settled.busy])
            batch = [ending for ending in batch if ending[1].id not in settled.busy]
        self._finish(batch, settled)

    def _put_back(self, endings: list[Ending]) -> None:
        """Try again in a moment: somebody holds the rows of their jobs. Meanwhile others are written."""
        if not self._pending:
            self._arrived.clear()
        self._pending.extend(endings)
        self._idle.clear()
        asyncio.get_running_loop().call_later(_BUSY_PAUSE, self._arrived.set)

    def _finish(self, batch: list[Ending], settled: Settled) -> None:
        accepted: list[Settlement] = []
        for attempt, settlement in batch:
            self._holdings.remove(attempt)
            if settlement.id in settled.accepted:
                accepted.append(settlement)
                self._log.settled(attempt, settlement)
            else:
                self.refused_count += 1
                self._log.write(
                    logging.WARNING, attempt.claimed,
                    "execution %s was taken from this executor: its late end (%s, fence %d) was refused",
                    settlement.id, settlement.status, settlement.fence,
                )  # fmt: skip
        called_back = [ending for ending in batch if ending[0].claimed.on_complete is not None]
        if called_back:
            ended = [attempt.claimed.on_complete for attempt, item in called_back if item.status in FINISHED]
            callbacks = {queue_of(spec) for spec in ended if spec is not None}
            settled = settled._replace(ready_queues=settled.ready_queues | callbacks)
        self._on_settled(accepted, settled, len(batch) - len(accepted))
        # After the write only: until then the places in a pool's limit were taken.
        self._on_freed({attempt.claimed.queue for attempt, _ in batch})
