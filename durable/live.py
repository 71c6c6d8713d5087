"""What an open app holds: storage, bus, waiters and the group commit of enqueues, on one event loop of one process."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

from durable.alike import samples
from durable.appends import Appends
from durable.bus import Bus
from durable.callbacks import wants_transaction
from durable.enqueues import Enqueues, has_keys
from durable.errors import ConfigurationError, IdempotencyConflict, NotOpen, SleepingIdConflict, StorageUnavailable
from durable.events import Emitter
from durable.execution import CancelResult, Enqueued, NewExecution, WakeResult
from durable.first_start import Starter
from durable.handle import first_end
from durable.news import News
from durable.options import checked_reason
from durable.pool_rows import PoolConfig, PoolTally
from durable.rooms.loop import patiently
from durable.rooms.upkeep import close_levels
from durable.running import refuse_own_end
from durable.script import Append, Ask, EndOf, NewsOf, Script, Tell
from durable.storage import Hint, Operation, Storage
from durable.waiters import Waiters

__all__ = ["CANCEL_BATCH", "CancelFilter", "Live", "refuse_within", "report_differences", "settled_ids", "up_to"]

T = TypeVar("T")
_log = logging.getLogger("durable")
_MOST_LEVELS = 200
_PATIENCE = 30.0
"""Seconds a client call waits for a storage that cannot serve, before it raises StorageUnavailable."""


CANCEL_BATCH = 1000


class CancelFilter(NamedTuple):
    """What `cancel_all` cancels; None leaves a field open, and `before` None means the storage's now."""

    queue: str | None = None
    task_name: str | None = None
    before: datetime | None = None


def up_to(now: datetime) -> datetime:
    """The `before` that means everything created by now, this very microsecond included."""
    return now + timedelta(microseconds=1)


