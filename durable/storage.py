"""The seam: what an executor and a client ask of a storage, and how a storage is found by its DSN.

Every verb gives an Operation: `await` it on the storage's own connections, `run()` it from blocking code, or run it
inside a transaction of the caller's with `run_on(connection)` or `await_on(connection)`. So each verb stands here
once, in one colour. Each verb is one transaction; what it writes for an attempt carries the attempt's fence.

Only the storage's clock decides what is due, expired or late.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from importlib.metadata import entry_points
from typing import Any, NamedTuple, Protocol, TypeVar

from durable.approval_storage import ApprovalStorage
from durable.errors import ConfigurationError
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
from durable.job_storage import JobStorage
from durable.looks import Defect, Duties, ExecutionFilter, ExecutorRow, NextStart
from durable.notice import NewNotice, TakenNotices
from durable.operation import Operation
from durable.pool_rows import PoolConfig, PooledClaim, PoolNote, PoolTally
from durable.workflow_storage import WorkflowStorage

__all__ = [
    "Defect",
    "Duties",
    "ExecutionFilter",
    "ExecutorRow",
    "Hint",
    "Lane",
    "NextStart",
    "Note",
    "Operation",
    "Storage",
    "open_storage",
    "said_by",
]


T_co = TypeVar("T_co", covariant=True)


class Lane(Protocol):
    """A blocking connection of its own, for a thread that must not wait for anybody else's."""

    def run(self, operation: Operation[T_co]) -> T_co: ...

    def close(self) -> None: ...


class Hint(NamedTuple):
    """A wake-up from elsewhere. It carries no data and may be lost, repeated or late."""

    topic: str
    """`ready`, `finished`, `cancelled`, `noted`, `said`, or `reconnected` after a gap in which hints may have been
    lost."""
    queue: str
    """For `ready`: the queue, or an empty string where it could be any. For `said`: see `said_by`."""


def said_by(execution_id: str) -> Hint:
    """Told when a workflow has published, streamed or answered. One of 256, so that those of many are told in few."""
    return Hint("said", execution_id[-2:])


Note = Callable[[Sequence[Execution]], Sequence[NewNotice]]
"""Gives the notices of executions that a verb has ended, as they are after it; called inside the verb's transaction."""


