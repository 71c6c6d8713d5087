"""The keyed job as the storages keep it: one row for each kind, name and key, its inbox, and what a turn commits.

A job has no loop of its own. Its next turn is an execution of kind `turn` whose root id is the job's id; `turn_id`
names it while it lives. Whoever changes a job holds its row's lock: senders, turns and operators alike, each for one
statement or one short transaction, never while user code runs.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from durable.execution import Status
from durable.notice import NewNotice
from durable.timer import StoredTimer, TimerEnd

__all__ = [
    "ENDED",
    "Appended",
    "Cleared",
    "EventEnd",
    "EventsEnd",
    "Job",
    "JobCommit",
    "JobFilter",
    "JobKey",
    "JobKind",
    "JobStatus",
    "JobView",
    "NewEvent",
    "NewJob",
    "NewTurn",
    "Started",
    "StoredEvent",
    "TakenTurn",
    "Triggered",
    "TurnCause",
    "TurnPolicy",
    "TurnToTake",
    "events_due_at",
    "is_held",
    "opens_batch",
]


class JobKind(StrEnum):
    CONTINUOUS = "continuous"
    DEBOUNCE = "debounce"
    TASK = "task"
    TIMER = "timer"
    """All timers of one owner; a turn is one start of one of them."""


class JobStatus(StrEnum):
    """What is stored; what a user is shown follows from it and from the job's turn."""

    ACTIVE = "active"
    PAUSED = "paused"
    """An attempt that runs ends; no other begins, except by a trigger."""
    FAILED = "failed"
    """A Continuous whose retries are used up: kept, without a next turn, until it is triggered or ended."""
    TERMINATED = "terminated"
    """A tombstone: its key may be used again, by a new incarnation."""
    CLEARED = "cleared"
    """As terminated, and not shown: a Debounce whose open events were thrown away."""


ENDED = frozenset({JobStatus.TERMINATED, JobStatus.CLEARED})


class TurnCause(StrEnum):
    """Why a turn runs; decided when it is first taken, and the same in all its attempts."""

    SCHEDULE = "schedule"
    TRIGGER = "trigger"
    EVENTS = "events"
    NOTHING = "nothing"
    """Nothing is due: an event was taken by another turn, a sliding window has moved on, or a pause holds the turn.

    Stored only while a triggered run goes on into which a pause came: no other attempt at it is to begin."""


class EventsEnd(StrEnum):
    """What becomes of the events of a turn that ends."""

    CONSUMED = "consumed"
    DEAD = "dead"
    """Kept with the turn that failed on them, for a redrive."""
    KEPT = "kept"
    """Pending again, in their old place: before those that came later."""


class JobKey(NamedTuple):
    kind: JobKind
    name: str
    key: str

    @property
    def instance_id(self) -> str:
        """What people read and type."""
        return f"{self.kind}:{self.name}:{self.key}"


class TurnPolicy(NamedTuple):
    """When pending events make a turn due. Without a window they do at once."""

    window: float | None = None
    """Seconds that events are collected, from the first of them, or from the last where `max_wait` is given."""
    max_wait: float | None = None
    """Seconds from the first event after which a sliding window ends in any case; None: the window does not slide."""
    max_events: int | None = None
    """So many pending events are due at once, and one turn takes no more than these."""


class Job(NamedTuple):
    """The row. Columns of the table, in order."""

    id: str
    kind: JobKind
    name: str
    key: str
    epoch: int
    """The incarnation: 1 for the first, raised whenever an ended key is used again."""
    status: JobStatus
    reason: str | None
    """Why it was ended, in the words of who ended it."""
    state: str | None
    """The stored payload; None: no state yet."""
    state_version: int
    turn_id: str | None
    """The live turn; None: nothing is due."""
    turn_cause: TurnCause | None
    """None until the live turn is first taken."""
    turn_slot: datetime | None
    """The planned moment that the live turn runs for; None where it runs for another cause."""
    turn_began_at: datetime | None
    """When the live turn was first taken; that of a trigger begins anew."""
    is_triggered: bool
    """A turn was asked for, and none that was taken later has run."""
    scheduled_at: datetime | None
    """The planned moment of the next turn; a turn that runs for it takes it away."""
    run_count: int
    """Accepted turns; a Continuous counts its runs, a Debounce its flushes, a Task its events and executes."""
    execute_count: int
    """Accepted turns of a Task that were not for an event."""
    event_count: int
    """Events accepted in this incarnation: the number of the last one."""
    pending_count: int
    """Events that no turn has taken."""
    pending_first_at: datetime | None
    pending_last_at: datetime | None
    error: str | None
    """The error of the last turn that failed for good; None after one that was accepted."""
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    dead_count: int
    """Events whose turn failed for good, kept for a redrive; also of incarnations before."""

    @property
    def job_key(self) -> JobKey:
        return JobKey(self.kind, self.name, self.key)


