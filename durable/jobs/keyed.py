"""What the three kinds of jobs have in common for their callers: scripts, and the way to play them in either colour."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args

from durable.checks import shown
from durable.definition import Definition
from durable.durations import Duration, seconds
from durable.errors import ConfigurationError, ErrorInfo
from durable.events import EventName, Fact, fact_of_job
from durable.execution import FinishedExecution, Status
from durable.job import ENDED, Appended, Job, JobKey, JobKind, JobStatus, JobView, NewEvent, NewTurn, Triggered, is_held
from durable.jobs.errors import DuplicateEventError, InstanceNotFound, InvalidJobState, JobExecutionError
from durable.jobs.results import JobSummary, RedriveResult, ShownStatus, TerminateResult, TriggerResult
from durable.jobs.spec import KeyedSpec
from durable.notice import NewNotice
from durable.options import checked_text
from durable.script import EndOf, Script, Tell, append, ask, change
from durable.storage import Hint

__all__ = ["BlockingPlayer", "Calls", "JobHome", "Keyed", "OnDuplicate", "shown_status", "summary"]

OnDuplicate = Literal["return", "raise"]
"""What becomes of a call with an event id that was accepted before."""

T = TypeVar("T")
P_co = TypeVar("P_co", bound=KeyedSpec, covariant=True)
C_co = TypeVar("C_co", bound="Calls[Any]", covariant=True)


class JobHome(Protocol):
    """The app a job belongs to, as far as its callers need it."""

    async def play(self, script: Script[T], connection: Any = None) -> T: ...

    def new_id(self) -> str: ...

    def notices(self, facts: Iterable[Fact]) -> tuple[NewNotice, ...]:
        """For those who have subscribed to such events; usually for nobody."""
        ...


class BlockingPlayer(Protocol):
    """The same for a blocking client."""

    def play(self, script: Script[T], connection: Any = None) -> T: ...


class Calls(Generic[P_co]):
    """The calls of a declared job as scripts, which its two clients play."""

    def __init__(self, spec: P_co, definition: Definition, home: Callable[[], JobHome]) -> None:
        self.spec = spec
        self.definition = definition
        self.home = home

    def new_turn(self) -> NewTurn:
        return self.spec.new_turn(self.definition, self.home().new_id())

    # --- scripts -------------------------------------------------------------------------------------------

    def view(self, key: str) -> Script[JobView | None]:
        """The job with its turn; None where none lives or is remembered."""
        job_key = self.spec.job_key(key)
        (found,) = yield from ask(lambda storage: storage.get_jobs([job_key]))
        return None if found is not None and found.job.status is JobStatus.CLEARED else found

    def trigger_script(self, key: str, *, wait: bool, timeout: Duration | None) -> Script[TriggerResult]:
        job_key = self.spec.job_key(key)
        limit_of(timeout)
        done = yield from self.triggered(job_key, only_pending=False)
        if done.job is not None and wait:
            yield from self.wait_for_trigger(job_key, done, timeout)
        return TriggerResult(job_key.instance_id, done.job is not None, done.is_queued)

    def triggered(self, job_key: JobKey, *, only_pending: bool) -> Script[Triggered]:
        turn = self.new_turn()
        done = yield from change(lambda storage: storage.trigger_job(job_key, turn=turn, only_pending=only_pending))
        yield from told(done.ready_queue)
        return done

    def wait_for_trigger(self, job_key: JobKey, done: Triggered, timeout: Duration | None) -> Script[int | None]:
        """Wait for the turn that a trigger asked for; behind a running one it is the next.

        Gives how many events it has handled; None: it ended its job, and is not known by its id.
        """
        assert done.job is not None
        turn_id = done.job.turn_id
        if done.is_queued and turn_id is not None:
            turn_id = yield from self._turn_after(job_key, done.job, turn_id, timeout)
        if turn_id is None:
            return None
        return (yield from self.wait_for(job_key, turn_id, timeout))

    def _turn_after(self, job_key: JobKey, job: Job, turn_id: str, timeout: Duration | None) -> Script[str | None]:
        """The turn behind one that runs, when that has ended; None: it is over too. Raises InstanceNotFound."""
        end = yield EndOf(turn_id, limit_of(timeout))
        assert isinstance(end, FinishedExecution)
        (found,) = yield from ask(lambda storage: storage.get_jobs([job_key]))
        if found is not None and found.job.epoch == job.epoch:
            next_turn: str | None = found.job.turn_id
            return next_turn
        # The job was ended; by the turn that was asked for, if that was counted beside the one before it.
        runs = job.run_count + (1 if end.status is Status.COMPLETED else 0)
        if found is None or found.job.run_count <= runs:
            raise InstanceNotFound(job_key.instance_id, "was ended before the turn that was asked for")
        return None

    def wait_for(self, job_key: JobKey, turn_id: str, timeout: Duration | None) -> Script[int]:
        """Wait for the end of a turn, and give how many events it has handled.

        Raises JobExecutionError unless it was accepted, also where it ended its job.

        Of one that never began, InstanceNotFound because its job was ended, or InvalidJobState because it was paused.
        """
        end = yield EndOf(turn_id, limit_of(timeout))
        assert isinstance(end, FinishedExecution)
        if end.status is Status.CANCELLED:
            yield from self._refuse_what_was_not_begun(job_key, turn_id)
        if end.status is not Status.COMPLETED:
            raise JobExecutionError(job_key.instance_id, turn_id, self.definition.load_error(end.error))
        return int(end.output or "0")

    def _refuse_what_was_not_begun(self, job_key: JobKey, turn_id: str) -> Script[None]:
        (turn,) = yield from ask(lambda storage: storage.get([turn_id]))
        if turn is not None and turn.reason == "paused":
            raise InvalidJobState(job_key.instance_id, "waiting for a turn", expected="active", actual="paused")
        if turn is not None and not turn.attempts:
            raise InstanceNotFound(job_key.instance_id, "was ended before its turn began")

    def accepted(
        self, new: NewEvent, event_id: str | None, on_duplicate: OnDuplicate, *, wait: bool, timeout: Duration | None
    ) -> Script[Appended]:
        """Append an event, whose id is the caller's or None; raises DuplicateEventError, and what waiting raises."""
        # Before anything is stored, not when the wait begins.
        if on_duplicate not in get_args(OnDuplicate):
            raise ConfigurationError(
                f"on_duplicate is {shown(on_duplicate)}; give {' or '.join(get_args(OnDuplicate))}"
            )
        limit_of(timeout)
        done = yield from append(new)
        # The first of a batch sets a moment that no executor knows of.
        is_first = done.pending_count == 1 and done.due_at is not None
        yield from told(new.turn.queue if is_first else done.ready_queue, new.notices)
        if done.is_duplicate and event_id is not None and on_duplicate == "raise":
            raise DuplicateEventError(new.key.instance_id, event_id)
        if wait and new.event_id is not None:
            yield from self.wait_for_event(new.key, new.event_id, timeout)
        return done

    def wait_for_event(self, job_key: JobKey, event_id: str, timeout: Duration | None) -> Script[None]:
        """Wait until a turn has handled an event, also one that ended the job.

        Raises JobExecutionError, InvalidJobState for a job that is paused, InstanceNotFound for one that was ended
        before.
        """
        waited_in: int | None = None
        while True:
            end = yield from ask(lambda storage: storage.event_end(job_key, event_id))
            if end is None:
                yield from self._refuse_unless_forgotten(job_key, event_id, waited_in)
                return
            turn_id = end.turn_id
            if end.is_over and turn_id is None:
                return
            if turn_id is None:
                waited_in = yield from self._wait_for_turn_before(job_key, timeout)
                continue
            yield from self.wait_for(job_key, turn_id, timeout)
            if end.is_over:
                return

    def _refuse_unless_forgotten(self, job_key: JobKey, event_id: str, epoch: int | None) -> Script[None]:
        """An event that waited in an incarnation which goes on has been handled, and its id forgotten since.

        But one of a Debounce may have been cleared.
        """
        (found,) = yield from ask(lambda storage: storage.get_jobs([job_key]))
        is_same = found is not None and found.job.status not in ENDED and found.job.epoch == epoch
        if not is_same or job_key.kind is not JobKind.TASK:
            raise InstanceNotFound(job_key.instance_id, f"was ended or cleared before event {event_id!r} was handled")

    def _wait_for_turn_before(self, job_key: JobKey, timeout: Duration | None) -> Script[int]:
        """Wait for the end of the turn that an event was seen to wait for, unless that turn has ended since.

        Gives the epoch of the job.
        """
        (found,) = yield from ask(lambda storage: storage.get_jobs([job_key]))
        if found is None:
            raise InstanceNotFound(job_key.instance_id)
        if found.job.turn_id is not None:
            yield EndOf(found.job.turn_id, limit_of(timeout))
        elif found.job.status not in (JobStatus.ACTIVE, *ENDED):
            raise InvalidJobState(
                job_key.instance_id, "waiting for an event", expected="active", actual=found.job.status
            )
        epoch: int = found.job.epoch
        return epoch

    def terminate_script(self, key: str, reason: str | None) -> Script[TerminateResult]:
        job_key = self.spec.job_key(key)
        words = None if reason is None else checked_text(reason, "reason")
        notices = self.home().notices([fact_of_job(EventName.JOB_TERMINATED, job_key, {"reason": words})])
        job = yield from change(lambda storage: storage.end_job(job_key, reason=words, notices=notices))
        if job is None:
            return TerminateResult(job_key.instance_id, False, "not_found")
        yield Tell((Hint("cancelled", ""), Hint("finished", ""), *noted(notices)))
        return TerminateResult(job_key.instance_id, True, words)

    def redrive_script(self, key: str) -> Script[RedriveResult]:
        job_key = self.spec.job_key(key)
        turn = self.new_turn()
        done = yield from change(lambda storage: storage.redrive_job(job_key, turn=turn))
        yield from told(done.ready_queue)
        return RedriveResult(job_key.instance_id, done.job is not None)

    def error_of(self, found: JobView) -> ErrorInfo | None:
        """The error of the attempt before; between turns that of the last turn, if it failed."""
        return self.definition.load_error(found.turn_error or found.job.error)


