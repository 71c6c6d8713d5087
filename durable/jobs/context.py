"""What the handlers of keyed jobs are given. Nothing here writes: the end of the turn commits what was asked for."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar, cast

from durable.attempts import Attempt, Signal
from durable.checks import shown
from durable.durations import Duration, aware, seconds
from durable.errors import ConfigurationError, ErrorInfo
from durable.job import Job, NewEvent, TakenTurn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ContinuousContext",
    "DebounceContext",
    "ErrorContext",
    "EventContext",
    "ExecuteContext",
    "IdleContext",
    "JobContext",
    "Plan",
    "Receiver",
    "TaskJobContext",
    "TerminateTurn",
]

S = TypeVar("S")
E = TypeVar("E")
E_contra = TypeVar("E_contra", contravariant=True)


class TerminateTurn(BaseException):
    """Ends the turn and the job. A BaseException, so that `except Exception` in user code does not swallow it."""

    def __init__(self, reason: str | None) -> None:
        self.reason = reason
        super().__init__(reason or "terminated")


class EventCalls(Protocol[E_contra]):
    """How an event is made for a job."""

    def new_event(self, key: str, event: E_contra, event_id: str | None) -> NewEvent: ...


class Receiver(Protocol[E_contra]):
    """A job that takes events: a Debounce or a Task."""

    @property
    def __calls__(self) -> EventCalls[E_contra]: ...


class Turn(Generic[S]):
    """What the contexts of one turn share, and the end of the turn reads."""

    def __init__(self, attempt: Attempt, taken: TakenTurn, state: S | None, previous_error: ErrorInfo | None) -> None:
        self.attempt = attempt
        self.taken = taken
        self.state = state
        self.previous_error = previous_error
        self.sends: list[NewEvent] = []
        self.plan = Plan(taken)
        self.cancel_signal = Signal()
        attempt.cancel_signal = self.cancel_signal


class Plan:
    """The one schedule slot of a Task job as a turn leaves it: the last call wins."""

    def __init__(self, taken: TakenTurn) -> None:
        self._taken = taken
        self.is_changed = False
        self.delay: float | None = None
        self.at: datetime | None = None
        self.handler = "event"
        """The handler that runs."""
        self.planned_by: str | None = None
        """The handler whose plan stands; None where nothing is planned."""

    def schedule(self, when: Duration | datetime) -> None:
        if isinstance(when, bool | int | float):
            raise ConfigurationError(
                f"when is the number {when}; give a duration such as '5m' or a timedelta, or an aware datetime"
            )
        at = aware(when, "when") if isinstance(when, datetime) else None
        delay = None if isinstance(when, datetime) else seconds(when, "when")
        self.is_changed, self.delay, self.at, self.planned_by = True, delay, at, self.handler

    def cancel(self) -> None:
        self.is_changed, self.delay, self.at, self.planned_by = True, None, None, None

    def reset(self) -> None:
        self.is_changed, self.delay, self.at, self.planned_by = False, None, None, None

    @property
    def moment(self) -> datetime | None:
        """The planned moment as this turn sees it: its own plan, else what was planned before."""
        if not self.is_changed:
            return self._taken.job.scheduled_at
        return self.at if self.delay is None else self._taken.now + timedelta(seconds=self.delay)


class JobContext(Generic[S]):
    """What every handler may know of its job and its turn."""

    __slots__ = ("_turn",)

    def __init__(self, turn: Turn[S]) -> None:
        self._turn = turn

    @property
    def _job(self) -> Job:
        return self._turn.taken.job

    @property
    def key(self) -> str:
        return self._job.key

    @property
    def job_name(self) -> str:
        return self._job.name

    @property
    def instance_id(self) -> str:
        """`kind:name:key`."""
        return self._job.job_key.instance_id

    @property
    def epoch(self) -> int:
        """The incarnation of the key; raised each time the job is ended."""
        return self._job.epoch

    @property
    def execution_id(self) -> str:
        """The id of this turn, the same in all its attempts, by which effects elsewhere can be made idempotent."""
        return self._turn.taken.turn_id

    @property
    def attempt(self) -> int:
        """1 for the first start of this turn."""
        return self._turn.attempt.claimed.attempts

    @property
    def is_retry(self) -> bool:
        return self.attempt > 1

    @property
    def previous_error(self) -> ErrorInfo | None:
        """The error of the attempt before, also `lease_expired` after a crash; None on the first."""
        return self._turn.previous_error

    @property
    def execution_started_at(self) -> datetime:
        """When this attempt began, by the storage's clock."""
        return self._turn.taken.now

    @property
    def created_at(self) -> datetime:
        return self._job.created_at

    @property
    def cancel_signal(self) -> Signal:
        """Set when this attempt should stop; a coroutine gets CancelledError as well, a thread has only this."""
        return self._turn.cancel_signal

    def send(self, job: Receiver[E], key: str, event: E, *, event_id: str | None = None) -> None:
        """Send an event to another job when this turn is committed, and only then.

        Raises what that job's own `add` or `send` raises for a bad key or event, here and now, and ConfigurationError
        for what takes no events.
        """
        if not hasattr(getattr(job, "__calls__", None), "new_event"):
            raise ConfigurationError(f"job is {shown(job)}, which takes no events; give a Debounce or a Task job")
        self._turn.sends.append(job.__calls__.new_event(key, event, event_id))

    def terminate(self, reason: str | None = None) -> NoReturn:
        """End the job now: nothing after this call runs, this turn changes no state and sends nothing."""
        raise TerminateTurn(reason)