class Live:
    """Made by `async with app:`; every client call goes through it."""

    def __init__(self, storage: Storage, *, poll_interval: float, random: Random, emitter: Emitter) -> None:
        self.storage = storage
        self.random = random
        self.emitter = emitter
        self.bus = Bus(storage)
        self.waiters = Waiters(storage, self.bus, poll_interval=poll_interval, random=random)
        self.news = News(self.bus, self.waiters, poll_interval=poll_interval)
        self.starters: list[Starter] = []
        """Executors of this app that run."""
        self._enqueues = Enqueues(
            storage, self._in_turn, self._patiently, emitter, self._tell_ready, self.waiters.stored, self.starters
        )
        self._stored_pools: set[str] = set()
        self._appends = Appends(storage, self._in_turn, self._patiently)
        limit = storage.client_limit
        self._turns = None if limit is None else asyncio.Semaphore(limit)
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()

    def check(self) -> None:
        """Raise NotOpen in a forked child or on another event loop: sockets and futures belong to one of each."""
        if os.getpid() != self._pid:
            raise NotOpen("this process was forked after the app was opened; open an app of its own in the child")
        if asyncio.get_running_loop() is not self._loop:
            raise NotOpen("the app was opened on another event loop; open it on this one, or use app.client()")

    async def enqueue(self, new: NewExecution, connection: Any = None) -> Enqueued:
        """Store one execution; durable when it returns. Raises IdempotencyConflict or SleepingIdConflict."""
        self.check()
        refuse_within(self.storage, [new])
        if connection is not None:
            (done,) = await self._enqueue_on(connection, [new])
        else:
            done = await self._enqueues.enqueue(new)
        if done.is_conflict:
            settled_ids([new], [done])
        return done

    async def enqueue_many(self, rows: Sequence[NewExecution], connection: Any = None) -> list[Enqueued]:
        """Store all or none; a conflict of one is raised and nothing is stored."""
        self.check()
        some = samples(rows)
        refuse_within(self.storage, some)
        if connection is not None:
            done = await self._enqueue_on(connection, rows)
        else:
            run = self._in_turn if has_keys(some) else self._patiently
            done = await run(self.storage.enqueue(rows, all_or_nothing=True, note=self.emitter.note), "enqueueing")
            self._tell_ready(some)
        settled_ids(rows, done)
        return done

    async def cancel(
        self, ids: Sequence[str], *, reason: str, may_finish: bool = False, force: bool = False
    ) -> list[CancelResult]:
        """Cancel, and close the trees below, a transaction for each level; what is left any executor closes."""
        self.check()
        results = await self._in_turn(
            self.storage.cancel(
                ids,
                reason=checked_reason(reason),
                may_finish=may_finish,
                force=force,
                request_id=str(uuid4()),
                note=self.emitter.note,
            ),
            "cancelling",
        )
        await self._after_cancel(results)
        return results

    async def cancel_all(self, where: CancelFilter, *, reason: str, may_finish: bool) -> int:
        """Cancel what was created before a time, a batch at a time; gives how many were cancelled or asked to end."""
        self.check()
        given, why = where.before, checked_reason(reason)
        before = up_to(await self._patiently(self.storage.now(), "reading the clock")) if given is None else given
        count = 0
        while True:
            batch = await self._in_turn(
                self.storage.cancel_all(
                    before=before, queue=where.queue, task_name=where.task_name, limit=CANCEL_BATCH, reason=why,
                    may_finish=may_finish, note=self.emitter.note,
                ),
                "cancelling",
            )  # fmt: skip
            if not batch:
                return count
            count += sum(result.is_cancelled or result.is_requested for result in batch)
            await self._after_cancel(batch)

    async def _after_cancel(self, results: Sequence[CancelResult]) -> None:
        if any(result.is_cancelled or result.is_requested for result in results):
            await close_levels(self.storage, note=self.emitter.note, rounds=_MOST_LEVELS)
            # A cancelled last child makes its parent ready, whatever queue that is in.
            self.bus.tell(Hint("cancelled", ""), Hint("finished", ""), Hint("ready", ""), *self.emitter.hints)

    async def wake(self, task_name: str, sleeping_id: str, *, output: str | None, error: str | None) -> WakeResult:
        """End a sleeping task; its parent goes on at once if this was the last child."""
        self.check()
        result = await self._in_turn(
            self.storage.wake(task_name, sleeping_id, output=output, error=error, note=self.emitter.note),
            "waking a sleeping task",
        )
        ready = (Hint("ready", queue) for queue in result.ready_queues)
        self.bus.tell(Hint("finished", ""), *ready, *self.emitter.hints)
        return result

    async def play(self, script: Script[T], connection: Any = None) -> T:
        """Run a client call of several steps; with a connection, inside the caller's transaction."""
        self.check()
        answer: Any = None
        try:
            while True:
                answer = await self._step(script.send(answer), connection)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    async def _step(self, step: Append | Ask | Tell | EndOf | NewsOf, connection: Any) -> Any:
        match step:
            case Append(event) if connection is not None:
                (appended,) = await self.storage.append_events([event]).await_on(connection)
                return appended
            case Append(event):
                return await self._appends.append(event)
            case Ask(make, _) if connection is not None:
                return await make(self.storage).await_on(connection)
            case Ask(make, may_wait):
                run = self._in_turn if may_wait else self._patiently
                return await run(make(self.storage), "a call on a job")
            case Tell(hints) if connection is not None:
                return await self.storage.hint(hints).await_on(connection)
            case Tell(hints):
                return self._tell(hints)
            case EndOf(execution_id, timeout):
                refuse_own_end([execution_id])
                (future,) = self.waiters.futures([execution_id])
                return await first_end(future, execution_id, timeout)
            case NewsOf(execution_id, heard, _, limit):
                return await self.news.of(execution_id, heard, limit)

    async def ensure_pools(self, pools: Sequence[PoolConfig]) -> None:
        """Store those of the pools that are not there; costs nothing for those this app has asked for before."""
        wanted = [pool for pool in pools if pool.name not in self._stored_pools]
        if not wanted:
            return
        stored = await self._patiently(self.storage.ensure_pools(wanted), "storing pools")
        self._stored_pools |= {pool.name for pool in stored}
        report_differences(wanted, stored)

    async def configure_pool(self, pool: PoolConfig, fields: frozenset[str]) -> PoolConfig:
        """Change a pool, and let every executor look at it at once."""
        self.check()
        after = await self._in_turn(self.storage.configure_pool(pool, fields=fields), "configuring a pool")
        self.bus.tell(Hint("ready", pool.name))
        return after

    async def pool_config(self, declared: PoolConfig) -> PoolConfig:
        self.check()
        (stored,) = await self._patiently(self.storage.ensure_pools([declared]), "reading a pool")
        return stored

    async def pool_tallies(self, pool: str, over: float) -> list[PoolTally]:
        self.check()
        return await self._patiently(self.storage.pool_tallies([pool], over=over), "reporting on a pool")

    async def close(self) -> None:
        await self._enqueues.close()
        await self._appends.close()
        await self.waiters.close()
        await self.bus.close()

    async def _enqueue_on(self, connection: Any, rows: Sequence[NewExecution]) -> list[Enqueued]:
        done = await self.storage.enqueue(rows, all_or_nothing=True, note=self.emitter.note).await_on(connection)
        # Sent by the caller's transaction, so it arrives if and when that commits.
        await self.storage.hint(self._ready_hints(samples(rows))).await_on(connection)
        return done

    async def _in_turn(self, operation: Operation[T], what: str) -> T:
        """As `_patiently`, for what may wait for rows that another transaction holds: so many at once as may do so."""
        turns = self._turns
        if turns is None:
            return await self._patiently(operation, what)
        try:
            async with asyncio.timeout(_PATIENCE):
                await turns.acquire()
        except TimeoutError:
            raise StorageUnavailable(
                f"{what} waits behind calls of this process that wait for rows which other transactions hold"
            ) from None
        try:
            return await self._patiently(operation, what)
        finally:
            turns.release()

    def _patiently(self, operation: Operation[T], what: str) -> Awaitable[T]:
        return patiently(self.storage, lambda: operation, what, within=_PATIENCE)

    def _ready_hints(self, rows: Sequence[NewExecution]) -> list[Hint]:
        return [Hint("ready", queue) for queue in {row.queue for row in rows}]

    def _tell(self, hints: Sequence[Hint]) -> None:
        if all(hint.topic == "ready" for hint in hints):
            self.bus.tell_paced(*hints)
        else:
            self.bus.tell(*hints)

    def _tell_ready(self, rows: Sequence[NewExecution]) -> None:
        self.waiters.stored(row.id for row in rows)
        self.bus.tell_paced(*self._ready_hints(rows))