class Storage(JobStorage, WorkflowStorage, ApprovalStorage, Protocol):
    """In the order in which an execution meets the verbs."""

    @property
    def is_shared(self) -> bool:
        """True when other processes may see it: hints and polling are then worth their cost."""
        ...

    @property
    def client_limit(self) -> int | None:
        """Calls of clients that may be on their way at once beside an executor; None: any number.

        Such a call may wait for rows that another transaction holds, and what it waits on must not be all there is.
        """
        ...

    async def open(self) -> None:
        """Connect and check the schema; raises StorageUnavailable, SchemaNotInstalled, SchemaTooOld, SchemaTooNew."""
        ...

    async def close(self) -> None: ...

    def open_blocking(self) -> None:
        """As open, for `Operation.run`; either colour may be opened alone."""
        ...

    def close_blocking(self) -> None: ...

    def migrate(self) -> list[str]:
        """Bring the schema to this version, blocking; gives the names of the migrations that were applied."""
        ...

    def lane(self) -> Lane: ...

    @property
    def has_transactions(self) -> bool:
        """True when `transaction` gives one that user code can write in."""
        ...

    def transaction(self, connection: Any = None) -> AbstractAsyncContextManager[Any]:
        """An asynchronous connection of the storage's own, in a transaction that the block commits or rolls back.

        With a connection: a part of its transaction, which can be rolled back alone. Operations take part by
        `await_on`. Raises ConfigurationError where there are no transactions, and at the end of a part
        TransactionEnded if the block has ended the transaction by a statement of its own.
        """
        ...

    def is_transient(self, error: BaseException) -> bool:
        """True when the same operation may succeed later: connection lost, restart, read-only, deadlock."""
        ...

    # --- enqueue ---------------------------------------------------------------------------------------------

    def enqueue(
        self, rows: Sequence[NewExecution], *, all_or_nothing: bool = False, note: Note | None = None,
        lock_timeout: float | None = None,
    ) -> Operation[list[Enqueued]]:  # fmt: skip
        """Store new executions, due `delay` seconds from now or at `run_at`; results stand in the order of rows.

        A row whose id is already there counts as stored by an earlier try. A row whose idempotency key is there
        gives the execution of that key: a conflict when the hash differs. A row whose sleeping id is taken is a
        conflict. One row never fails its neighbours, unless all_or_nothing: then one conflict stores nothing.

        A row with a key waits for a transaction that is storing the same key: at most `lock_timeout` seconds, then
        nothing is stored and RowsHeld is raised. None means the storage's own patience.

        Here and below, `note` is asked about what the call ends, and its notices are stored in the same transaction;
        None means that nobody wants any. A sleeping task that a kept wake-up ends at once is such an end.
        """
        ...

    def enqueue_started(self, row: NewExecution, *, executor_id: str, lease: float) -> Operation[Claimed]:
        """Store one execution that is due at once as if this executor had claimed it right after; see `can_start`.

        It has no key. Raises StorageError if its id is there.
        """
        ...

    # --- claim -----------------------------------------------------------------------------------------------

    def claim(
        self, *, executor_id: str, queues: Sequence[str], task_names: Sequence[str], limit: int, lease: float,
        after: Mapping[QueueLevel, str] | None = None,
    ) -> Operation[list[Claimed]]:  # fmt: skip
        """Give at most `limit` ready and due executions to one executor, for `lease` seconds.

        Highest priority first, then the queues as listed, then earliest due, within the queues and names given and of
        a record version this library knows; never what is in a pool. Each claim raises fence, attempts and deliveries;
        for what was lost twice, or has one delivery left, `count_starts` raises these, and `is_suspect` says so.
        Rows that another claim holds are skipped, never waited for: two claims never return the same execution.

        With `after`, a lane (queue and priority) in it is looked at only behind the place of that execution, which may
        have ended since; one that is not stored any more bounds nothing. What stands before is left.
        """
        ...

    def claim_pooled(
        self, *, executor_id: str, pools: Sequence[str], task_names: Sequence[str], limit: int, lease: float
    ) -> Operation[PooledClaim]:
        """As claim, from pools and within the limits of each, which hold over all executors at every moment.

        From the pools as listed. In one of them: by priority, then earliest due; a keyed execution counts as priority
        0. Those of one key go in order of due time, at most max_per_key at once; with keep_order, one that has
        started before goes first, and holds its place while it waits. What cannot be taken, for its name or because
        somebody holds it, is not passed by others of its key, unless keys have no limit. Keys with due work take turns,
        also while the clock stands still. A start takes a token of the pool's rate. A pool that another claim holds is
        skipped, and `wait` says when to come again.
        """
        ...

    def claim_callback(self, execution_id: str, *, executor_id: str, lease: float) -> Operation[Claimed | None]:
        """Claim one callback by its id, whatever its queue; None unless it is ready and due.

        For the transaction that has just made it, so it waits for nobody.
        """
        ...

    def count_starts(self, held: Sequence[tuple[str, int]]) -> Operation[frozenset[str]]:
        """Count the deliveries of suspects that are about to start, by (id, fence); gives the ids still held.

        A claim is counted once, however often this is called. Lost before it, a suspect has lost no delivery.
        """
        ...

    def renew(self, held: Sequence[tuple[str, int]], *, lease: float) -> Operation[frozenset[str]]:
        """Extend the leases of (id, fence) pairs to `lease` seconds from now; gives the ids that were extended.

        A missing id was recovered, cancelled or settled, or another transaction holds its row just now: `leased` tells.
        A lease that has run out but was not taken is extended. Never waits for a row.
        """
        ...

    def leased(self, held: Sequence[tuple[str, int]]) -> Operation[frozenset[str]]:
        """The ids of the (id, fence) pairs that have that fence and a lease, over or not."""
        ...

    def held_rows(self, ids: Sequence[str]) -> Operation[frozenset[str]]:
        """Those of the executions whose rows another transaction holds just now: a write of them would wait."""
        ...

    def heartbeat(self, beats: Sequence[tuple[str, int, str]]) -> Operation[frozenset[str]]:
        """Store progress details for (id, fence, details); gives the ids whose fence still held.

        What another transaction holds just now is left as it is, and missing as well.
        """
        ...

    # --- settle ----------------------------------------------------------------------------------------------

    def settle(
        self, settlements: Sequence[Settlement], *, note: Note | None = None, lock_timeout: float | None = None
    ) -> Operation[Settled]:
        """Write how turns ended, each under its fence, in one transaction; a fence that is gone changes nothing.

        Where another transaction holds a row to be written, such as that of a parent, it is waited for: at most
        `lock_timeout` seconds, then nothing is written and RowsHeld is raised. None means the storage's own patience.

        The end of a workflow's turn has a `workflow`: first the turn's last writes are made, as by checkpoint. If the
        turn is suspended, it is ready at once where a later message than the last it has seen is there, or few enough
        of its children are active; otherwise after the delay, or when something wakes it. If it continues as new, its
        history and the messages it has seen are deleted, and it is ready at once. Others of the call are written first,
        so it sees the ends of its children among them. A parent that is a workflow is not made ready by its last child
        but, while it is suspended, when the count is as low as it waits for.

        In the same transaction: children of accepted settlements are inserted and counted; the count of each
        finished execution's parent is lowered, in id order, and a parent whose count comes to zero becomes ready
        for its next phase; what finishes without active children is closed, the rest is ready to be closed.
        A settlement with a `job` also writes that: state, counters, plan; its events consumed, kept as dead, or left;
        events for other jobs appended as by append_events. Then, unless the job is ended, the next turn is inserted,
        due now if a trigger came meanwhile, at the planned moment, or when the policy makes pending events due,
        whichever is first; a paused or failed job goes on for a trigger only, which makes a failed one active. Ending
        the job (`terminated`) raises its epoch and keeps its dead events and the ids it remembers; pending events begin
        the next incarnation at once, numbered from one, and `renewal` is stored. What turns send is appended after all
        jobs of the call were written. The end of a timer is written before the plan of its job, which is always the
        first of its timers, and without any the job is ended: one that succeeded is deleted, or due again by its
        interval and anchor; one that failed is due after its delay; one that is gone is left so. It never waits for the
        rows of jobs: what cannot have them at once is `busy`.

        A child or a start whose sleeping id is taken raises SleepingIdConflict and nothing of the call is written. The
        notices of accepted settlements are stored; `note` is asked only about sleeping ones among them, which a wake-up
        may end, and about what did not end by its turn and is therefore cancelled, as was requested.

        Two things follow in the same transaction, from this verb and from every other that writes an execution. One
        that ends with an `on_complete` whose filter names that end gets its callback's execution, as
        durable.callbacks makes it. One with a `cancel_requested` that would become ready or waiting is cancelled with
        that as its error.

        A child or a start whose sleeping id is taken raises SleepingIdConflict and nothing of the call is written.
        """
        ...

    def settled(self, pairs: Sequence[tuple[str, int]]) -> Operation[frozenset[str]]:
        """After a write whose outcome is unknown: the ids whose settlement under that fence was in fact accepted."""
        ...

    def children(self, parent_ids: Sequence[str]) -> Operation[list[ChildOutcome]]:
        """All children of the parents with their ends, by parent and child index; finalize executions included."""
        ...

    # --- wake ------------------------------------------------------------------------------------------------

    def wake(
        self, task_name: str, sleeping_id: str, *, output: str | None, error: str | None, note: Note | None = None
    ) -> Operation[WakeResult]:
        """End the sleeping task of that id: completed with `output` (None: `null`), or failed with `error` if given.

        The first wake-up wins; later ones get what is there. One that comes before the execution is kept for it.
        """
        ...

    def apply_wakeups(self, *, limit: int, note: Note | None = None) -> Operation[Settled]:
        """Bring kept wake-ups and waiting executions together, with all that a finish does."""
        ...

    def expire_waits(self, *, limit: int, note: Note | None = None) -> Operation[Settled]:
        """End sleeping tasks whose deadline has passed as timed_out, earliest first."""
        ...

    # --- recover ---------------------------------------------------------------------------------------------

    def duties(self) -> Operation[Duties]:
        """What upkeep would find to do, in one look, so that an idle executor asks one question and not six."""
        ...

    def next_due(self, *, queues: Sequence[str], task_names: Sequence[str]) -> Operation[datetime | None]:
        """The earliest moment at which time alone gives an executor of these queues and names something to do.

        That is the due time of what is ready, the end of a lease, of a wait or of a close lease; what is already over
        counts, so a moment that is not after `now` means work to do at once, and None that none will come by itself.
        The moment until which a delivery of events was put off counts as long as it is to come.
        Work of other queues and names, and of a later record version, has no moment, and neither has a kept wake-up:
        no time brings it together with an execution that is not there. Nor has what is only to be deleted.
        """
        ...

    def next_start(
        self,
        *,
        queues: Sequence[str],
        pools: Sequence[str],
        task_names: Sequence[str],
        after: datetime | None,
        within: float,
    ) -> Operation[NextStart]:
        """When a claim of these queues, pools and names finds something that comes due, as a look at the clock's now.

        What came due at `after` or before does not count, for whoever has claimed since then: it is locked, or held
        back by a limit, and no moment changes that. None: all that is due counts. What comes due more than `within`
        seconds from now does not count either. A pool that is paused or has no place at all has nothing to start; one
        that is full may be said to have.
        """
        ...

    def recover(self, *, limit: int, note: Note | None = None) -> Operation[list[Recovered]]:
        """Take running executions whose lease has run out from their executors, earliest first, skipping locked ones.

        They become ready, due at once, without the attempt; those with max_deliveries used up end as failed
        (finalize_failed in a later phase) with reason poisoned, and their parent is told as by settle. `note` is
        asked about all of them. What was asked to end is cancelled instead of becoming ready, and given as that.
        """
        ...

    # --- cancel ----------------------------------------------------------------------------------------------

    def cancel(
        self,
        ids: Sequence[str],
        *,
        reason: str,
        may_finish: bool = False,
        force: bool = False,
        request_id: str | None = None,
        note: Note | None = None,
    ) -> Operation[list[CancelResult]]:
        """End unfinished executions as cancelled, at once, telling their parents; results in the order of ids.

        A turn of a job is left alone: it ends with its job. A running one is marked for its executor to pick up. What
        has active children is ready to be closed, which cancels those in turn. With `may_finish` a running one goes on,
        and is cancelled only if its attempt does not end it: the first request counts.

        A workflow that has ever run is asked to end, by a message of kind `cancel` that wakes it: one request counts,
        until it continues as new. With `force` it is ended as others are. `request_id` names the call: given again, as
        when its answer was lost, it has requested what it requested the first time.
        """
        ...

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
    ) -> Operation[list[CancelResult]]:
        """As cancel, for at most `limit` unfinished executions created before a time, in no particular order.

        None leaves queue or task open. Callbacks are left alone: they tell how something else has ended, and cancelling
        makes new ones. Repeat it until it gives nothing; it does not name again what it has cancelled
        or asked.
        """
        ...

    def pick_up_cancelled(self, *, executor_id: str, limit: int) -> Operation[list[str]]:
        """Ids that were cancelled while this executor ran them, or are workflows to which messages have come meanwhile.

        Each is given once, until the next message; those longest cancelled first.
        """
        ...

    def redrive(self, ids: Sequence[str]) -> Operation[list[str]]:
        """Make failed executions ready again, from the phase that failed; gives the ids that were.

        Refused and left alone: what is unfinished, completed or not closed; what has children, unless its finalize
        failed; what has a parent, because the parent has already counted it; and workflows, which are forked.
        """
        ...

    # --- close -----------------------------------------------------------------------------------------------

    def claim_closes(self, *, limit: int, lease: float) -> Operation[list[str]]:
        """Take finished executions that still have active children, earliest finished first: ready → closing."""
        ...

    def close_trees(
        self, ids: Sequence[str], *, reason: str, note: Note | None = None
    ) -> Operation[list[CancelResult]]:
        """Cancel the unfinished children of `closing` executions and close those whose count comes to zero.

        One level of the tree in one transaction; children with active children of their own become ready to be
        closed. Child workflows that have ever run are asked to end, as by cancel, and children that outlive their
        parent are left alone; the last of these that ends closes its parent, and nobody looks before. Gives the
        children it cancelled or asked. Doing it twice changes nothing more.
        """
        ...

    def recover_closes(self, *, limit: int) -> Operation[int]:
        """Make `closing` executions whose lease has run out ready to be closed again."""
        ...

    # --- notices ---------------------------------------------------------------------------------------------

    def emit(self, notices: Sequence[NewNotice]) -> Operation[None]:
        """Store notices that belong to no turn; one whose subscriber already has its id is left as it is.

        Run on a caller's connection, they are stored with what that transaction commits.
        """
        ...

    def take_notices(self, subscriber: str, *, holder: str, limit: int, lease: float) -> Operation[TakenNotices]:
        """Give the first `limit` notices of a subscriber by time and id, and the sole right to deliver them.

        The right belongs to one holder at a time, for `lease` seconds; taking again keeps it, and taking when there
        is nothing ends it. So a later notice of a subject never overtakes an earlier one, unless a lease ran out
        under a delivery: then both of its holders deliver the same, and a delivery may come twice.
        """
        ...

    def renew_delivery(self, subscriber: str, *, holder: str, lease: float) -> Operation[bool]:
        """Keep the right to deliver for `lease` seconds from now; False: another holder has it."""
        ...

    def delivered(self, subscriber: str, ids: Sequence[str], *, holder: str) -> Operation[None]:
        """Delete notices that the subscriber has taken, whoever has the right by now, and forget earlier failures."""
        ...

    def put_off_delivery(self, subscriber: str, *, holder: str, delay: float) -> Operation[None]:
        """Give the right to deliver back after a failure, and count that; nobody takes it for `delay` seconds."""
        ...

    def undelivered(self) -> Operation[Mapping[str, int]]:
        """How many notices wait for each subscriber that has any, known to this app or not."""
        ...

    def discard_notices(self, subscriber: str) -> Operation[int]:
        """Delete all notices of a subscriber, for one that is gone for good; gives how many."""
        ...

    # --- pools -----------------------------------------------------------------------------------------------

    def ensure_pools(self, pools: Sequence[PoolConfig]) -> Operation[list[PoolConfig]]:
        """Store the pools that are not there; gives all of them as they are stored, in the order given.

        One that is there keeps its configuration: what was configured at run time outlives a declaration.
        """
        ...

    def configure_pool(self, pool: PoolConfig, *, fields: Collection[str]) -> Operation[PoolConfig]:
        """Set these fields of a pool for all executors, from the next claim on; gives the pool as it is then.

        One that is not there is stored as given. Running work goes on, whatever the limits become.
        """
        ...

    def pools(self, names: Sequence[str] | None = None) -> Operation[list[PoolConfig]]:
        """The stored ones among names, by name; None means all."""
        ...

    def pool_tallies(self, pools: Sequence[str] | None = None, *, over: float) -> Operation[list[PoolTally]]:
        """What waits and runs in pools now, and what ended in the last `over` seconds, by pool and task; None: of all.

        What never had anything there has no tally. Ends are counted by whichever verb they come: an attempt once it is
        settled, or its execution failed, unless it was given back; an execution once it has finished. Counts are kept
        for `pool_rows.LONGEST_WINDOW` seconds; those that were reported have the moment of the last in their minute.
        """
        ...

    def report_pools(self, pools: Sequence[str], *, note: PoolNote | None = None) -> Operation[list[str]]:
        """Sum up the counts of those of the pools that were not reported since the minute began; gives their names.

        However many executors ask, each pool is given once for each minute of the clock, and each count is in one
        report. A pool that is not stored has none; the first is that of the minute after it was stored. `note` is
        asked about all of them, and its notices are stored with the sums.
        """
        ...

    # --- retire ----------------------------------------------------------------------------------------------

    def retire(self, *, older_than: float, limit: int, after: str | None = None) -> Operation[Retired]:
        """Delete trees of which every execution has been closed for `older_than` seconds; one page of the records.

        A page looks at `limit` records in the order of their ids, from `after` on, and deletes whole trees or none.
        The first page also forgets wake-ups that have met nothing for so long. Keys and sleeping ids are free again.
        Never deletes what is not closed, nor anything of its tree; locked roots are left for the next time.

        A turn of a job is a tree of its own. It stays while a job names it as its live turn, and while an event is kept
        as dead that it has taken. Each page also deletes up to `limit` jobs that ended so long ago, with what their
        inboxes keep; it is not the last page while there may be more of these.
        """
        ...

    # --- look ------------------------------------------------------------------------------------------------

    def now(self) -> Operation[datetime]:
        """The storage's clock."""
        ...

    def get(self, ids: Sequence[str]) -> Operation[list[Execution | None]]:
        """The records in the order of ids; None where there is none."""
        ...

    def get_sleeping(self, task_name: str, sleeping_id: str) -> Operation[Execution | None]: ...

    def finished(self, ids: Sequence[str]) -> Operation[list[FinishedExecution]]:
        """The ends of those among ids that have finished, in any order."""
        ...

    def existing(self, ids: Sequence[str]) -> Operation[frozenset[str]]:
        """Those of ids that are stored, finished or not."""
        ...

    def search(self, where: ExecutionFilter, *, limit: int, before: str | None = None) -> Operation[list[Execution]]:
        """Newest first; `before` is the last id of the page before."""
        ...

    def counts(self) -> Operation[Mapping[tuple[str, Status], int]]:
        """How many executions each queue has in each unfinished status."""
        ...

    # --- executors -------------------------------------------------------------------------------------------

    def announce(self, row: ExecutorRow) -> Operation[None]:
        """Say that an executor lives; the storage sets seen_at, and forgets rows unseen for an hour."""
        ...

    def withdraw(self, executor_id: str) -> Operation[None]: ...

    def executors(self) -> Operation[list[ExecutorRow]]: ...

    # --- doctor ----------------------------------------------------------------------------------------------

    def defects(self, *, limit: int) -> Operation[list[Defect]]: ...

    def mend(self, ids: Sequence[str]) -> Operation[list[Defect]]:
        """Put right what `defects` names, for those ids; gives what was put right."""
        ...

    # --- hints -----------------------------------------------------------------------------------------------

    def hint(self, hints: Sequence[Hint], *, teller: str = "") -> Operation[None]:
        """Tell the listeners of other processes, outside any transaction that matters.

        `teller`: a name of one's own, by which `listen` leaves out what one has told oneself.
        """
        ...

    def listen(self, *, teller: str = "") -> AsyncIterator[Hint]:
        """Hints until it is closed, but the teller's own. Reconnects; ends at once where listening is not possible."""
        ...


def open_storage(dsn: str, *, schema: str) -> Storage:
    """The storage for a DSN, found by its scheme in the entry points `durable.storages`. Does not connect.

    Raises ConfigurationError for a scheme nobody serves; the DSN's password is never part of the message.
    """
    scheme = scheme_of(dsn)
    found = {entry.name: entry for entry in entry_points(group="durable.storages")}
    if scheme not in found:
        raise ConfigurationError(f"no storage for DSNs of the form {scheme}:…; known: {', '.join(sorted(found))}")
    opener: Callable[..., Storage] = found[scheme].load()
    return opener(dsn, schema=schema)


def scheme_of(dsn: str) -> str:
    """What stands before the colon; `postgresql` for libpq's form of key=value pairs."""
    return dsn.split(":", 1)[0] if ":" in dsn.split("=", 1)[0] else "postgresql"
