"""The record: one row for everything that runs, and the small rows the verbs exchange.

Every row type is a NamedTuple whose fields stand in the order of the columns: a driver's tuple becomes a typed,
immutable record with one C call and no loop over fields.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from durable.job import JobCommit
    from durable.workflow_rows import Suspension

from durable.notice import NewNotice
from durable.word import Word

__all__ = [
    "DEFAULT_QUEUE",
    "FINISHED",
    "NOT_ASKED",
    "PRIORITIES",
    "RECORD_VERSION",
    "SUCCEEDED",
    "UNSTARTED",
    "CancelResult",
    "ChildOutcome",
    "Claimed",
    "CloseStatus",
    "Enqueued",
    "Execution",
    "FinishedExecution",
    "Kind",
    "NewExecution",
    "Phase",
    "QueueLevel",
    "Recovered",
    "Retired",
    "Settled",
    "Settlement",
    "Status",
    "WakeResult",
]

RECORD_VERSION = 1
"""What a row of this library means. An executor leaves rows of a higher version alone."""

DEFAULT_QUEUE = "default"
UNSTARTED = "unstarted"
"""The reason that stands at a claimed suspect until its start is counted."""
PRIORITIES = range(-4, 5)
"""Higher is claimed first; nine levels, because the claim makes one index probe per level and queue."""


QueueLevel = tuple[str, int]
"""A queue and a priority: what is claimed in order of due time and id."""


class Kind(Word):
    TASK = "task"
    PARENT = "parent"
    SEQUENCE = "sequence"
    LOOP = "loop"
    SLEEPING = "sleeping"
    TURN = "turn"
    """One turn of a keyed job, whose id is the root id. Ended by its own commit or with the job, and by nobody else."""
    CALLBACK = "callback"
    """Runs because another execution has ended; its input says which, and how."""
    WORKFLOW = "workflow"
    """Replayed from its history in every turn; woken by messages, by its children and by time."""


class Status(Word):
    READY = "ready"
    RUNNING = "running"
    WAITING = "waiting"
    """Waits for a wake-up or a deadline, not for children."""
    WAITING_FOR_CHILDREN = "waiting_for_children"
    WAITING_FOR_FINALIZE = "waiting_for_finalize"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    FINALIZE_FAILED = "finalize_failed"
    CANCELLED = "cancelled"


FINISHED = frozenset({Status.COMPLETED, Status.FAILED, Status.TIMED_OUT, Status.FINALIZE_FAILED, Status.CANCELLED})
SUCCEEDED = frozenset({Status.COMPLETED})


class Phase(Word):
    """Which part of its life the next turn of an execution belongs to."""

    RUN = "run"
    CHILDREN = "children"
    """All children have finished: finalize, or start the next of a sequence."""
    FINALIZE = "finalize"
    """The finalize execution has finished: take over its end."""


class CloseStatus(Word):
    IDLE = "idle"
    READY = "ready"
    CLOSING = "closing"
    CLOSED = "closed"


class Execution(NamedTuple):
    """One durable run, whole. Times are aware; durations are seconds; payloads are stored JSON text."""

    id: str
    root_id: str
    """The top of the tree; the id itself where there is no parent."""
    created_at: datetime
    due_at: datetime
    updated_at: datetime
    fence: int
    """Raised by every claim, release, recovery and finish; a write on behalf of an attempt must carry it."""
    settled_fence: int
    """The fence of the last accepted end of a turn: tells a repeated write from a refused one."""
    delay: float
    """Seconds between creation and the first time it may run."""
    depth: int
    task_version: int
    max_attempts: int
    max_deliveries: int
    attempts: int
    """Handler starts of this phase that were not given back by a release or a crash."""
    deliveries: int
    """Claims since the last accepted end of a turn. A released one does not count, one of a suspect from its start."""
    iteration: int
    """Turns that a loop, or a task that continues, has taken; children that a sequence has started."""
    children_count: int
    active_children_count: int
    message_count: int
    """Messages ever sent to a workflow, and children that failed, of which no message is stored: what is higher than a
    turn has seen lets it not suspend."""
    priority: int
    record_version: int
    is_finalize: bool
    is_pooled: bool
    """Its queue is a pool: claimed under the pool's limits, and by no claim that knows none."""
    needs_cancel: bool
    """Cancelled while an executor ran it, or a workflow with a message for its running turn; not yet picked up."""
    outlives_parent: bool
    """A child that goes on when its parent has ended: the parent is closed by its end, and does not end it."""
    status: Status
    kind: Kind
    phase: Phase
    close_status: CloseStatus
    queue: str
    task_name: str
    input: str
    is_counted: bool
    """The storage's own mark: its end was counted for the report of its pool together with others."""
    lease_expires_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    closed_at: datetime | None
    wait_expires_at: datetime | None
    waiting_for_children_at: datetime | None
    waiting_for_finalize_at: datetime | None
    close_lease_expires_at: datetime | None
    timeout: float | None
    """Seconds for one attempt of the handler (for a sleeping task: until the deadline); None means no limit."""
    parent_id: str | None
    child_index: int | None
    wake_at_children: int | None
    """A suspended workflow goes on when so few of its children are active, or one fails; None: they do not wake it."""
    executor_id: str | None
    output: str | None
    serial_key: str | None
    """Within its pool, executions of one key run in order and within the limit per key; None: of no key."""
    idempotency_key: str | None
    idempotency_hash: str | None
    sleeping_id: str | None
    retry: str | None
    """The policy given at enqueue as JSON; None means the policy of the definition."""
    run_output: str | None
    """What a parent returned beside its children, kept until it is finalized; or what a task that continues goes on
    with."""
    error: str | None
    """The last error as JSON; kept over retries as the previous error."""
    reason: str | None
    """Why it ended or waits, in one word: poisoned, cancelled, parent_cancelled, expired, unstarted."""
    progress: str | None
    """The details of the last heartbeat as JSON."""
    on_complete: str | None
    """What to do when it has ended, as JSON (see durable.callbacks); None: nothing."""
    cancel_requested: str | None
    """Cancelled while it ran, and allowed to finish: the error it ends with instead of becoming ready or waiting."""

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED


