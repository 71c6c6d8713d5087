"""Durable: a registry of definitions, a storage to keep executions in, and the way to run them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from random import Random
from typing import Any, TypeVar, Unpack

from durable.alike import samples
from durable.child import Child
from durable.child_results import child_result, reader
from durable.clock import Clock, SystemClock
from durable.codec import Codec, Limits, PayloadCodec
from durable.durations import Duration, aware, seconds
from durable.errors import ConfigurationError, ExecutionNotFound, NotOpen
from durable.events import Emitter, Events, Fact
from durable.execution import CancelResult, Execution, FinishedExecution, Kind, NewExecution, WakeResult
from durable.executor import Executor
from durable.explain import StatusReport, report
from durable.handle import Handle, HowToEnd, WhenRunning, first_end, may_end, may_finish, only, wait_limit
from durable.ids import IdSource, known_id, parse_id
from durable.jobs.listing import Jobs
from durable.jobs.timers import Timers
from durable.live import CancelFilter, Live
from durable.notice import NewNotice
from durable.pool_rows import PoolConfig, PoolTally
from durable.registry import Registry
from durable.returns import ChildResult
from durable.running import refuse_own_end
from durable.script import Script
from durable.settings import ExecutorOptions, ExecutorSettings, checked_name
from durable.storage import Storage, open_storage
from durable.sync_client import Client
from durable.task import Task, checked_task_name
from durable.workflow.approvals import Approvals
from durable.workflow.calls import cancel_again
from durable.workflow.workflow import WorkflowHandle

__all__ = ["Durable"]

R = TypeVar("R")
T = TypeVar("T")
EMBEDDED = "embedded:"


class Durable(Registry):
    """Declare tasks on it, open it with `async with app:` to enqueue, and with `app.executor()` to run as well.

    `dsn` names the database; without one the environment variable DURABLE_DSN does, and without that an embedded
    Postgres is started under ./.durable. `schema` keeps the tables of several apps apart. Nothing is connected and no
    process is started before the app is opened. Several apps in one process work.
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        schema: str = "durable",
        storage: Storage | None = None,
        limits: Limits | None = None,
        payload_codec: PayloadCodec | None = None,
        poll_interval: Duration = 1.0,
        migrate: bool | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
        ids: IdSource | None = None,
    ) -> None:
        """`storage` wins over `dsn`. `migrate` brings the schema up to date when the app is opened; None does so for
        the embedded server only. `poll_interval` bounds how long a waiter waits when every hint is lost. Raises
        ConfigurationError."""
        super().__init__(codec=Codec(limits, payload_codec))
        self._dsn = dsn if dsn is not None else os.environ.get("DURABLE_DSN") or EMBEDDED
        self._schema = schema
        self._storage = storage
        self._migrate: bool = (storage is None and self._dsn.startswith(EMBEDDED)) if migrate is None else migrate
        self._poll_interval = seconds(poll_interval, "poll_interval", minimum=0.01, maximum=600.0)
        self._clock = clock or SystemClock()
        self._random = random or Random()  # noqa: S311 - jitter
        self._ids = ids or IdSource()
        self._live: Live | None = None
        self._emitter = Emitter(self._ids, lambda: self.codec)
        self.events = Events(self._emitter, lambda: self.live.storage)
        """Who is told of what happens to executions and jobs."""

    # --- life ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Durable:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect as a client on this event loop. Raises StorageUnavailable, SchemaNotInstalled and their like."""
        if self._live is not None:
            raise NotOpen("the app is open already")
        storage = self.storage
        if self._migrate:
            await asyncio.to_thread(storage.migrate)
        await storage.open()
        self._live = Live(storage, poll_interval=self._poll_interval, random=self._random, emitter=self._emitter)
        await self._live.ensure_pools(list(self.pools.values()))

    async def close(self) -> None:
        """Write what was accepted, and disconnect. Handles of this app answer no more until it is opened again."""
        live, self._live = self._live, None
        if live is not None:
            await live.close()
            await live.storage.close()

    @asynccontextmanager
    async def executor(self, **settings: Unpack[ExecutorOptions]) -> AsyncGenerator[Executor]:
        """Run executions of this app's definitions while the block lasts; opens the app if it is not open.

        `settings` are those of ExecutorSettings. On leaving, claiming stops at once, running handlers get `grace`,
        and what is left is cancelled and given back.
        """
        checked = ExecutorSettings(**settings)
        opened_here = self._live is None
        if opened_here:
            await self.open()
        self.live.check()
        executor = Executor(self.live, self, checked, clock=self._clock, ids=self._ids)
        executor.start()
        try:
            yield executor
        finally:
            await executor.stop()
            if opened_here:
                await self.close()

    @contextmanager
    def client(self) -> Generator[Client]:
        """A client for code without an event loop; same method names, every call blocks."""
        storage = self.storage
        if self._migrate:
            storage.migrate()
        storage.open_blocking()
        try:
            client = Client(self, storage, self._ids, poll_interval=self._poll_interval, emitter=self._emitter)
            client.ensure_pools(list(self.pools.values()))
            yield client
        finally:
            storage.close_blocking()

    @contextmanager
    def override(
        self, *, storage: Storage, random: Random | None = None, ids: IdSource | None = None
    ) -> Generator[None]:
        """Use another storage, which is never migrated, source of jitter and of ids while the block lasts; for tests.

        Afterwards all is as before. Raises ConfigurationError where the app is open, because it would go on as it is.
        """
        if self._live is not None:
            raise ConfigurationError("the app is open; override its storage before `async with app:`")
        before, ids_before = (self._storage, self._migrate, self._random), self._ids
        self._storage, self._migrate, self._random = storage, False, random or self._random
        self._ids = ids or ids_before
        try:
            yield
        finally:
            self._storage, self._migrate, self._random = before
            self._ids = ids_before

    @property
    def storage(self) -> Storage:
        if self._storage is None:
            self._storage = open_storage(self._dsn, schema=self._schema)
        return self._storage

    def storage_of(self, *, dsn: str | None, schema: str | None) -> Storage:
        """Its own storage, or where one of these is given, a new one with the rest as the app has it; not opened."""
        if dsn is None and schema is None:
            return self.storage
        return open_storage(dsn or self._dsn, schema=schema or self._schema)

    @property
    def jobs(self) -> Jobs:
        """Lists and counts of keyed jobs."""
        return Jobs(self.home, self._jobs)

    @property
    def timers(self) -> Timers:
        """Tasks that run at a moment, after a while, or again and again."""
        return Timers(self.home, lambda: self.codec)

    @property
    def approvals(self) -> Approvals:
        """What workflows have asked people for: listed, granted, refused."""
        return Approvals(self.home, lambda: self.codec)

    @property
    def live(self) -> Live:
        if self._live is None:
            raise NotOpen("the app is not open; use it inside `async with app:`")
        return self._live

    # --- client --------------------------------------------------------------------------------------------

    async def enqueue_calls(self, calls: Sequence[Child[R]], *, connection: Any = None) -> list[Handle[R]]:
        """Store one root execution for each `task.child(…)`, of any tasks, all or none; handles in the same order."""
        rows = [call.new._replace(id=(new_id := self.new_id()), root_id=new_id) for call in calls]
        await self._ensure_pools(rows)
        done = await self.live.enqueue_many(rows, connection)
        return [self._handle(row.task_name, result.id) for row, result in zip(rows, done, strict=True)]

    def handle_of(self, execution_id: str, task_name: str) -> Handle[Any]:
        """A handle from an id and the name of a registered task; raises ExecutionNotFound for what is no id."""
        return self._handle(task_name, parse_id(execution_id))

    async def wait(
        self, handles: Sequence[Handle[Any]], *, timeout: Duration | None = None
    ) -> tuple[set[str], set[str]]:
        """Wait until all have finished, whatever way; gives the ids of the finished and of the unfinished.

        `timeout` in seconds: None waits for ever, 0 looks once. One listener and one query per look serve any number
        of them. Raises ExecutionNotFound, and ConfigurationError for what waits for the caller itself.
        """
        self.live.check()
        limit = wait_limit(timeout)
        if limit != 0:
            refuse_own_end([handle.execution_id for handle in handles])
        futures = self.live.waiters.futures([handle.execution_id for handle in handles])
        if not futures:
            return set(), set()
        try:
            _, pending = await asyncio.wait(futures, timeout=limit)
            if pending:
                # The time was up, perhaps before the first look came back: one more, so that the answer is true.
                ids = [h.execution_id for h, f in zip(handles, futures, strict=True) if not f.done()]
                self.live.waiters.resolve(await self.live.storage.finished(ids))
            done = {h.execution_id for h, f in zip(handles, futures, strict=True) if f.done() and f.result()}
        finally:
            for future in futures:
                future.cancel()
        return done, {handle.execution_id for handle in handles} - done

    async def execution(self, execution_id: str) -> Execution:
        """The record of an execution; raises ExecutionNotFound."""
        self.live.check()
        return only(await self.live.storage.get([parse_id(execution_id)]), execution_id)

    async def end(self, execution_id: str, timeout: float | None) -> FinishedExecution:
        self.live.check()
        if timeout == 0:
            found = await self.live.storage.finished([execution_id])
            if found:
                return found[0]
            await self.execution(execution_id)
        else:
            refuse_own_end([execution_id])
        (future,) = self.live.waiters.futures([execution_id], within=timeout)
        return await first_end(future, execution_id, timeout)

    async def status(self, execution_id: str) -> StatusReport:
        """How an execution stands, in data and in words; one that is not there is reported as that."""
        (found,) = await self.status_many([execution_id])
        return found

    async def status_many(self, execution_ids: Sequence[str]) -> list[StatusReport]:
        """How executions stand, in the order of the ids; those that are not there are reported as that."""
        self.live.check()
        ids = [known_id(execution_id) for execution_id in execution_ids]
        storage = self.live.storage
        found = iter(await storage.get([id_ for id_ in ids if id_ is not None]))
        now = await storage.now()
        return [
            report(given, None if id_ is None else next(found), now)
            for given, id_ in zip(execution_ids, ids, strict=True)
        ]

    async def cancel_all(
        self,
        *,
        queue: str | None = None,
        task: Task[..., Any] | None = None,
        before: datetime | None = None,
        reason: str = "cancelled by a client",
        running: WhenRunning = "stop",
    ) -> int:
        """Cancel everything unfinished that was created before a time, of a queue or a task; gives how many that were.

        `before` is aware; None means what is there by the database's clock when the call begins, so what is enqueued
        from then on is left alone. Turns of jobs and callbacks are left alone as well. A batch is a transaction, in no
        particular order. `running` is that of Handle.cancel; those asked to end count.
        """
        where = CancelFilter(
            None if queue is None else checked_name(queue, "queue"),
            checked_task_name(task),
            None if before is None else aware(before, "before"),
        )
        return await self.live.cancel_all(where, reason=reason, may_finish=may_finish(running))

    async def cancel(
        self, execution_id: str, *, reason: str = "cancelled by a client", running: HowToEnd = "stop"
    ) -> CancelResult:
        """See Handle.cancel; raises ExecutionNotFound."""
        finish, force = may_end(running)
        (result,) = await self.live.cancel([parse_id(execution_id)], reason=reason, may_finish=finish, force=force)
        if result.status_before is None:
            raise ExecutionNotFound(execution_id)
        return await self.live.play(cancel_again(result, reason))

    async def children(self, execution_id: str) -> list[ChildResult[Any]]:
        """See Handle.children."""
        self.live.check()
        ends = await self.live.storage.children([parse_id(execution_id)])
        return [child_result(self, end) for end in ends if not end.is_finalize]

    # --- for definitions -----------------------------------------------------------------------------------

    def home(self) -> Durable:
        return self

    def new_id(self) -> str:
        return self._ids.new_id()

    def new_ids(self, count: int) -> list[str]:
        return self._ids.new_ids(count)

    def handle(self, task: Task[..., R], execution_id: str) -> Handle[R]:
        return self._handle(task.name, parse_id(execution_id))

    @property
    def stores_in_parts(self) -> bool:
        return self.live.storage.has_transactions

    async def enqueue_new(self, task: Task[..., R], new: NewExecution, connection: Any) -> Handle[R]:
        if new.is_pooled:
            await self._ensure_pools([new])
        done = await self.live.enqueue(new, connection)
        return self._handle(task.name, done.id)

    async def enqueue_all(self, task: Task[..., R], rows: Sequence[NewExecution], connection: Any) -> list[Handle[R]]:
        await self._ensure_pools(rows)
        done = await self.live.enqueue_many(rows, connection)
        make = self._handles(task.name)
        return [make(result.id) for result in done]

    def notices(self, facts: Iterable[Fact]) -> tuple[NewNotice, ...]:
        return tuple(self._emitter.notices(facts))

    async def play(self, script: Script[T], connection: Any = None) -> T:
        return await self.live.play(script, connection)

    async def pool_config(self, declared: PoolConfig) -> PoolConfig:
        return await self.live.pool_config(declared)

    async def configure_pool(self, pool: PoolConfig, fields: frozenset[str]) -> PoolConfig:
        return await self.live.configure_pool(pool, fields)

    async def pool_tallies(self, pool: str, over: float) -> list[PoolTally]:
        return await self.live.pool_tallies(pool, over)

    async def _ensure_pools(self, rows: Sequence[NewExecution]) -> None:
        """A pool that was declared after the app was opened is stored before anything waits in it."""
        some = samples(rows)
        if any(row.is_pooled for row in some):
            await self.live.ensure_pools(self.pools_of(some))

    async def wake(self, task_name: str, sleeping_id: str, output: str | None, error: str | None) -> WakeResult:
        return await self.live.wake(task_name, sleeping_id, output=output, error=error)

    def _handle(self, task_name: str, execution_id: str) -> Handle[Any]:
        return self._handles(task_name)(execution_id)

    def _handles(self, task_name: str) -> Callable[[str], Handle[Any]]:
        """What makes a handle from an id of this task."""
        definition = self[task_name]
        read = reader(self, definition)
        if definition.kind is Kind.WORKFLOW:
            return lambda execution_id: WorkflowHandle(self, execution_id, task_name, read)
        return lambda execution_id: Handle(self, execution_id, task_name, read)