class Keyed(Generic[C_co]):
    """What every declared job has."""

    def __init__(self, calls: C_co) -> None:
        # For this library alone. So named, it is offered by no editor, and still may be used by several modules.
        self.__calls__ = calls

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @property
    def name(self) -> str:
        text: str = self.__calls__.spec.name
        return text

    async def _play(self, script: Script[T], connection: Any = None) -> T:
        result: T = await self.__calls__.home().play(script, connection)
        return result


def told(queue: str | None, notices: Sequence[NewNotice] = ()) -> Script[None]:
    hints = noted(notices) if queue is None else (Hint("ready", queue), *noted(notices))
    if hints:
        yield Tell(hints)


def noted(notices: Sequence[NewNotice]) -> tuple[Hint, ...]:
    return (Hint("noted", ""),) if notices else ()


def limit_of(timeout: Duration | None) -> float | None:
    return None if timeout is None else seconds(timeout, "timeout")


def refuse_waiting(connection: Any, wait: bool) -> None:
    if connection is not None and wait:
        raise ConfigurationError("wait=True and connection= exclude each other: the turn begins after your commit")


def shown_status(job: Job) -> ShownStatus:
    """What people call the state a job is in."""
    match job.status:
        case JobStatus.PAUSED:
            return ShownStatus.PAUSED
        case JobStatus.FAILED:
            return ShownStatus.FAILED
        case JobStatus.TERMINATED:
            return ShownStatus.TERMINATED
        case JobStatus.CLEARED:
            return ShownStatus.NOT_FOUND
        case JobStatus.ACTIVE:
            return _active(job)


