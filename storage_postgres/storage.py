"""PostgresStorage: the storage protocol over plans, a line or two each."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import psycopg

from durable.alike import alike, is_plain_root
from durable.approval_rows import ApprovalFilter, Decided, Decision, NewApproval, StoredApproval
from durable.errors import ConfigurationError
from durable.execution import (
    FINISHED,
    CancelResult,
    ChildOutcome,
    Claimed,
    Enqueued,
    Execution,
    FinishedExecution,
    Kind,
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
from durable.notice import NewNotice, TakenNotices
from durable.pool_rows import PoolConfig, PooledClaim, PoolNote, PoolTally
from durable.storage import Defect, Duties, ExecutionFilter, ExecutorRow, Hint, NextStart, Note, Operation
from durable.stored_errors import EXPIRED, LOST, ORPHAN, POISONED, cancelled
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
from storage_postgres import (
    approval_verbs,
    cancel_verbs,
    fork_verbs,
    job_verbs,
    message_verbs,
    outbox,
    pool_verbs,
    timer_verbs,
    verbs,
    wake_verbs,
    workflow_verbs,
)
from storage_postgres.connections import KEPT_FOR_EXECUTOR, Connections, PostgresLane
from storage_postgres.failures import is_transient
from storage_postgres.listen import channel_of, hints_of, payloads_of
from storage_postgres.migrate import check, migrate
from storage_postgres.operation import HopefulOperation, PostgresOperation
from storage_postgres.plan import Plan, waiting
from storage_postgres.source import DsnSource, Source
from storage_postgres.statements import Statements

__all__ = ["PostgresStorage"]

T = TypeVar("T")
_SCHEMA_NAME = re.compile(r"[^\x00%]{1,63}")  # a % would be read as the start of a parameter


class PostgresStorage:
    """Executions in one schema of one Postgres database. Every promise is in durable.storage.Storage."""

    is_shared = True
    has_transactions = True

    def __init__(self, dsn: str | Source, *, schema: str = "durable", min_size: int = 2, max_size: int = 8) -> None:
        if not _SCHEMA_NAME.fullmatch(schema) or len(schema.encode()) > 63 or schema.startswith("pg_"):
            raise ConfigurationError(f"schema {schema[:80]!r} must be 1 to 63 bytes, without NUL or %, not pg_…")
        self.schema = schema
        source = DsnSource(dsn) if isinstance(dsn, str) else dsn
        self.connections = Connections(source, Statements(schema), min_size=min(min_size, max_size), max_size=max_size)
        self._channel = channel_of(schema)
        self.client_limit = max(max_size - KEPT_FOR_EXECUTOR, 1)

    # --- life ----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        await asyncio.to_thread(self._check)
        await self.connections.open()

    async def close(self) -> None:
        await self.connections.close()

    def open_blocking(self) -> None:
        self._check()
        self.connections.open_blocking()

    def close_blocking(self) -> None:
        self.connections.close_blocking()

    def _check(self) -> None:
        with self.connections.probe() as connection:
            check(connection, self.schema)

    def migrate(self) -> list[str]:
        with self.connections.probe() as connection:
            return migrate(connection, self.schema)

    def lane(self) -> PostgresLane:
        return PostgresLane(self.connections)

    def transaction(self, connection: Any = None) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        return self.connections.transaction(connection)

    def is_transient(self, error: BaseException) -> bool:
        return is_transient(error)

    def _do(self, make_plan: Callable[[], Plan[T]], *, transaction: bool = False) -> PostgresOperation[T]:
        return PostgresOperation(self.connections, make_plan, transaction)

    def _noted(self, make_plan: Callable[..., Plan[T]], note: Note | None) -> PostgresOperation[T]:
        """A verb that ends executions: one statement, unless their ends are to be noted with it."""
        return self._do(partial(make_plan, note=note), transaction=note is not None)

    # --- verbs ---------------------------------------------------------------------------------------------

    def enqueue(
        self, rows: Sequence[NewExecution], *, all_or_nothing: bool = False, note: Note | None = None,
        lock_timeout: float | None = None,
    ) -> Operation[list[Enqueued]]:  # fmt: skip
        def careful() -> PostgresOperation[list[Enqueued]]:
            is_bounded = lock_timeout is not None
            plan = partial(verbs.enqueue, rows, all_or_nothing=all_or_nothing, note=note, is_bounded=is_bounded)
            transaction = all_or_nothing or (note is not None and _has_sleepers(rows))
            return self._do(lambda: waiting(plan(), lock_timeout), transaction=transaction)

        if len(rows) == 1 and lock_timeout is None and is_plain_root(rows[0]):
            return HopefulOperation(self._do(partial(verbs.enqueue_lone, rows[0])), careful)
        if len(rows) < 2 or (same := alike(rows)) is None:
            return careful()
        transaction = all_or_nothing or len(rows) > verbs.PART
        return HopefulOperation(self._do(partial(verbs.enqueue_alike, same), transaction=transaction), careful)

    def enqueue_started(self, row: NewExecution, *, executor_id: str, lease: float) -> PostgresOperation[Claimed]:
        return self._do(partial(verbs.enqueue_started, row, executor_id=executor_id, lease=lease))

    def claim(
        self, *, executor_id: str, queues: Sequence[str], task_names: Sequence[str], limit: int, lease: float,
        after: Mapping[QueueLevel, str] | None = None,
    ) -> PostgresOperation[list[Claimed]]:  # fmt: skip
        return self._do(
            partial(
                verbs.claim,
                executor_id=executor_id, queues=queues, task_names=task_names, limit=limit, lease=lease, after=after,
            )
        )  # fmt: skip

    def claim_pooled(
        self, *, executor_id: str, pools: Sequence[str], task_names: Sequence[str], limit: int, lease: float
    ) -> PostgresOperation[PooledClaim]:
        return self._do(
            partial(
                verbs.claim_pooled,
                executor_id=executor_id,
                pools=pools,
                task_names=task_names,
                limit=limit,
                lease=lease,
            )
        )

    def claim_callback(self, execution_id: str, *, executor_id: str, lease: float) -> PostgresOperation[Claimed | None]:
        return self._do(partial(verbs.claim_callback, execution_id, executor_id=executor_id, lease=lease))

    def count_starts(self, held: Sequence[tuple[str, int]]) -> PostgresOperation[frozenset[str]]:
        return self._do(partial(verbs.count_starts, held))

    def renew(self, held: Sequence[tuple[str, int]], *, lease: float) -> PostgresOperation[frozenset[str]]:
        return self._do(partial(verbs.renew, held, lease=lease))

    def leased(self, held: Sequence[tuple[str, int]]) -> PostgresOperation[frozenset[str]]:
        return self._do(partial(verbs.leased, held))

    def held_rows(self, ids: Sequence[str]) -> PostgresOperation[frozenset[str]]:
        return self._do(partial(verbs.held_rows, ids))

    def heartbeat(self, beats: Sequence[tuple[str, int, str]]) -> PostgresOperation[frozenset[str]]:
        return self._do(partial(verbs.heartbeat, beats))

    def settle(
        self, settlements: Sequence[Settlement], *, note: Note | None = None, lock_timeout: float | None = None
    ) -> PostgresOperation[Settled]:
        if verbs.is_bare(settlements):
            return self._do(lambda: waiting(verbs.settle(settlements), lock_timeout))
        # One statement commits by itself; jobs and workflows need more, and so do ends noted after their write.
        is_noted = note is not None and any(
            item.status not in FINISHED or _has_sleepers(item.children) for item in settlements
        )
        has_more = any(item.job is not None or item.workflow is not None for item in settlements)
        return self._do(
            lambda: waiting(verbs.settle(settlements, note=note), lock_timeout), transaction=is_noted or has_more
        )

    def settled(self, pairs: Sequence[tuple[str, int]]) -> PostgresOperation[frozenset[str]]:
        return self._do(partial(verbs.settled, pairs))

    def children(self, parent_ids: Sequence[str]) -> PostgresOperation[list[ChildOutcome]]:
        return self._do(partial(verbs.children, parent_ids))

    def wake(
        self, task_name: str, sleeping_id: str, *, output: str | None, error: str | None, note: Note | None = None
    ) -> PostgresOperation[WakeResult]:
        return self._noted(partial(wake_verbs.wake, task_name, sleeping_id, output=output, error=error), note)

    def apply_wakeups(self, *, limit: int, note: Note | None = None) -> PostgresOperation[Settled]:
        return self._noted(partial(wake_verbs.apply_wakeups, limit=limit), note)

    def expire_waits(self, *, limit: int, note: Note | None = None) -> PostgresOperation[Settled]:
        return self._noted(partial(wake_verbs.expire_waits, limit=limit, error=EXPIRED), note)

    def duties(self) -> PostgresOperation[Duties]:
        return self._do(verbs.duties)

    def next_due(self, *, queues: Sequence[str], task_names: Sequence[str]) -> PostgresOperation[datetime | None]:
        return self._do(partial(verbs.next_due, queues=queues, task_names=task_names))

    def next_start(
        self,
        *,
        queues: Sequence[str],
        pools: Sequence[str],
        task_names: Sequence[str],
        after: datetime | None,
        within: float,
    ) -> PostgresOperation[NextStart]:
        work = partial(verbs.next_start, queues=queues, pools=pools, task_names=task_names, after=after, within=within)
        return self._do(work)

    def recover(self, *, limit: int, note: Note | None = None) -> PostgresOperation[list[Recovered]]:
        return self._noted(partial(verbs.recover, limit=limit, lost_error=LOST, poisoned_error=POISONED), note)

    def cancel(
        self,
        ids: Sequence[str],
        *,
        reason: str,
        may_finish: bool = False,
        force: bool = False,
        request_id: str | None = None,
        note: Note | None = None,
    ) -> PostgresOperation[list[CancelResult]]:
        plan = partial(
            cancel_verbs.cancel, ids, reason=reason, error=cancelled(reason), may_finish=may_finish, force=force,
            request_id=request_id, note=note,
        )  # fmt: skip
        return self._do(plan, transaction=True)

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
    ) -> PostgresOperation[list[CancelResult]]:
        plan = partial(
            cancel_verbs.cancel_all, before=before, queue=queue, task_name=task_name, limit=limit, reason=reason,
            error=cancelled(reason), may_finish=may_finish, force=force, note=note,
        )  # fmt: skip
        return self._do(plan, transaction=True)

    def pick_up_cancelled(self, *, executor_id: str, limit: int) -> PostgresOperation[list[str]]:
        return self._do(partial(verbs.pick_up_cancelled, executor_id=executor_id, limit=limit))

    def redrive(self, ids: Sequence[str]) -> PostgresOperation[list[str]]:
        return self._do(partial(verbs.redrive, ids))

    def claim_closes(self, *, limit: int, lease: float) -> PostgresOperation[list[str]]:
        return self._do(partial(verbs.claim_closes, limit=limit, lease=lease))

    def close_trees(
        self, ids: Sequence[str], *, reason: str, note: Note | None = None
    ) -> PostgresOperation[list[CancelResult]]:
        plan = partial(cancel_verbs.close_trees, ids, reason=reason, error=cancelled(reason), note=note)
        return self._do(plan, transaction=True)

    def recover_closes(self, *, limit: int) -> PostgresOperation[int]:
        return self._do(partial(verbs.recover_closes, limit=limit))

    def start_job(self, new: NewJob) -> PostgresOperation[Started]:
        return self._do(partial(job_verbs.start_job, new), transaction=bool(new.notices))

    def append_events(self, events: Sequence[NewEvent]) -> PostgresOperation[list[Appended]]:
        return self._do(partial(job_verbs.append_events, events), transaction=any(event.notices for event in events))

    def append_free_events(self, events: Sequence[NewEvent]) -> PostgresOperation[list[Appended | None]]:
        is_told = any(event.notices for event in events)
        return self._do(partial(job_verbs.append_free_events, events), transaction=is_told)

    def trigger_job(self, key: JobKey, *, turn: NewTurn, only_pending: bool) -> PostgresOperation[Triggered]:
        return self._do(partial(job_verbs.trigger_job, key, turn=turn, only_pending=only_pending), transaction=True)

    def end_job(
        self, key: JobKey, *, reason: str | None, notices: Sequence[NewNotice] = ()
    ) -> PostgresOperation[Job | None]:
        error = cancelled(reason or "the job was ended")
        plan = partial(job_verbs.end_job, key, reason=reason, error=error, notices=notices)
        return self._do(plan, transaction=True)

    def clear_job(self, key: JobKey) -> PostgresOperation[Cleared | None]:
        return self._do(partial(job_verbs.clear_job, key, error=cancelled("the job was cleared")), transaction=True)

    def pause_job(self, key: JobKey) -> PostgresOperation[Job | None]:
        return self._do(partial(job_verbs.pause_job, key, error=cancelled("the job was paused")), transaction=True)

    def resume_job(self, key: JobKey, *, turn: NewTurn) -> PostgresOperation[Job | None]:
        return self._do(partial(job_verbs.resume_job, key, turn=turn), transaction=True)

    def redrive_job(self, key: JobKey, *, turn: NewTurn) -> PostgresOperation[Triggered]:
        return self._do(partial(job_verbs.redrive_job, key, turn=turn), transaction=True)

    def take_turns(self, turns: Sequence[TurnToTake]) -> PostgresOperation[list[TakenTurn]]:
        plan = partial(job_verbs.take_turns, turns, error=cancelled("the job was paused"))
        return self._do(plan, transaction=True)

    def get_jobs(self, keys: Sequence[JobKey]) -> PostgresOperation[list[JobView | None]]:
        return self._do(partial(job_verbs.get_jobs, keys))

    def list_jobs(
        self, where: JobFilter, *, limit: int, after: JobKey | None = None
    ) -> PostgresOperation[list[JobView]]:
        return self._do(partial(job_verbs.list_jobs, where, limit=limit, after=after))

    def count_jobs(self, where: JobFilter) -> PostgresOperation[int]:
        return self._do(partial(job_verbs.count_jobs, where))

    def pending_events(self, key: JobKey) -> PostgresOperation[list[StoredEvent]]:
        return self._do(partial(job_verbs.pending_events, key))

    def event_end(self, key: JobKey, event_id: str) -> PostgresOperation[EventEnd | None]:
        return self._do(partial(job_verbs.event_end, key, event_id))

    def forget_events(self, *, limit: int) -> PostgresOperation[int]:
        return self._do(partial(job_verbs.forget_events, limit=limit))

    def set_timer(self, new: NewTimer, *, turn: NewTurn) -> PostgresOperation[TimerSet]:
        return self._do(partial(timer_verbs.set_timer, new, turn=turn))

    def cancel_timers(self, where: TimerFilter) -> PostgresOperation[int]:
        return self._do(partial(timer_verbs.cancel_timers, where))

    def list_timers(
        self, where: TimerFilter, *, limit: int, after: tuple[datetime, str] | None = None
    ) -> PostgresOperation[list[StoredTimer]]:
        return self._do(partial(timer_verbs.list_timers, where, limit=limit, after=after))

    def checkpoint(
        self, rows: Sequence[Checkpoint], *, note: Note | None = None, lock_timeout: float | None = None
    ) -> PostgresOperation[Checkpointed]:
        return self._do(
            lambda: waiting(workflow_verbs.checkpoint(rows, note=note), lock_timeout),
            transaction=any(map(workflow_verbs.is_rich, rows)),
        )

    def histories(self, wanted: Sequence[tuple[str, int, int]]) -> PostgresOperation[list[History]]:
        return self._do(partial(workflow_verbs.histories, wanted))

    def send_messages(self, rows: Sequence[NewMessage]) -> PostgresOperation[list[Sent]]:
        has_ids = any(row.message_id is not None for row in rows)
        return self._do(partial(message_verbs.send_messages, rows), transaction=has_ids)

    def tally_children(self, parent_id: str, ranges: Sequence[tuple[int, int]]) -> PostgresOperation[list[ChildTally]]:
        return self._do(partial(workflow_verbs.tally_children, parent_id, ranges))

    def children_between(
        self, parent_id: str, first: int, end: int, *, only_failed: bool, limit: int
    ) -> PostgresOperation[list[ChildOutcome]]:
        return self._do(
            partial(workflow_verbs.children_between, parent_id, first, end, only_failed=only_failed, limit=limit)
        )

    def published_values(
        self, execution_id: str, keys: Sequence[str] | None = None
    ) -> PostgresOperation[list[Published]]:
        return self._do(partial(workflow_verbs.published_values, execution_id, keys))

    def stored_chunks(self, execution_id: str, *, after: int, limit: int) -> PostgresOperation[list[StoredChunk]]:
        return self._do(partial(workflow_verbs.stored_chunks, execution_id, after=after, limit=limit))

    def fork_workflow(self, source_id: str, *, fork: Fork, new: NewExecution) -> PostgresOperation[bool]:
        return self._do(partial(fork_verbs.fork_workflow, source_id, fork=fork, new=new), transaction=True)

    def open_approval(self, new: NewApproval) -> PostgresOperation[StoredApproval | None]:
        return self._do(partial(approval_verbs.open_approval, new), transaction=True)

    def get_approval(
        self, *, approval_id: str | None = None, token_hash: str | None = None
    ) -> PostgresOperation[StoredApproval | None]:
        return self._do(partial(approval_verbs.get_approval, approval_id=approval_id, token_hash=token_hash))

    def list_approvals(
        self, where: ApprovalFilter, *, limit: int, before: str | None = None
    ) -> PostgresOperation[list[StoredApproval]]:
        return self._do(partial(approval_verbs.list_approvals, where, limit=limit, before=before))

    def decide_approval(self, approval_id: str, decision: Decision) -> PostgresOperation[Decided]:
        return self._do(partial(approval_verbs.decide_approval, approval_id, decision), transaction=True)

    def expire_approval(self, approval_id: str) -> PostgresOperation[StoredApproval | None]:
        return self._do(partial(approval_verbs.expire_approval, approval_id), transaction=True)

    def emit(self, notices: Sequence[NewNotice]) -> PostgresOperation[None]:
        return self._do(partial(outbox.emit, notices))

    def take_notices(
        self, subscriber: str, *, holder: str, limit: int, lease: float
    ) -> PostgresOperation[TakenNotices]:
        return self._do(partial(outbox.take_notices, subscriber, holder=holder, limit=limit, lease=lease))

    def renew_delivery(self, subscriber: str, *, holder: str, lease: float) -> PostgresOperation[bool]:
        return self._do(partial(outbox.renew_delivery, subscriber, holder=holder, lease=lease))

    def delivered(self, subscriber: str, ids: Sequence[str], *, holder: str) -> PostgresOperation[None]:
        return self._do(partial(outbox.delivered, subscriber, ids, holder=holder))

    def put_off_delivery(self, subscriber: str, *, holder: str, delay: float) -> PostgresOperation[None]:
        return self._do(partial(outbox.put_off_delivery, subscriber, holder=holder, delay=delay))

    def undelivered(self) -> PostgresOperation[Mapping[str, int]]:
        return self._do(outbox.undelivered)

    def discard_notices(self, subscriber: str) -> PostgresOperation[int]:
        return self._do(partial(outbox.discard_notices, subscriber))

    def ensure_pools(self, pools: Sequence[PoolConfig]) -> PostgresOperation[list[PoolConfig]]:
        return self._do(partial(verbs.ensure_pools, pools), transaction=True)

    def configure_pool(self, pool: PoolConfig, *, fields: Collection[str]) -> PostgresOperation[PoolConfig]:
        return self._do(partial(verbs.configure_pool, pool, fields=fields), transaction=True)

    def pools(self, names: Sequence[str] | None = None) -> PostgresOperation[list[PoolConfig]]:
        return self._do(partial(verbs.pools, names))

    def pool_tallies(self, pools: Sequence[str] | None = None, *, over: float) -> PostgresOperation[list[PoolTally]]:
        return self._do(partial(pool_verbs.pool_tallies, pools, over=over))

    def report_pools(self, pools: Sequence[str], *, note: PoolNote | None = None) -> PostgresOperation[list[str]]:
        return self._do(partial(pool_verbs.report_pools, pools, note=note), transaction=True)

    def retire(self, *, older_than: float, limit: int, after: str | None = None) -> PostgresOperation[Retired]:
        return self._do(partial(verbs.retire, older_than=older_than, limit=limit, after=after))

    def now(self) -> PostgresOperation[datetime]:
        return self._do(verbs.now)

    def get(self, ids: Sequence[str]) -> PostgresOperation[list[Execution | None]]:
        return self._do(partial(verbs.get, ids))

    def get_sleeping(self, task_name: str, sleeping_id: str) -> PostgresOperation[Execution | None]:
        return self._do(partial(wake_verbs.get_sleeping, task_name, sleeping_id))

    def finished(self, ids: Sequence[str]) -> PostgresOperation[list[FinishedExecution]]:
        return self._do(partial(verbs.finished, ids))

    def existing(self, ids: Sequence[str]) -> PostgresOperation[frozenset[str]]:
        return self._do(partial(verbs.existing, ids))

    def search(
        self, where: ExecutionFilter, *, limit: int, before: str | None = None
    ) -> PostgresOperation[list[Execution]]:
        return self._do(partial(verbs.search, where, limit=limit, before=before))

    def counts(self) -> PostgresOperation[Mapping[tuple[str, Status], int]]:
        return self._do(verbs.counts)

    def announce(self, row: ExecutorRow) -> PostgresOperation[None]:
        return self._do(partial(verbs.announce, row))

    def withdraw(self, executor_id: str) -> PostgresOperation[None]:
        return self._do(partial(verbs.withdraw, executor_id))

    def executors(self) -> PostgresOperation[list[ExecutorRow]]:
        return self._do(verbs.executors)

    def defects(self, *, limit: int) -> PostgresOperation[list[Defect]]:
        return self._do(partial(verbs.defects, limit=limit))

    def mend(self, ids: Sequence[str]) -> PostgresOperation[list[Defect]]:
        return self._do(partial(verbs.mend, ids, error=ORPHAN), transaction=True)

    def hint(self, hints: Sequence[Hint], *, teller: str = "") -> PostgresOperation[None]:
        return self._do(partial(verbs.hint, self._channel, payloads_of(hints, teller)))

    async def listen(self, *, teller: str = "") -> AsyncIterator[Hint]:
        if self.connections.is_pooled:
            return
        async for hint in hints_of(self.connections, self._channel, teller):
            yield hint


def _has_sleepers(rows: Sequence[NewExecution]) -> bool:
    return any(row.kind is Kind.SLEEPING for row in rows)
