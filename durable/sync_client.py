"""The client for code without an event loop: the same method names, and each call blocks its thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, ParamSpec, TypeVar, Unpack, cast, overload
from uuid import uuid4

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from durable.alike import samples
from durable.child import Child
from durable.child_results import child_result, reader
from durable.definition import new_executions
from durable.durations import Duration, aware
from durable.errors import ConfigurationError, ExecutionNotFound, ResultTimeout
from durable.events import Emitter
from durable.execution import CancelResult, Enqueued, Execution, FinishedExecution, Kind, NewExecution, WakeResult
from durable.explain import StatusReport, report
from durable.handle import HowToEnd, SyncHandle, WhenRunning, may_end, may_finish, only, wait_limit
from durable.ids import IdSource, known_id, parse_id
from durable.jobs.continuous import Continuous, SyncContinuous
from durable.jobs.debounce import Debounce, SyncDebounce
from durable.jobs.listing import SyncJobs
from durable.jobs.task import SyncTask
from durable.jobs.task import Task as TaskJob
from durable.jobs.timers import SyncTimers
from durable.live import CANCEL_BATCH, refuse_within, report_differences, settled_ids, up_to
from durable.options import EnqueueOptions, checked_overrides, checked_reason, checked_text
from durable.pool import SyncPool
from durable.pool_options import DeclaredPool
from durable.pool_rows import PoolConfig, PoolTally
from durable.registry import Registry
from durable.returns import ChildResult
from durable.running import refuse_own_end
from durable.script import Append, Ask, EndOf, Heard, NewsOf, Script, Tell
from durable.settings import checked_name
from durable.slices import Gradual
from durable.storage import Hint, Operation, Storage
from durable.task import SleepingTask, Task, Typed, checked_task_name
from durable.workflow.approvals import SyncApprovals
from durable.workflow.calls import cancel_again
from durable.workflow.sync_handle import SyncWorkflowHandle
from durable.workflow.workflow import TypedWorkflow, Workflow

__all__ = ["Client"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
S = TypeVar("S")
E = TypeVar("E")
_PATIENCE = 30.0
_FIRST_LOOK = 0.005
_LOOKS_PER_CHECK = 10
"""How many looks pass between checks that what is waited for still exists."""
_MOST_GROWTH = 50
"""Pauses after which the next is not longer; by then it is beyond any poll interval."""

_CALLS: Final[tuple[tuple[type[Any], Callable[[Any, Any], Any]], ...]] = (
    (Continuous, SyncContinuous),
    (Debounce, SyncDebounce),
    (TaskJob, SyncTask),
)


class Client:
    """Made by `with app.client() as client:`. Any thread may use it; it listens to nothing and polls for results."""

    def __init__(
        self, registry: Registry, storage: Storage, ids: IdSource, *, poll_interval: float, emitter: Emitter
    ) -> None:
        self._registry = registry
        self._storage = storage
        self._ids = ids
        self._poll_interval = poll_interval
        self._emitter = emitter
        self._closing = threading.Event()
        self._stored_pools: set[str] = set()

    @overload
    def enqueue(
        self, task: TypedWorkflow[Callable[[], R]], /, **options: Unpack[EnqueueOptions]
    ) -> SyncWorkflowHandle[R]: ...
    @overload
    def enqueue(
        self, task: TypedWorkflow[Callable[[A], R]], a: A, /, **options: Unpack[EnqueueOptions]
    ) -> SyncWorkflowHandle[R]: ...
    @overload
    def enqueue(
        self, task: TypedWorkflow[Callable[[A, B], R]], a: A, b: B, /, **options: Unpack[EnqueueOptions]
    ) -> SyncWorkflowHandle[R]: ...
    @overload
    def enqueue(
        self, task: TypedWorkflow[Callable[P, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> SyncWorkflowHandle[R]: ...
    @overload
    def enqueue(self, task: Typed[Callable[[], R]], /, **options: Unpack[EnqueueOptions]) -> SyncHandle[R]: ...
    @overload
    def enqueue(self, task: Typed[Callable[[A], R]], a: A, /, **options: Unpack[EnqueueOptions]) -> SyncHandle[R]: ...
    @overload
    def enqueue(
        self, task: Typed[Callable[[A, B], R]], a: A, b: B, /, **options: Unpack[EnqueueOptions]
    ) -> SyncHandle[R]: ...
    @overload
    def enqueue(
        self, task: Typed[Callable[[A, B, C], R]], a: A, b: B, c: C, /, **options: Unpack[EnqueueOptions]
    ) -> SyncHandle[R]: ...
    @overload
    def enqueue(self, task: Typed[Callable[P, R]], /, *args: P.args, **kwargs: P.kwargs) -> SyncHandle[R]: ...
    def enqueue(self, task: Any, /, *args: Any, **kwargs: Any) -> SyncHandle[Any]:
        """See Task.enqueue; `connection` is a blocking psycopg or SQLAlchemy connection here."""
        known = cast("Task[..., Any]", task)
        arguments, options = known.split(kwargs)
        overrides = checked_overrides(known.definition.options, options)
        new = known.new(args, arguments, overrides, self._ids.new_id())
        (handle,) = self._store(known, [new], overrides.connection)
        return handle

    def enqueue_many(
        self, task: Typed[Callable[[A], R]], inputs: Iterable[A], **options: Unpack[EnqueueOptions]
    ) -> list[SyncHandle[R]]:
        """See Task.enqueue_many."""
        known = cast("Task[..., R]", task)
        overrides = checked_overrides(known.definition.options, options)
        given = list(inputs)
        dumped = known.definition.dump_inputs(given)
        is_late = overrides.connection is None and self._storage.has_transactions and known.definition.may_dump_late
        stored = Gradual(dumped, len(given)) if is_late else list(dumped)
        rows = new_executions(known.definition, stored, overrides, self._ids.new_ids(len(stored)))
        return self._store(known, rows, overrides.connection)

    def enqueue_calls(self, calls: Sequence[Child[Any]], *, connection: Any = None) -> list[SyncHandle[Any]]:
        """See Durable.enqueue_calls."""
        rows = [call.new._replace(id=(new_id := self._ids.new_id()), root_id=new_id) for call in calls]
        ids = self._enqueue(rows, connection)
        return [self._handle(row.task_name, id_) for row, id_ in zip(rows, ids, strict=True)]

    @overload
    def handle(self, task: Workflow[..., R], execution_id: str) -> SyncWorkflowHandle[R]: ...
    @overload
    def handle(self, task: Task[..., R], execution_id: str) -> SyncHandle[R]: ...
    def handle(self, task: Task[..., R], execution_id: str) -> SyncHandle[R]:
        """A handle for an execution that exists, or may; raises ExecutionNotFound for what is no id."""
        return self._handle(task.name, parse_id(execution_id))

    def new_id(self) -> str:
        return self._ids.new_id()

    def wakeup(self, task: SleepingTask[R], sleeping_id: str, output: R) -> WakeResult:
        """See SleepingTask.wakeup."""
        checked_text(sleeping_id, "sleeping_id")
        return self._wake(task.name, sleeping_id, task.definition.dump_result(output), None)

    def execution(self, execution_id: str) -> Execution:
        """The record of an execution; raises ExecutionNotFound."""
        return only(self._run(lambda: self._storage.get([parse_id(execution_id)])), execution_id)

    def children(self, execution_id: str) -> list[ChildResult[Any]]:
        """See Handle.children."""
        ends = self._run(lambda: self._storage.children([parse_id(execution_id)]))
        return [child_result(self._registry, end) for end in ends if not end.is_finalize]

    def status(self, execution_id: str) -> StatusReport:
        """See Durable.status."""
        (found,) = self.status_many([execution_id])
        return found

    def status_many(self, execution_ids: Sequence[str]) -> list[StatusReport]:
        """See Durable.status_many."""
        ids = [known_id(execution_id) for execution_id in execution_ids]
        known = [id_ for id_ in ids if id_ is not None]
        found = iter(self._run(lambda: self._storage.get(known)))
        now = self._run(self._storage.now)
        return [
            report(given, None if id_ is None else next(found), now)
            for given, id_ in zip(execution_ids, ids, strict=True)
        ]

    def cancel_all(
        self,
        *,
        queue: str | None = None,
        task: Task[..., Any] | None = None,
        before: datetime | None = None,
        reason: str = "cancelled by a client",
        running: WhenRunning = "stop",
    ) -> int:
        """See Durable.cancel_all. The levels below are closed by the executors."""
        finish, why = may_finish(running), checked_reason(reason)
        name = checked_task_name(task)
        kept_queue = None if queue is None else checked_name(queue, "queue")
        until = up_to(self._run(self._storage.now)) if before is None else aware(before, "before")
        count = 0
        while True:
            batch = self._run(
                lambda: self._storage.cancel_all(
                    before=until, queue=kept_queue, task_name=name, limit=CANCEL_BATCH, reason=why,
                    may_finish=finish, note=self._emitter.note,
                )
            )  # fmt: skip
            if not batch:
                return count
            count += sum(result.is_cancelled or result.is_requested for result in batch)
            self._hint(Hint("cancelled", ""), Hint("finished", ""), Hint("ready", ""))

    def cancel(
        self, execution_id: str, *, reason: str = "cancelled by a client", running: HowToEnd = "stop"
    ) -> CancelResult:
        """See Handle.cancel. The levels below are closed by the executors."""
        id_, request_id, note = parse_id(execution_id), str(uuid4()), self._emitter.note
        why, (finish, force) = checked_reason(reason), may_end(running)
        (result,) = self._run(
            lambda: self._storage.cancel(
                [id_], reason=why, may_finish=finish, force=force, request_id=request_id, note=note
            )
        )
        if result.status_before is None:
            raise ExecutionNotFound(execution_id)
        if result.is_cancelled or result.is_requested:
            self._hint(Hint("cancelled", ""), Hint("finished", ""), Hint("ready", ""), *self._emitter.hints)
        return self.play(cancel_again(result, reason))

    def wait(self, handles: Sequence[SyncHandle[Any]], *, timeout: Duration | None = None) -> tuple[set[str], set[str]]:
        """See Durable.wait."""
        ids = {handle.execution_id for handle in handles}
        done = {end.id for end in self._poll(ids, wait_limit(timeout))}
        return done, ids - done

    def end(self, execution_id: str, timeout: float | None) -> FinishedExecution:
        found = self._poll({execution_id}, timeout)
        if not found:
            raise ResultTimeout(execution_id, timeout or 0.0)
        return found[0]

    @overload
    def job(self, job: Continuous[S], /) -> SyncContinuous[S]: ...
    @overload
    def job(self, job: Debounce[S, E], /) -> SyncDebounce[S, E]: ...
    @overload
    def job(self, job: TaskJob[S, E], /) -> SyncTask[S, E]: ...
    def job(self, job: Any, /) -> Any:
        """The calls of a declared job, blocking."""
        make = next((make for declared, make in _CALLS if isinstance(job, declared)), None)
        if make is None:
            raise ConfigurationError(f"give a declared job, not {type(job).__name__}")
        return make(job, self)

    @property
    def jobs(self) -> SyncJobs:
        """Lists and counts of keyed jobs."""
        return SyncJobs(self)

    @property
    def approvals(self) -> SyncApprovals:
        """See Durable.approvals."""
        return SyncApprovals(self, lambda: self._registry.codec)

    @property
    def timers(self) -> SyncTimers:
        """See Durable.timers."""
        return SyncTimers(self, self._ids.new_id, lambda: self._registry.codec)

    def play(self, script: Script[T], connection: Any = None) -> T:
        """See Live.play."""
        answer: Any = None
        try:
            while True:
                answer = self._step(script.send(answer), connection)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def _step(self, step: Append | Ask | Tell | EndOf | NewsOf, connection: Any) -> Any:
        match step:
            case Append(event) if connection is not None:
                return self._storage.append_events([event]).run_on(connection)[0]
            case Append(event):
                return self._run(lambda: self._storage.append_events([event]))[0]
            case Ask(make, _) if connection is not None:
                return make(self._storage).run_on(connection)
            case Ask(make, _):
                return self._run(lambda: make(self._storage))
            case Tell(hints) if connection is not None:
                return self._storage.hint(hints).run_on(connection)
            case Tell(hints):
                return self._hint(*hints)
            case EndOf(execution_id, timeout):
                return self.end(execution_id, timeout)
            case NewsOf():
                return self._news(step)

    def pool(self, pool: DeclaredPool) -> SyncPool:
        """The pool with calls that block."""
        return SyncPool(pool, self)

    def pool_config(self, declared: PoolConfig) -> PoolConfig:
        (stored,) = self._run(lambda: self._storage.ensure_pools([declared]))
        return stored

    def configure_pool(self, pool: PoolConfig, fields: frozenset[str]) -> PoolConfig:
        after = self._run(lambda: self._storage.configure_pool(pool, fields=fields))
        self._hint(Hint("ready", pool.name))
        return after

    def pool_tallies(self, pool: str, over: float) -> list[PoolTally]:
        return self._run(lambda: self._storage.pool_tallies([pool], over=over))

    def ensure_pools(self, pools: Sequence[PoolConfig]) -> None:
        """Store those of the pools that are not there; costs nothing for those this client has asked for before."""
        wanted = [pool for pool in pools if pool.name not in self._stored_pools]
        if wanted:
            stored = self._run(lambda: self._storage.ensure_pools(wanted))
            self._stored_pools |= {pool.name for pool in stored}
            report_differences(wanted, stored)

    # --- inside --------------------------------------------------------------------------------------------

    def _poll(self, ids: set[str], timeout: float | None) -> list[FinishedExecution]:
        """Look for ends with growing pauses: a quick result costs milliseconds, a slow one few queries."""
        if timeout != 0:
            refuse_own_end(ids)
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = _FIRST_LOOK
        looks = 0
        found: dict[str, FinishedExecution] = {}
        while True:
            missing = sorted(ids - found.keys())
            found.update({end.id: end for end in self._run(lambda missing=missing: self._storage.finished(missing))})  # type: ignore[misc]
            if len(found) < len(ids) and looks % _LOOKS_PER_CHECK == 0:
                self._check_stored(ids - found.keys())
            looks += 1
            left = None if deadline is None else deadline - time.monotonic()
            if len(found) == len(ids) or (left is not None and left <= 0):
                return list(found.values())
            self._closing.wait(pause if left is None else min(pause, left))
            pause = min(pause * 1.5, self._poll_interval)

    def _news(self, wanted: NewsOf) -> Heard:
        """Nothing is heard here; the pauses between looks grow as those for results do."""
        if wanted.heard is None:
            return Heard(0, 0.0)
        if wanted.looks % _LOOKS_PER_CHECK == 0:
            self._check_stored({wanted.execution_id})
        pause = min(_FIRST_LOOK * 1.5 ** min(wanted.looks, _MOST_GROWTH), self._poll_interval)
        began = time.monotonic()
        self._closing.wait(pause if wanted.limit is None else min(pause, wanted.limit))
        return Heard(0, time.monotonic() - began)

    def _check_stored(self, ids: set[str]) -> None:
        """Raise ExecutionNotFound for what was never there, or was taken by retention."""
        gone = ids - self._run(lambda: self._storage.existing(sorted(ids)))
        if gone:
            raise ExecutionNotFound(min(gone))

    def _store(self, task: Task[..., R], rows: Sequence[NewExecution], connection: Any) -> list[SyncHandle[R]]:
        return [*map(self._handles(task.name), self._enqueue(rows, connection))]

    def _enqueue(self, rows: Sequence[NewExecution], connection: Any) -> list[str]:
        some = samples(rows)
        if any(row.is_pooled for row in some):
            self.ensure_pools(self._registry.pools_of(some))
        refuse_within(self._storage, some)
        hints = [Hint("ready", queue) for queue in sorted({row.queue for row in some})]
        done: list[Enqueued]
        note = self._emitter.note
        if connection is None:
            done = self._run(lambda: self._storage.enqueue(rows, all_or_nothing=len(rows) > 1, note=note))
            self._hint(*hints)
        else:
            done = self._storage.enqueue(rows, all_or_nothing=True, note=note).run_on(connection)
            self._storage.hint(hints).run_on(connection)
        return settled_ids(rows, done)

    def _wake(self, task_name: str, sleeping_id: str, output: str | None, error: str | None) -> WakeResult:
        note = self._emitter.note
        result = self._run(lambda: self._storage.wake(task_name, sleeping_id, output=output, error=error, note=note))
        ready = (Hint("ready", queue) for queue in sorted(result.ready_queues))
        self._hint(Hint("finished", ""), *ready, *self._emitter.hints)
        return result

    def _hint(self, *hints: Hint) -> None:
        if self._storage.is_shared:
            self._run(lambda: self._storage.hint(hints))

    def _run(self, make: Callable[[], Operation[T]]) -> T:
        """Run an operation, again while the storage cannot serve; the ids make a repeated enqueue harmless."""
        retrying = Retrying(
            retry=retry_if_exception(self._storage.is_transient),
            wait=wait_random_exponential(multiplier=0.1, max=2.0),
            stop=stop_after_delay(_PATIENCE),
            reraise=True,
        )
        return retrying(lambda: make().run())

    def _handle(self, task_name: str, execution_id: str) -> SyncHandle[Any]:
        return self._handles(task_name)(execution_id)

    def _handles(self, task_name: str) -> Callable[[str], SyncHandle[Any]]:
        """What makes a handle from an id of this task."""
        definition = self._registry[task_name]
        read = reader(self._registry, definition)
        if definition.kind is Kind.WORKFLOW:
            codec = self._registry.codec
            return lambda execution_id: SyncWorkflowHandle(self, execution_id, task_name, read, codec)
        return lambda execution_id: SyncHandle(self, execution_id, task_name, read)