class JobView(NamedTuple):
    """A job with what its live turn is doing, None in each field of that without one."""

    job: Job
    turn_status: Status | None
    turn_due_at: datetime | None
    turn_attempts: int | None
    turn_error: str | None
    """The error of the attempt before; None in the first."""
    taken_count: int
    """Events that the live turn has taken; 0 without one."""


class NewTurn(NamedTuple):
    """An execution of kind `turn`, as far as it is known before it is due. The storage gives it the job as its root."""

    id: str
    task_name: str
    """The name under which executors know the job's definition."""
    task_version: int
    queue: str
    priority: int
    max_attempts: int
    timeout: float | None


class NewJob(NamedTuple):
    """What start stores, unless the key lives already."""

    id: str
    key: JobKey
    state: str | None
    state_version: int
    delay: float
    """Seconds until the first planned moment."""
    run_at: datetime | None
    """The same as a moment; wins over delay. In the past it means now."""
    turn: NewTurn
    notices: tuple[NewNotice, ...] = ()
    """Stored if the job is."""


class Started(NamedTuple):
    job: Job
    is_new: bool


class NewEvent(NamedTuple):
    """One event for one job, which is made if it does not live."""

    key: JobKey
    job_id: str
    """The id of the job if this event makes it."""
    event_id: str | None
    """Of two events with the same id within `dedupe_window`, the second is a duplicate; None: never."""
    payload: str
    state_version: int
    policy: TurnPolicy
    dedupe_window: float
    """Seconds for which an event's id is remembered."""
    turn: NewTurn
    """Inserted if the job has none; when it is due follows from the policy."""
    notices: tuple[NewNotice, ...] = ()
    """Stored if the event opens a batch, or without a window if it makes the job."""

    def is_told(self, done: Appended) -> bool:
        """Whether what became of the event makes its notices true."""
        if self.policy.window is not None:
            return opens_batch(done, self.policy)
        return done.is_new_job and not done.is_duplicate


class Appended(NamedTuple):
    """What became of one event, in the order given."""

    job_id: str
    number: int
    """The event's place among all of the incarnation, from 1; of a duplicate, that of the event it repeats."""
    is_new_job: bool
    is_duplicate: bool
    pending_count: int
    """Events that no turn has taken, this one included."""
    pending_first_at: datetime | None
    pending_last_at: datetime | None
    due_at: datetime | None
    """When the live turn is due; None while it runs, or is between attempts."""
    scheduled_at: datetime | None
    ready_queue: str | None
    """The queue in which a turn became claimable at once through it."""


class Triggered(NamedTuple):
    """What a trigger met; `job` is the row after it, None where none lives."""

    job: Job | None
    is_queued: bool
    """A turn was taken before, and runs or has taken events: one more follows it, however many triggers come."""
    ready_queue: str | None
    taken_count: int = 0
    """For `only_pending`: the events of the turn whose next attempt is due now; 0: the turn takes what waits."""


class Cleared(NamedTuple):
    """What a clear has left."""

    job: Job
    """As it was before."""
    goes_on: bool
    """A turn has taken events, or is to take some again."""
    discarded_count: int


class StoredEvent(NamedTuple):
    number: int
    event_id: str | None
    payload: str
    received_at: datetime
    turn_id: str | None = None
    """The turn that has taken it; None while it waits."""