def report_differences(declared: Sequence[PoolConfig], stored: Sequence[PoolConfig]) -> None:
    """Say where a pool was configured to something else than its declaration; it stays so."""
    for wanted, found in zip(declared, stored, strict=True):
        if found != wanted:
            _log.info("pool %s goes by its stored configuration, not by its declaration: %s", found.name, found)


def refuse_within(storage: Storage, rows: Sequence[NewExecution]) -> None:
    """Raise ConfigurationError for a callback in the transaction of the end, where there is none to run it in."""
    if storage.has_transactions:
        return
    for row in rows:
        if row.on_complete is not None and wants_transaction(row.on_complete):
            raise ConfigurationError(
                f'OnComplete(…, mode="transaction") of task {row.task_name!r} needs a storage with transactions'
            )


def settled_ids(rows: Sequence[NewExecution], done: Sequence[Enqueued]) -> list[str]:
    """The ids that stand for the rows; raises IdempotencyConflict or SleepingIdConflict for the first conflict."""
    if not any(result.is_conflict for result in done):
        return [result.id for result in done]
    for row, result in zip(rows, done, strict=True):
        if result.is_conflict and row.sleeping_id is not None:
            raise SleepingIdConflict(row.task_name, row.sleeping_id)
        if result.is_conflict:
            raise IdempotencyConflict(row.task_name, row.idempotency_key or "", result.id)
    return [result.id for result in done]
