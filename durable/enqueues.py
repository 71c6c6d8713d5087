"""Store executions of many callers together, without letting one whose key somebody holds keep the others waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from durable.eager import begun
from durable.errors import NotOpen
from durable.events import Emitter
from durable.execution import Enqueued, NewExecution
from durable.first_start import Starter, first_claim
from durable.group_commit import GroupCommit
from durable.patience import Patience
from durable.storage import Storage

__all__ = ["Enqueues", "has_keys"]

_WHAT = "enqueueing"
_LOCK_TIMEOUT: Final = 0.1
"""Seconds that a group waits for the transaction of another before its rows go on alone. A group meets such a one only
where somebody stores the same key at the same moment, mostly in a commit of a few milliseconds."""


class Enqueues:
    """Those that come while one is being stored go out together.

    A row with a key waits for whoever is storing the same key, maybe in a transaction that lasts as long as its owner
    likes. So these have a group of their own, which waits for a moment only; then each of its rows waits by itself.
    """

    def __init__(
        self,
        storage: Storage,
        in_turn: Patience,
        patiently: Patience,
        emitter: Emitter,
        tell_ready: Callable[[Sequence[NewExecution]], None],
        stored: Callable[[Sequence[str]], None],
        starters: Sequence[Starter],
    ) -> None:
        self._storage = storage
        self._in_turn = in_turn
        """For what may wait for somebody's transaction."""
        self._patiently = patiently
        self._emitter = emitter
        self._tell_ready = tell_ready
        """Hears of what was stored, also of that whose caller no longer waits."""
        self._stored = stored
        """Hears of that which needs no telling, because it was started."""
        self._starters = starters
        self._starting: set[asyncio.Task[bool]] = set()
        self._loop = asyncio.get_running_loop()
        self._plain: GroupCommit[NewExecution, Enqueued] = GroupCommit(self._write)
        self._keyed: GroupCommit[NewExecution, Enqueued | None] = GroupCommit(self._write_free, gathers=True)
        self._is_one_alone = False
        self._keyed_count = 0
        """Those with a key that are not stored yet, alone or not."""
        self._idle = asyncio.Event()
        """Set when, after a close, there are none."""
        self._is_closed = False

    async def enqueue(self, row: NewExecution) -> Enqueued:
        """Durable when it returns. Cancelled while waiting, the row may or may not have been stored."""
        if row.idempotency_key is None and row.sleeping_id is None:
            return await self._plain.submit(row)
        if self._is_closed:
            raise NotOpen("the client was closed")
        self._keyed_count += 1
        try:
            return await self._enqueue_keyed(row)
        finally:
            self._keyed_count -= 1
            if self._is_closed and not self._keyed_count:
                self._idle.set()

    async def _enqueue_keyed(self, row: NewExecution) -> Enqueued:
        if self._is_one_alone:
            return await self._keyed.submit(row) or await self._alone(row)
        self._is_one_alone = True
        try:
            return await self._alone(row)
        finally:
            self._is_one_alone = False

    async def close(self) -> None:
        """Refuse new rows and wait for those accepted."""
        self._is_closed = True
        await asyncio.gather(self._plain.close(), self._keyed.close())
        if self._starting:
            await asyncio.wait(self._starting)  # how one has failed its caller is told
        if self._keyed_count:
            await self._idle.wait()

    async def _alone(self, row: NewExecution) -> Enqueued:
        (done,) = await self._in_turn(self._storage.enqueue([row], note=self._emitter.note), _WHAT)
        self._tell_ready([row])
        return done

    async def _write(self, rows: Sequence[NewExecution]) -> list[Enqueued]:
        if len(rows) == 1 and self._starters and await self._was_started(rows[0]):
            return [Enqueued(rows[0].id, True, False)]
        done = await self._patiently(self._storage.enqueue(rows, note=self._emitter.note), _WHAT)
        self._tell_ready(rows)
        return done

    async def _was_started(self, row: NewExecution) -> bool:
        """Whether an executor of this process had a slot for it, and it was stored as started there."""
        for starter in self._starters:
            reserved_at = starter.reserve(row)
            if reserved_at is not None:
                break
        else:
            return False
        # A task of its own: a caller who gives up must not leave behind what was stored and is never started.
        task = begun(self._loop, self._start(row, starter, reserved_at), name="durable-start")
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return await asyncio.shield(task)

    async def _start(self, row: NewExecution, starter: Starter, reserved_at: float) -> bool:
        """False: it is not stored."""
        claimed, is_stored = None, True
        try:
            claimed = await self._storage.enqueue_started(row, executor_id=starter.executor_id, lease=starter.lease)
        except Exception as error:
            if not self._storage.is_transient(error):
                raise
            # The statement may have been carried out, and its answer lost: then it is held here, and starts.
            (found,) = await self._patiently(self._storage.get([row.id]), _WHAT)
            is_stored = found is not None
            if found is not None and (found.executor_id, found.fence) == (starter.executor_id, 1):
                claimed = first_claim(row, found.created_at)
        finally:
            starter.arrived(claimed, reserved_at)
        if claimed is not None:
            self._stored([row.id])
        return is_stored

    async def _write_free(self, rows: Sequence[NewExecution]) -> Sequence[Enqueued | None]:
        try:
            done = await self._storage.enqueue(rows, note=self._emitter.note, lock_timeout=_LOCK_TIMEOUT)
        except Exception as error:
            # Rows that are held, or a storage that is away: each of them by itself, as patiently as ever.
            if self._storage.is_transient(error):
                return [None] * len(rows)
            raise
        self._tell_ready(rows)
        return done


def has_keys(rows: Sequence[NewExecution]) -> bool:
    """Whether storing them may wait for a transaction of somebody else, who is storing the same key."""
    return any(row.idempotency_key is not None or row.sleeping_id is not None for row in rows)