class NewExecution(NamedTuple):
    """What enqueue stores; everything else about a record follows from it. Columns of one insert, in order."""

    id: str
    root_id: str
    parent_id: str | None
    child_index: int | None
    is_finalize: bool
    depth: int
    kind: Kind
    task_name: str
    task_version: int
    queue: str
    priority: int
    input: str
    idempotency_key: str | None
    idempotency_hash: str | None
    sleeping_id: str | None
    retry: str | None
    max_attempts: int
    max_deliveries: int
    timeout: float | None
    delay: float
    run_at: datetime | None
    """An absolute first due time; wins over delay. In the past it means now."""
    is_pooled: bool = False
    serial_key: str | None = None
    on_complete: str | None = None
    outlives_parent: bool = False
    """Of a child alone."""


class Enqueued(NamedTuple):
    """What became of one row of an enqueue, in the order given."""

    id: str
    """The execution that now stands for the row: the given id, or that of the one already there."""
    is_new: bool
    is_conflict: bool
    """The idempotency key exists with another hash, or the sleeping id is taken; nothing was stored for this row."""


NOT_ASKED: Final = datetime.min.replace(tzinfo=UTC)
"""Stands for a time that a claim does not ask for: each costs half a microsecond on both sides."""


class Claimed(NamedTuple):
    """What an executor needs to run one turn. Columns of the claim, in order."""

    id: str
    fence: int
    kind: Kind
    task_name: str
    task_version: int
    phase: Phase
    input: str
    attempts: int
    """This start included: 1 is the first."""
    deliveries: int
    """This one included, but for a suspect."""
    iteration: int
    max_attempts: int
    timeout: float | None
    retry: str | None
    run_output: str | None
    error: str | None
    root_id: str
    parent_id: str | None
    child_index: int | None
    is_finalize: bool
    depth: int
    queue: str
    priority: int
    age: float
    """Seconds since creation, by the storage's clock; for max_duration."""
    children_count: int = 0
    """Children started so far, the finalize execution apart."""
    on_complete: str | None = None
    message_count: int = 0
    """Messages ever sent to a workflow."""
    active_children_count: int = 0
    created_at: datetime = NOT_ASKED
    """Of a workflow, which lives by it; what else is claimed may come without."""
    is_suspect: bool = False
    """Its deliveries were lost so often that this one counts only from `count_starts` on; no start without that."""