class ContinuousContext(JobContext[S]):
    """Given to the handler of a Continuous."""

    __slots__ = ()

    @property
    def state(self) -> S:
        """The state; what it is when the handler returns is stored. A failed attempt changes nothing."""
        return cast("S", self._turn.state)  # a Continuous is started with a state

    def set_state(self, state: S) -> None:
        self._turn.state = state

    def update_state(self, change: Callable[[S], S]) -> None:
        self._turn.state = change(self.state)

    @property
    def run_count(self) -> int:
        """1 for the first run; the same in all attempts of a run."""
        return self._job.run_count + 1

    @property
    def scheduled_for(self) -> datetime | None:
        """The planned moment of this run; None if it was triggered."""
        return self._job.turn_slot


class DebounceContext(JobContext[S], Generic[S, E]):
    """Given to the handler of a Debounce."""

    __slots__ = ("events", "flush_reason")

    def __init__(self, turn: Turn[S], events: tuple[E, ...], flush_reason: str) -> None:
        super().__init__(turn)
        self.events = events
        """The events of this batch, in the order in which they were accepted."""
        self.flush_reason = flush_reason
        """`flush_after`, `max_events` or `manual`; the same in all attempts."""

    @property
    def state(self) -> S:
        """What the reducer made of the events; by default the last of them."""
        return cast("S", self._turn.state)  # the reducer has seen one event at least

    @property
    def event_count(self) -> int:
        return len(self.events)

    @property
    def batch_id(self) -> str:
        """The same in all attempts at this batch, also after a redrive or a pause, and of no other."""
        return self._turn.taken.batch_id or self.execution_id

    @property
    def debounce_started_at(self) -> datetime:
        """When the first event of the batch was accepted."""
        return self._turn.taken.events[0].received_at


class TaskJobContext(JobContext[S]):
    """What every handler of a Task job may do."""

    __slots__ = ()

    @property
    def state(self) -> S | None:
        """The state as this turn has left it so far; None until one is set. Stored when the turn is committed."""
        return self._turn.state

    def set_state(self, state: S) -> None:
        self._turn.state = state

    def update_state(self, change: Callable[[S], S]) -> None:
        """Replace the state by what `change` makes of it; nothing happens while there is none."""
        if self._turn.state is not None:
            self._turn.state = change(self._turn.state)

    def schedule(self, when: Duration | datetime) -> None:
        """Plan `execute`, instead of what is planned: after a duration, or at an aware datetime; the past means now.

        Counts from the commit. A bare number is refused, because it could be meant as either.
        """
        self._turn.plan.schedule(when)

    def cancel_schedule(self) -> None:
        self._turn.plan.cancel()

    @property
    def scheduled_at(self) -> datetime | None:
        """What is planned, with the calls of this turn."""
        return self._turn.plan.moment

    @property
    def event_count(self) -> int:
        """Events accepted in this incarnation, handled or not."""
        return self._job.event_count


class EventContext(TaskJobContext[S], Generic[S, E]):
    """Given to `on_event`."""

    __slots__ = ("event", "event_id", "event_number")

    def __init__(self, turn: Turn[S], event: E) -> None:
        super().__init__(turn)
        self.event = event
        stored = turn.taken.events[0]
        self.event_number = stored.number
        """1 for the first event of this incarnation; without gaps, in the order of acceptance."""
        self.event_id = stored.event_id
        """As the sender gave it, or one made for the send; the same whenever this event is handled again."""

    @property
    def is_first_event(self) -> bool:
        return self.event_number == 1


class ExecuteContext(TaskJobContext[S]):
    """Given to `execute`."""

    __slots__ = ()

    @property
    def execute_count(self) -> int:
        """1 for the first; the same in all attempts."""
        return self._job.execute_count + 1

    @property
    def scheduled_for(self) -> datetime | None:
        """The planned moment of this turn; None if it was triggered."""
        return self._job.turn_slot


class IdleContext(TaskJobContext[S]):
    """Given to `on_idle`."""

    __slots__ = ("idle_reason",)

    def __init__(self, turn: Turn[S], idle_reason: str) -> None:
        super().__init__(turn)
        self.idle_reason = idle_reason
        """The handler after which nothing is left to do: `on_event` or `execute`."""


class ErrorContext(TaskJobContext[S], Generic[S]):
    """Given to `on_error`. The state is that before the failed handler, and nothing it planned or sent stands."""

    __slots__ = ("attempted_state", "error_source")

    def __init__(self, turn: Turn[S], error_source: str, attempted_state: S | None) -> None:
        super().__init__(turn)
        self.error_source = error_source
        """The handler that failed: `on_event` or `execute`."""
        self.attempted_state = attempted_state
        """The state as the failed handler left it."""


AnyContext = JobContext[Any]
