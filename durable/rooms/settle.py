"""Settle: write how turns ended, in batches that fill while a write is in flight."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, Literal

from durable.attempts import Attempt, Holdings
from durable.callbacks import queue_of
from durable.errors import ErrorInfo, RowsHeld, SleepingIdConflict
from durable.execution import FINISHED, Kind, Settled, Settlement
from durable.execution_log import ExecutionLog
from durable.rooms.aside import Aside
from durable.rooms.held import LOCK_TIMEOUT, MOST_LOOKS, Held, HeldRows
from durable.rooms.loop import patiently
from durable.rooms.touched import may_meet_others, rows_of_end
from durable.storage import Note, Storage
from durable.stored_errors import store_error
from durable.transitions import blocked, fail

__all__ = ["Ending", "SettleRoom"]

_log = logging.getLogger("durable")
_MOST = 1000
_BUSY_PAUSE = 0.02
"""Seconds until an end is tried again whose job somebody holds: as long as a send takes on a busy server."""
_MOST_APART: Final = 10_000
"""Ends that may wait for somebody's open transaction without slowing the claims down. Each keeps its lease."""

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
        held: HeldRows,
        noted: Callable[[Attempt, Settlement], Settlement] = lambda _, settlement: settlement,
        note: Note | None = None,
        on_freed: Callable[[set[str]], None],
        on_apart: Callable[[], None] = lambda: None,
    ) -> None:
        self._storage = storage
        self._log = log
        self._held = held
        self._noted = noted
        self._note = note
        self._holdings = holdings
        self._on_settled = on_settled
        self._on_freed = on_freed
        self._on_apart = on_apart
        self._pending: list[Ending] = []
        self._apart: set[tuple[str, int]] = set()
        """Ends that wait for somebody's open transaction, and hold up no others."""
        self._are_many_apart = False
        self._aside: Aside[Ending, Literal[True]] = Aside(self._write_aside, held.clock)
        self._tasks: set[asyncio.Task[None]] = set()
        """Of the ends that the last takes care of."""
        self._is_writing = False
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

    @property
    def apart(self) -> int:
        """Ends that wait for somebody's open transaction, up to the bound from which on they count as a backlog."""
        return min(len(self._apart), _MOST_APART)

    async def stop(self) -> None:
        """Write no more of what waits for others."""
        for task in self._tasks:
            task.cancel()
        await self._aside.cancel()

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
            self._is_writing = True
            try:
                await self._settle(batch)
            except Exception:
                _log.exception("%d ends may be lost: their executions are left to their leases", len(batch))
                self._leave(batch)
            finally:
                self._is_writing = False
                self._note_idle()

    def _note_idle(self) -> None:
        if not self._is_writing and not self._pending and not self._apart:
            self._idle.set()

    def _leave(self, batch: list[Ending]) -> None:
        for attempt, _ in batch:
            if attempt.key not in self._apart:
                self._holdings.remove(attempt)

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
        for _ in range(MOST_LOOKS):
            batch = self._put_apart(batch)
            if batch:
                batch = await self._unwritten(batch, LOCK_TIMEOUT)
            if not batch:
                return
            if not await self._held.look(row for ending in batch for row in rows_of_end(*ending)):
                self._put_aside(ending for ending in batch if may_meet_others(ending[1]))
                batch = [ending for ending in batch if not may_meet_others(ending[1])]
        self._put_aside(self._put_apart(batch))

    def _put_apart(self, batch: list[Ending]) -> list[Ending]:
        """Those of the batch that wait for nobody; the others come back when their rows are free."""
        if not self._held.are_any:
            return batch  # as almost always, and without a look at each
        left: list[Ending] = []
        for ending in batch:
            held = self._held.among(rows_of_end(*ending))
            if not held:
                left.append(ending)
                continue
            self._set_apart(ending)
            self._held.free(held).add_done_callback(partial(self._come_back, ending))
        return left

    def _come_back(self, ending: Ending, freed: asyncio.Future[None]) -> None:
        self._apart.discard(ending[0].key)
        if not freed.cancelled():
            self.put(*ending)

    def _put_aside(self, endings: Iterable[Ending]) -> None:
        """What they wait for is none of their rows: they are written beside the others."""
        for ending in endings:
            self._set_apart(ending)
            task = asyncio.create_task(self._see_to(ending), name="durable-aside")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _see_to(self, ending: Ending) -> None:
        try:
            await self._aside.put(ending)
        except Exception:
            _log.exception("execution %s is left to its lease", ending[1].id)
            self._holdings.remove(ending[0])
        self._apart.discard(ending[0].key)
        self._note_idle()

    def _set_apart(self, ending: Ending) -> None:
        self._apart.add(ending[0].key)
        self._on_apart()
        if len(self._apart) < _MOST_APART // 2:
            self._are_many_apart = False
        elif len(self._apart) >= _MOST_APART and not self._are_many_apart:
            self._are_many_apart = True
            _log.warning(
                "%d ends wait for open transactions of others, which hold the rows of parents, receivers or jobs: if "
                "there are more, nothing new is claimed here",
                len(self._apart),
            )

    async def _write_aside(self, batch: Sequence[Ending], limit: float) -> list[Literal[True] | Held]:
        if len({settlement.id for _, settlement in batch}) < len(batch):
            return [Held()] * len(batch)  # a write holds an execution once: each goes by itself
        try:
            unwritten = await self._write(list(batch), limit)
        except Exception as error:
            if len(batch) > 1:
                return [Held()] * len(batch)  # one of them is refused: each goes by itself
            await self._settle_unwritable(*batch[0], error)
            return [True]
        keys = {attempt.key for attempt, _ in unwritten}
        return [Held() if attempt.key in keys else True for attempt, _ in batch]

    async def _unwritten(self, batch: list[Ending], lock_timeout: float) -> list[Ending]:
        """Those that wait for somebody, when the others are written."""
        try:
            return await self._write(batch, lock_timeout)
        except Exception as error:
            if len(batch) > 1:
                _log.warning("a batch of %d ends was refused as a whole, each is written alone: %s", len(batch), error)
                for single in batch:
                    await self._settle([single])
            else:
                await self._settle_unwritable(*batch[0], error)
            return []

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
            for ending in await self._write([(attempt, self._noted(attempt, ended))], LOCK_TIMEOUT):
                self.put(*ending)
        except Exception:
            _log.exception("execution %s is left to its lease", settlement.id)
            self._holdings.remove(attempt)

    async def _write(self, batch: list[Ending], lock_timeout: float) -> list[Ending]:
        """Gives those of which nothing was written, because something is held for longer than the timeout."""
        settlements = [settlement for _, settlement in batch]
        is_first_try = True
        accepted_before: frozenset[str] = frozenset()

        async def write() -> Settled | None:
            nonlocal is_first_try, accepted_before
            if not is_first_try:
                # The try before may have been committed; only the storage knows.
                accepted_before |= await self._storage.settled([(item.id, item.fence) for item in settlements])
            is_first_try = False
            left = [item for item in settlements if item.id not in accepted_before]
            try:
                return await self._storage.settle(left, note=self._note, lock_timeout=lock_timeout)
            except RowsHeld:
                return None

        settled = await patiently(self._storage, write, "settling")
        unwritten: list[Ending] = []
        if settled is None:
            unwritten = [ending for ending in batch if ending[1].id not in accepted_before]
            batch = [ending for ending in batch if ending[1].id in accepted_before]
            settled = Settled(frozenset(), frozenset())
        if accepted_before:
            settled = settled._replace(accepted=settled.accepted | accepted_before)
        if settled.busy:
            self._put_back([ending for ending in batch if ending[1].id in settled.busy])
            batch = [ending for ending in batch if ending[1].id not in settled.busy]
        if batch or not unwritten:
            self._finish(batch, settled)
        return unwritten

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