def _active(job: Job) -> ShownStatus:
    if job.kind == "continuous":
        return ShownStatus.RUNNING
    if job.kind == "debounce":
        # Its turn may run, or wait for another try, with all of the events there are.
        return ShownStatus.DEBOUNCING if job.pending_count or job.turn_id is not None else ShownStatus.IDLE
    return ShownStatus.IDLE if job.turn_id is None else ShownStatus.ACTIVE


def attempted(calls: Calls[Any], found: JobView) -> dict[str, Any]:
    """The fields that every status has of the live turn and of those that failed."""
    is_running = found.turn_status is Status.RUNNING
    return {
        "attempt": found.turn_attempts or 0,
        "next_run_at": _next_run_at(found),
        "is_turn_running": is_running,
        "last_error": calls.error_of(found),
        "dead_letters": found.job.dead_count,
    }


def _next_run_at(found: JobView) -> datetime | None:
    """None also for the retry of a paused job, which does not begin."""
    return None if found.turn_status is Status.RUNNING or is_held(found.job) else found.turn_due_at


def summary(found: JobView) -> JobSummary:
    job = found.job
    return JobSummary(
        kind=job.kind,
        name=job.name,
        key=job.key,
        instance_id=job.job_key.instance_id,
        status=shown_status(job),
        next_run_at=_next_run_at(found),
        run_count=job.run_count,
        pending_count=job.pending_count,
        created_at=job.created_at,
        updated_at=job.updated_at,
        dead_letters=job.dead_count,
    )