class EventEnd(NamedTuple):
    """What has become of an event whose id is remembered; that of one which was thrown away is not."""

    number: int
    turn_id: str | None
    """The turn that took it; None while it waits."""
    is_over: bool
    """Consumed, or kept with the turn that failed on it."""


class TurnToTake(NamedTuple):
    """A claimed turn that wants to know what it runs on."""

    turn_id: str
    fence: int
    policy: TurnPolicy


class TakenTurn(NamedTuple):
    """What a claimed turn runs on. `job.turn_cause` and `job.turn_slot` are set.

    `job.turn_id` is another than `turn_id` where the job is paused: then the turn was ended, and is not to run."""

    turn_id: str
    job: Job
    events: tuple[StoredEvent, ...]
    """Those of this turn, in their order: the same in every attempt."""
    now: datetime
    """The storage's clock when it was taken."""
    due_at: datetime | None
    """For a turn with nothing to do: when the next is due; None: not at all."""
    timer: StoredTimer | None = None
    """For a turn of an owner's timers: the first that is due, started by this; None: there is none any more."""
    batch_id: str | None = None
    """The turn that took these events first; this one, unless they have failed for good or were paused before. None
    without events."""


class JobCommit(NamedTuple):
    """What the end of a turn writes to its job, in the transaction that accepts it."""

    job_id: str
    status: JobStatus
    """`active` leaves a paused job paused."""
    reason: str | None
    writes_state: bool
    """False leaves the state as it is."""
    state: str | None
    state_version: int
    runs: int
    """Added to run_count."""
    executes: int
    error: str | None
    """None: nothing failed; then the error of the turn before stays, if this one counts no run."""
    writes_schedule: bool
    """False leaves what is planned as it is."""
    schedule_delay: float | None
    """Seconds from the commit until the next planned turn."""
    schedule_at: datetime | None
    """The same as a moment; with neither, nothing is planned."""
    events: EventsEnd
    policy: TurnPolicy
    next_turn: NewTurn
    """Inserted if something is due, now or later."""
    sends: tuple[NewEvent, ...] = ()
    """Events for other jobs, appended in the same transaction."""
    planned_by: str | None = None
    """The handler whose plan is written: event, execute, idle or error. For those who are told of it; not stored."""
    renewal: tuple[NewNotice, ...] = ()
    """Stored if the turn ends its job, and events wait: these begin the next incarnation at once."""
    timer: TimerEnd | None = None
    """How the start of a timer ended. The plan of an owner's job is always the first of its timers."""


class JobFilter(NamedTuple):
    """Which jobs a list shows; None leaves a field open. Ended ones are shown when their status is asked for.

    Those of timers are shown when their kind is asked for.
    """

    kind: JobKind | None = None
    name: str | None = None
    statuses: tuple[JobStatus, ...] | None = None
    key_prefix: str | None = None
    kinds: tuple[JobKind, ...] | None = None
    has_turn: bool | None = None
    """With a live turn, running or not; or without one."""
    has_dead: bool | None = None
    """With events that are kept as dead, or without any."""


def is_held(job: Job) -> bool:
    """Whether a pause keeps the live turn from starting, or from starting again."""
    return job.status is JobStatus.PAUSED and not job.is_triggered and job.turn_cause is not TurnCause.TRIGGER


def opens_batch(done: Appended, policy: TurnPolicy) -> bool:
    """Whether an event that was accepted is the first of a batch, as far as the events that wait before it tell."""
    if done.is_duplicate:
        return False
    before = done.pending_count - 1
    return before == 0 or (policy.max_events is not None and before % policy.max_events == 0)


def events_due_at(pending: Job | Appended, policy: TurnPolicy) -> datetime | None:
    """When the pending events make a turn due; None without any."""
    first_at, last_at = pending.pending_first_at, pending.pending_last_at
    if first_at is None or last_at is None:
        return None
    is_full = policy.max_events is not None and pending.pending_count >= policy.max_events
    if policy.window is None or is_full:
        return first_at
    window = timedelta(seconds=policy.window)
    if policy.max_wait is None:
        return first_at + window
    return min(last_at + window, first_at + timedelta(seconds=policy.max_wait))