class Settlement(NamedTuple):
    """How one turn ended, as the storage writes it under the fence. Columns of one update, in order."""

    id: str
    fence: int
    status: Status
    phase: Phase
    attempts: int
    deliveries: int
    iteration: int
    delay: float
    """Seconds from the write until it is due; counts for `ready` only."""
    output: str | None
    run_output: str | None
    error: str | None
    reason: str | None
    children: tuple[NewExecution, ...] = ()
    """Inserted in the same transaction, and counted; refused together with the settlement."""
    job: JobCommit | None = None
    """For the end of a job's turn: what it writes to its job in the same transaction."""
    notices: tuple[NewNotice, ...] = ()
    """Lifecycle events for their subscribers, stored if the settlement is accepted, and only then."""
    workflow: Suspension | None = None
    """For the end of a workflow's turn, and for every such end: what it writes in the same transaction."""
    is_bare: bool = False
    """It completes an execution without a parent, and beside the output nothing differs from what was claimed. A hint
    for the storage, which may write such ends in a shorter way."""

    @property
    def is_suspension(self) -> bool:
        """The turn of a workflow ended to wait; False for all other ends, and for one that continues as new."""
        suspension = self.workflow
        if suspension is None or suspension.continued is not None:
            return False
        # An attempt that is to be tried again is ready after a delay as well, and keeps its count of attempts.
        sleeps = self.status is Status.READY and not self.attempts and suspension.delay is not None
        return sleeps or self.status is Status.WAITING


class Settled(NamedTuple):
    accepted: frozenset[str]
    """Ids whose settlement was written; the rest had lost their lease and changed nothing."""
    ready_queues: frozenset[str]
    """Queues in which something became claimable at once: children, resumed parents, retries without delay. Of
    callbacks only where the caller does not know of them: after wake-ups and deadlines."""
    busy: frozenset[str] = frozenset()
    """Ids of turns that were not tried, because somebody holds the row of their job, or of one they send to."""
    has_cancelled: bool = False
    """Some of the accepted did not end, and were cancelled for it, because they had been asked to end."""
    soonest: float | None = None
    """Seconds until the first of the later turns that were planned for the jobs is due; None: none was."""


class FinishedExecution(NamedTuple):
    """The end of an execution, as its waiters read it."""

    id: str
    status: Status
    output: str | None
    error: str | None


class ChildOutcome(NamedTuple):
    """One child as its parent's finalize reads it, in child order; the finalize execution is not among them."""

    parent_id: str
    child_index: int
    id: str
    task_name: str
    status: Status
    output: str | None
    error: str | None
    is_finalize: bool


class Recovered(NamedTuple):
    """An execution taken from an executor that let its lease run out."""

    id: str
    task_name: str
    status: Status
    """`ready`, or `failed` when its deliveries are used up."""
    queue: str
    executor_id: str | None


class CancelResult(NamedTuple):
    """What cancel did to one id."""

    id: str
    status_before: Status | None
    """None: there is no such execution."""
    is_cancelled: bool
    """This call cancelled it; False for one that had already finished, or that is allowed to finish."""
    is_requested: bool = False
    """This call asked a running one to end after its attempt; False where that was asked before."""
    is_turn: bool = False
    """A turn of a keyed job, which ends with its job: nothing was done."""

    @property
    def outcome(
        self,
    ) -> Literal["cancelled", "requested", "already_requested", "already_finished", "not_found", "turn_of_job"]:
        """The same in one word."""
        if self.status_before is None:
            return "not_found"
        if self.is_cancelled:
            return "cancelled"
        if self.is_requested:
            return "requested"
        if self.status_before in FINISHED:
            return "already_finished"
        return "turn_of_job" if self.is_turn else "already_requested"


class Retired(NamedTuple):
    """What one page of retention did."""

    deleted: int
    """Executions deleted, whole trees together."""
    last_id: str | None
    """Where the next page begins; None: this was the last."""
    deleted_jobs: int = 0
    """Ended jobs deleted, with what was left of their inboxes."""


class WakeResult(NamedTuple):
    """What a wake-up met."""

    execution_id: str | None
    """None: nothing sleeps under that id yet; the wake-up is kept and meets it when it comes."""
    status: Status | None
    ready_queues: frozenset[str] = frozenset()
    """Queues in which a parent became claimable through it."""
