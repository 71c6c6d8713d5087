"""MemoryStorage: the storage protocol, one line a verb over the modules of this package."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from durable.approval_rows import ApprovalFilter, Decided, Decision, NewApproval, StoredApproval
from durable.errors import ConfigurationError, StorageUnavailable
from durable.execution import (
    CancelResult,
    ChildOutcome,
    Claimed,
    Enqueued,
    Execution,
    FinishedExecution,
    NewExecution,
    QueueLevel,
    Recovered,
    Retired,
    Settled,
    Settlement,
    Status,
    WakeResult,
)
from durable.fork_rows import Fork
from durable.job import (
    Appended,
    Cleared,
    EventEnd,
    Job,
    JobFilter,
    JobKey,
    JobView,
    NewEvent,
    NewJob,
    NewTurn,
    Started,
    StoredEvent,
    TakenTurn,
    Triggered,
    TurnToTake,
)
from durable.memory import (
    approvals,
    cancel,
    claim,
    close,
    doctor,
    enqueue,
    executors,
    forks,
    jobs_append,
    jobs_look,
    jobs_operate,
    jobs_turns,
    look,
    outbox,
    pool_reports,
    recover,
    retire,
    settle,
    timers,
    wake,
    workflow_messages,
    workflow_turns,
    workflows,
)
from durable.memory.next_start import next_start
from durable.memory.operation import MemoryLane, MemoryOperation
from durable.memory.pools import claim_pooled, configure_pool, ensure_pools, stored_pools
from durable.memory.store import Store, Transaction
from durable.notice import NewNotice, TakenNotices
from durable.pool_rows import PoolConfig, PooledClaim, PoolNote, PoolTally
from durable.storage import Defect, Duties, ExecutionFilter, ExecutorRow, Hint, NextStart, Note
from durable.timer import NewTimer, StoredTimer, TimerFilter, TimerSet
from durable.workflow_rows import (
    Checkpoint,
    Checkpointed,
    ChildTally,
    History,
    NewMessage,
    Published,
    Sent,
    StoredChunk,
)

__all__ = ["MemoryStorage", "open_memory"]

T = TypeVar("T")


class MemoryStorage:
    """Executions in this process. Every promise is in durable.storage.Storage.

    `now` is its clock; None means the system's. It lives as long as its handles: `handle()` gives another one on the
    same executions. Opening and closing do nothing, so it may be used unopened and again after a close.
    """

    is_shared = False
    client_limit = None
    has_transactions = False

    def __init__(self, now: Callable[[], datetime] | None = None, *, store: Store | None = None) -> None:
        if now is not None and store is not None:
            raise ConfigurationError("a shared store has its own clock; give now or store, not both")
        self._store = store or Store(now or _system_now)

    def handle(self) -> MemoryStorage:
        """Another handle on the same executions, as another process would have on a database."""
        return MemoryStorage(store=self._store)

    # --- life ------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Nothing to connect."""

    async def close(self) -> None:
        """Nothing to close; the executions stay."""

    def open_blocking(self) -> None:
        """Nothing to connect."""

    def close_blocking(self) -> None:
        """Nothing to close; the executions stay."""

    def migrate(self) -> list[str]:
        """There is no schema to migrate."""
        return []

    def lane(self) -> MemoryLane:
        return MemoryLane()

    def transaction(self, connection: Any = None) -> AbstractAsyncContextManager[Any]:
        """There are none: a verb is a transaction, and nothing else can take part in it."""
        raise ConfigurationError("the storage in memory has no transactions that user code could write in")

    def is_transient(self, error: BaseException) -> bool:
        return isinstance(error, StorageUnavailable)

    def _do(self, work: Callable[[Transaction], T]) -> MemoryOperation[T]:
        return MemoryOperation(self._store, work)

    # --- verbs -----------------------------------------------------------------------------------------------

    def enqueue(
        self, rows: Sequence[NewExecution], *, all_or_nothing: bool = False, note: Note | None = None,
        lock_timeout: float | None = None,
    ) -> MemoryOperation[list[Enqueued]]:  # fmt: skip
        del lock_timeout  # nothing is ever waited for
        return self._do(partial(enqueue.enqueue, rows=rows, all_or_nothing=all_or_nothing, note=note))

    def enqueue_started(self, row: NewExecution, *, executor_id: str, lease: float) -> MemoryOperation[Claimed]:
        return self._do(partial(enqueue.enqueue_started, row=row, executor_id=executor_id, lease=lease))

    def claim(
        self, *, executor_id: str, queues: Sequence[str], task_names: Sequence[str], limit: int, lease: float,
        after: Mapping[QueueLevel, str] | None = None,
    ) -> MemoryOperation[list[Claimed]]:  # fmt: skip
        return self._do(
            partial(
                claim.claim,
                executor_id=executor_id, queues=queues, task_names=task_names, limit=limit, lease=lease, after=after,
            )
        )  # fmt: skip

    def claim_pooled(
        self, *, executor_id: str, pools: Sequence[str], task_names: Sequence[str], limit: int, lease: float
    ) -> MemoryOperation[PooledClaim]:
        return self._do(
            partial(claim_pooled, executor_id=executor_id, pools=pools, task_names=task_names, limit=limit, lease=lease)
        )

    def claim_callback(self, execution_id: str, *, executor_id: str, lease: float) -> MemoryOperation[Claimed | None]:
        work = partial(claim.claim_callback, execution_id=execution_id, executor_id=executor_id, lease=lease)
        return self._do(work)

    def count_starts(self, held: Sequence[tuple[str, int]]) -> MemoryOperation[frozenset[str]]:
        return self._do(partial(claim.count_starts, held=held))

    def renew(self, held: Sequence[tuple[str, int]], *, lease: float) -> MemoryOperation[frozenset[str]]:
        return self._do(partial(claim.renew, held=held, lease=lease))

    def leased(self, held: Sequence[tuple[str, int]]) -> MemoryOperation[frozenset[str]]:
        return self._do(partial(claim.leased, held=held))

    def held_rows(self, ids: Sequence[str]) -> MemoryOperation[frozenset[str]]:
        del ids
        return self._do(lambda _: frozenset())  # no transaction outlasts the call that it belongs to

    def heartbeat(self, beats: Sequence[tuple[str, int, str]]) -> MemoryOperation[frozenset[str]]:
        return self._do(partial(claim.heartbeat, beats=beats))

    def settle(
        self, settlements: Sequence[Settlement], *, note: Note | None = None, lock_timeout: float | None = None
    ) -> MemoryOperation[Settled]:
        del lock_timeout  # nothing is ever waited for
        return self._do(partial(settle.settle, settlements=settlements, note=note))

    def settled(self, pairs: Sequence[tuple[str, int]]) -> MemoryOperation[frozenset[str]]:
        return self._do(partial(settle.settled, pairs=pairs))

    def children(self, parent_ids: Sequence[str]) -> MemoryOperation[list[ChildOutcome]]:
        return self._do(partial(settle.children, parent_ids=parent_ids))

    def wake(
        self, task_name: str, sleeping_id: str, *, output: str | None, error: str | None, note: Note | None = None
    ) -> MemoryOperation[WakeResult]:
        work = partial(wake.wake, task_name=task_name, sleeping_id=sleeping_id, output=output, error=error, note=note)
        return self._do(work)

    def apply_wakeups(self, *, limit: int, note: Note | None = None) -> MemoryOperation[Settled]:
        return self._do(partial(wake.apply_wakeups, limit=limit, note=note))

    def expire_waits(self, *, limit: int, note: Note | None = None) -> MemoryOperation[Settled]:
        return self._do(partial(wake.expire_waits, limit=limit, note=note))

    def duties(self) -> MemoryOperation[Duties]:
        return self._do(recover.duties)

    def next_due(self, *, queues: Sequence[str], task_names: Sequence[str]) -> MemoryOperation[datetime | None]:
        return self._do(partial(recover.next_due, queues=queues, task_names=task_names))

    def next_start(
        self,
        *,
        queues: Sequence[str],
        pools: Sequence[str],
        task_names: Sequence[str],
        after: datetime | None,
        within: float,
    ) -> MemoryOperation[NextStart]:
        work = partial(next_start, queues=queues, pools=pools, task_names=task_names, after=after, within=within)
        return self._do(work)

    def recover(self, *, limit: int, note: Note | None = None) -> MemoryOperation[list[Recovered]]:
        return self._do(partial(recover.recover, limit=limit, note=note))

    def cancel(
        self, ids: Sequence[str], *, reason: str, may_finish: bool = False, force: bool = False,
        request_id: str | None = None, note: Note | None = None,
    ) -> MemoryOperation[list[CancelResult]]:  # fmt: skip
        verb = partial(
            cancel.cancel, ids=ids, reason=reason, may_finish=may_finish, force=force, request_id=request_id, note=note
        )
        return self._do(verb)

    def cancel_all(
        self,
        *,
        before: datetime,
        queue: str | None = None,
        task_name: str | None = None,
        limit: int,
        reason: str,
        may_finish: bool = False,
        force: bool = False,
        note: Note | None = None,
    ) -> MemoryOperation[list[CancelResult]]:
        work = partial(
            cancel.cancel_all, before=before, queue=queue, task_name=task_name, limit=limit, reason=reason,
            may_finish=may_finish, force=force, note=note,
        )  # fmt: skip
        return self._do(work)

    def pick_up_cancelled(self, *, executor_id: str, limit: int) -> MemoryOperation[list[str]]:
        return self._do(partial(cancel.pick_up_cancelled, executor_id=executor_id, limit=limit))

    def redrive(self, ids: Sequence[str]) -> MemoryOperation[list[str]]:
        return self._do(partial(cancel.redrive, ids=ids))

    def claim_closes(self, *, limit: int, lease: float) -> MemoryOperation[list[str]]:
        return self._do(partial(close.claim_closes, limit=limit, lease=lease))

    def close_trees(
        self, ids: Sequence[str], *, reason: str, note: Note | None = None
    ) -> MemoryOperation[list[CancelResult]]:
        return self._do(partial(close.close_trees, ids=ids, reason=reason, note=note))

    def recover_closes(self, *, limit: int) -> MemoryOperation[int]:
        return self._do(partial(close.recover_closes, limit=limit))

    def start_job(self, new: NewJob) -> MemoryOperation[Started]:
        return self._do(partial(jobs_append.start_job, new=new))

    def append_events(self, events: Sequence[NewEvent]) -> MemoryOperation[list[Appended]]:
        return self._do(partial(jobs_append.append_events, events=events))

    def append_free_events(self, events: Sequence[NewEvent]) -> MemoryOperation[list[Appended | None]]:
        return self._do(partial(jobs_append.append_free_events, events=events))

    def trigger_job(self, key: JobKey, *, turn: NewTurn, only_pending: bool) -> MemoryOperation[Triggered]:
        return self._do(partial(jobs_operate.trigger_job, key=key, turn=turn, only_pending=only_pending))

    def end_job(
        self, key: JobKey, *, reason: str | None, notices: Sequence[NewNotice] = ()
    ) -> MemoryOperation[Job | None]:
        return self._do(partial(jobs_operate.end_job, key=key, reason=reason, notices=notices))

    def clear_job(self, key: JobKey) -> MemoryOperation[Cleared | None]:
        return self._do(partial(jobs_operate.clear_job, key=key))

    def pause_job(self, key: JobKey) -> MemoryOperation[Job | None]:
        return self._do(partial(jobs_operate.pause_job, key=key))

    def resume_job(self, key: JobKey, *, turn: NewTurn) -> MemoryOperation[Job | None]:
        return self._do(partial(jobs_operate.resume_job, key=key, turn=turn))

    def redrive_job(self, key: JobKey, *, turn: NewTurn) -> MemoryOperation[Triggered]:
        return self._do(partial(jobs_operate.redrive_job, key=key, turn=turn))

    def take_turns(self, turns: Sequence[TurnToTake]) -> MemoryOperation[list[TakenTurn]]:
        return self._do(partial(jobs_turns.take_turns, turns=turns))

    def get_jobs(self, keys: Sequence[JobKey]) -> MemoryOperation[list[JobView | None]]:
        return self._do(partial(jobs_look.get_jobs, keys=keys))

    def list_jobs(self, where: JobFilter, *, limit: int, after: JobKey | None = None) -> MemoryOperation[list[JobView]]:
        return self._do(partial(jobs_look.list_jobs, where=where, limit=limit, after=after))

    def count_jobs(self, where: JobFilter) -> MemoryOperation[int]:
        return self._do(partial(jobs_look.count_jobs, where=where))

    def pending_events(self, key: JobKey) -> MemoryOperation[list[StoredEvent]]:
        return self._do(partial(jobs_look.pending_events, key=key))

    def event_end(self, key: JobKey, event_id: str) -> MemoryOperation[EventEnd | None]:
        return self._do(partial(jobs_look.event_end, key=key, event_id=event_id))

    def forget_events(self, *, limit: int) -> MemoryOperation[int]:
        return self._do(partial(jobs_look.forget_events, limit=limit))

    def set_timer(self, new: NewTimer, *, turn: NewTurn) -> MemoryOperation[TimerSet]:
        return self._do(partial(timers.set_timer, new=new, turn=turn))

    def cancel_timers(self, where: TimerFilter) -> MemoryOperation[int]:
        return self._do(partial(timers.cancel_timers, where=where))

    def list_timers(
        self, where: TimerFilter, *, limit: int, after: tuple[datetime, str] | None = None
    ) -> MemoryOperation[list[StoredTimer]]:
        return self._do(partial(timers.list_timers, where=where, limit=limit, after=after))

    def checkpoint(
        self, rows: Sequence[Checkpoint], *, note: Note | None = None, lock_timeout: float | None = None
    ) -> MemoryOperation[Checkpointed]:
        del lock_timeout  # nothing is ever waited for
        return self._do(partial(workflow_turns.checkpoint, rows=rows, note=note))

    def histories(self, wanted: Sequence[tuple[str, int, int]]) -> MemoryOperation[list[History]]:
        return self._do(partial(workflows.histories, wanted=wanted))

    def send_messages(self, rows: Sequence[NewMessage]) -> MemoryOperation[list[Sent]]:
        return self._do(partial(workflow_messages.send_messages, rows=rows))

    def tally_children(self, parent_id: str, ranges: Sequence[tuple[int, int]]) -> MemoryOperation[list[ChildTally]]:
        return self._do(partial(workflows.tally_children, parent_id=parent_id, ranges=ranges))

    def children_between(
        self, parent_id: str, first: int, end: int, *, only_failed: bool, limit: int
    ) -> MemoryOperation[list[ChildOutcome]]:
        return self._do(
            partial(
                workflows.children_between,
                parent_id=parent_id, first=first, end=end, only_failed=only_failed, limit=limit,
            )
        )  # fmt: skip

    def published_values(
        self, execution_id: str, keys: Sequence[str] | None = None
    ) -> MemoryOperation[list[Published]]:
        return self._do(partial(workflows.published_values, execution_id=execution_id, keys=keys))

    def stored_chunks(self, execution_id: str, *, after: int, limit: int) -> MemoryOperation[list[StoredChunk]]:
        return self._do(partial(workflows.stored_chunks, execution_id=execution_id, after=after, limit=limit))

    def fork_workflow(self, source_id: str, *, fork: Fork, new: NewExecution) -> MemoryOperation[bool]:
        return self._do(partial(forks.fork_workflow, source_id=source_id, fork=fork, new=new))

    def open_approval(self, new: NewApproval) -> MemoryOperation[StoredApproval | None]:
        return self._do(partial(approvals.open_approval, new=new))

    def get_approval(
        self, *, approval_id: str | None = None, token_hash: str | None = None
    ) -> MemoryOperation[StoredApproval | None]:
        return self._do(partial(approvals.get_approval, approval_id=approval_id, token_hash=token_hash))

    def list_approvals(
        self, where: ApprovalFilter, *, limit: int, before: str | None = None
    ) -> MemoryOperation[list[StoredApproval]]:
        return self._do(partial(approvals.list_approvals, where=where, limit=limit, before=before))

    def decide_approval(self, approval_id: str, decision: Decision) -> MemoryOperation[Decided]:
        return self._do(partial(approvals.decide_approval, approval_id=approval_id, decision=decision))

    def expire_approval(self, approval_id: str) -> MemoryOperation[StoredApproval | None]:
        return self._do(partial(approvals.expire_approval, approval_id=approval_id))

    def emit(self, notices: Sequence[NewNotice]) -> MemoryOperation[None]:
        return self._do(partial(outbox.emit, notices=notices))

    def take_notices(self, subscriber: str, *, holder: str, limit: int, lease: float) -> MemoryOperation[TakenNotices]:
        work = partial(outbox.take_notices, subscriber=subscriber, holder=holder, limit=limit, lease=lease)
        return self._do(work)

    def renew_delivery(self, subscriber: str, *, holder: str, lease: float) -> MemoryOperation[bool]:
        return self._do(partial(outbox.renew_delivery, subscriber=subscriber, holder=holder, lease=lease))

    def delivered(self, subscriber: str, ids: Sequence[str], *, holder: str) -> MemoryOperation[None]:
        return self._do(partial(outbox.delivered, subscriber=subscriber, ids=ids, holder=holder))

    def put_off_delivery(self, subscriber: str, *, holder: str, delay: float) -> MemoryOperation[None]:
        return self._do(partial(outbox.put_off_delivery, subscriber=subscriber, holder=holder, delay=delay))

    def undelivered(self) -> MemoryOperation[Mapping[str, int]]:
        return self._do(outbox.undelivered)

    def discard_notices(self, subscriber: str) -> MemoryOperation[int]:
        return self._do(partial(outbox.discard_notices, subscriber=subscriber))

    def ensure_pools(self, pools: Sequence[PoolConfig]) -> MemoryOperation[list[PoolConfig]]:
        return self._do(partial(ensure_pools, wanted=pools))

    def configure_pool(self, pool: PoolConfig, *, fields: Collection[str]) -> MemoryOperation[PoolConfig]:
        return self._do(partial(configure_pool, pool=pool, fields=fields))

    def pools(self, names: Sequence[str] | None = None) -> MemoryOperation[list[PoolConfig]]:
        return self._do(partial(stored_pools, names=names))

    def pool_tallies(self, pools: Sequence[str] | None = None, *, over: float) -> MemoryOperation[list[PoolTally]]:
        return self._do(partial(pool_reports.pool_tallies, pools=pools, over=over))

    def report_pools(self, pools: Sequence[str], *, note: PoolNote | None = None) -> MemoryOperation[list[str]]:
        return self._do(partial(pool_reports.report_pools, pools=pools, note=note))

    def retire(self, *, older_than: float, limit: int, after: str | None = None) -> MemoryOperation[Retired]:
        return self._do(partial(retire.retire, older_than=older_than, limit=limit, after=after))

    def now(self) -> MemoryOperation[datetime]:
        return self._do(look.now)

    def get(self, ids: Sequence[str]) -> MemoryOperation[list[Execution | None]]:
        return self._do(partial(look.get, ids=ids))

    def get_sleeping(self, task_name: str, sleeping_id: str) -> MemoryOperation[Execution | None]:
        return self._do(partial(look.get_sleeping, task_name=task_name, sleeping_id=sleeping_id))

    def finished(self, ids: Sequence[str]) -> MemoryOperation[list[FinishedExecution]]:
        return self._do(partial(look.finished, ids=ids))

    def existing(self, ids: Sequence[str]) -> MemoryOperation[frozenset[str]]:
        return self._do(partial(look.existing, ids=ids))

    def search(
        self, where: ExecutionFilter, *, limit: int, before: str | None = None
    ) -> MemoryOperation[list[Execution]]:
        return self._do(partial(look.search, where=where, limit=limit, before=before))

    def counts(self) -> MemoryOperation[Mapping[tuple[str, Status], int]]:
        return self._do(look.counts)

    def announce(self, row: ExecutorRow) -> MemoryOperation[None]:
        return self._do(partial(executors.announce, row=row))

    def withdraw(self, executor_id: str) -> MemoryOperation[None]:
        return self._do(partial(executors.withdraw, executor_id=executor_id))

    def executors(self) -> MemoryOperation[list[ExecutorRow]]:
        return self._do(executors.executors)

    def defects(self, *, limit: int) -> MemoryOperation[list[Defect]]:
        return self._do(partial(doctor.defects, limit=limit))

    def mend(self, ids: Sequence[str]) -> MemoryOperation[list[Defect]]:
        return self._do(partial(doctor.mend, ids=ids))

    def hint(self, hints: Sequence[Hint], *, teller: str = "") -> MemoryOperation[None]:
        """There is no other process to tell."""
        return self._do(_say_nothing)

    async def listen(self, *, teller: str = "") -> AsyncIterator[Hint]:
        """Ends at once: no hint ever comes from another process."""
        nothing: tuple[Hint, ...] = ()
        for hint in nothing:
            yield hint


def _say_nothing(_: Transaction) -> None:
    return None


def _system_now() -> datetime:
    return datetime.now(UTC)


def open_memory(dsn: str, *, schema: str) -> MemoryStorage:
    """What the entry point `durable.storages` calls for `memory:`. Each call gives a storage of its own.

    A name after the colon would have to be shared through a table of this module; share a MemoryStorage instead.
    """
    if dsn not in ("memory:", "memory://"):
        raise ConfigurationError(
            "memory: takes no name, each one is private; pass one MemoryStorage to all that share it"
        )
    return MemoryStorage()
