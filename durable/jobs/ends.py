"""From what came of a turn to what is written to its job. Pure, and the same for every kind of job."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from durable.attempts import Attempt
from durable.definition import Definition
from durable.execution import FINISHED, Settlement
from durable.ids import IdSource
from durable.job import EventsEnd, JobCommit, JobStatus, NewEvent, TakenTurn, TurnCause
from durable.jobs.schedule import Due
from durable.jobs.spec import ContinuousSpec, DebounceSpec, KeyedSpec, TaskSpec

__all__ = ["Ends"]

_EXHAUSTED = "retries exhausted"
_NOT_RETRYABLE = "not retryable"
_POISONED = "poisoned"


class Ends:
    """Builds the commits of one turn. Before the turn was taken, only a failure can be written."""

    def __init__(self, spec: KeyedSpec, definition: Definition, attempt: Attempt, ids: IdSource) -> None:
        self._spec = spec
        self._definition = definition
        self._attempt = attempt
        self._claimed = attempt.claimed
        self._ids = ids
        self.taken: TakenTurn | None = None
        self._now: Callable[[], datetime] | None = None
        self.max_attempts = attempt.claimed.max_attempts

    def begin(self, taken: TakenTurn, now: Callable[[], datetime]) -> None:
        """The turn was taken; `now` is the storage's clock."""
        self.taken = taken
        self._now = now

    def nothing(self) -> JobCommit:
        """The turn was not due, or its slot is not run: only what is due next is asked anew, and the error stays."""
        return self._commit(runs=0, events=EventsEnd.KEPT)

    def postponed(self, due: Due) -> JobCommit:
        return self._planned(self.nothing(), due)

    def accepted(
        self,
        *,
        state: Any,
        instance_id: str,
        executes: int = 0,
        sends: tuple[NewEvent, ...] = (),
        due: Due | None = None,
        planned_by: str | None = None,
    ) -> JobCommit:
        """The handler returned: its state, its messages, its plan if it made one; raises JobValidationError."""
        text = None if state is None else self._spec.dump_state(state, instance_id)
        commit = self._commit(runs=1, executes=executes)._replace(
            writes_state=True,
            state=text,
            state_version=self._spec.state_version,
            sends=sends,
            planned_by=planned_by,
        )
        return commit if due is None else self._planned(commit, due)

    def terminated(self, reason: str | None) -> JobCommit:
        """The job ends; the state of before stays to be read."""
        return self._commit(runs=1)._replace(status=JobStatus.TERMINATED, reason=reason)

    def close(self, settlement: Settlement) -> Settlement:
        """A settlement of the turn's execution with what its job must know: nothing before its last attempt."""
        if settlement.status not in FINISHED or settlement.job is not None:
            return settlement
        return settlement._replace(job=self._failed(settlement.error))

    def _failed(self, error: str | None) -> JobCommit:
        commit = self._commit(runs=0)._replace(error=error)
        is_purged = self._spec.on_exhausted == "purge"
        goes_on = self._spec.on_exhausted == "continue" or (self.max_attempts == 1 and not is_purged)
        match self._spec:
            case _ if self.taken is None:
                return commit._replace(events=EventsEnd.KEPT)
            case ContinuousSpec() if goes_on:
                return self._planned(commit, self.next_due())
            case ContinuousSpec() if is_purged:
                return commit._replace(
                    status=JobStatus.TERMINATED, reason=self._why(error), writes_state=True, state=None
                )
            case ContinuousSpec():
                return commit._replace(status=JobStatus.FAILED, reason=self._why(error))
            case DebounceSpec() | TaskSpec() if is_purged:
                return commit
            case _:
                return commit._replace(events=EventsEnd.DEAD)

    def _why(self, error: str | None) -> str:
        """Why no attempt follows the one that failed, for people."""
        info = self._definition.load_error(error)
        if info is not None and info.type == _POISONED:
            return _POISONED
        is_last = self._claimed.attempts >= self.max_attempts
        return _EXHAUSTED if is_last or self._attempt.exhausted is not None else _NOT_RETRYABLE

    def next_due(self) -> Due | None:
        """When a Continuous runs next, as the turn ends now; None leaves what is planned."""
        assert isinstance(self._spec, ContinuousSpec)
        assert self.taken is not None
        assert self._now is not None
        job, now = self.taken.job, self._now()
        slot = job.turn_slot
        if job.turn_cause is TurnCause.TRIGGER and job.scheduled_at is not None:
            is_slot = job.turn_began_at is not None and job.scheduled_at <= job.turn_began_at
            if not is_slot and self._spec.schedule.next(None, now).at is not None:
                return None  # it came meanwhile, or is yet to come: it is run, or missed, like any other
            slot = job.scheduled_at  # a trigger of a run that is due is that run
        return self._spec.schedule.next(slot, now)

    @staticmethod
    def _planned(commit: JobCommit, due: Due | None) -> JobCommit:
        if due is None:
            return commit
        return commit._replace(writes_schedule=True, schedule_delay=due.delay, schedule_at=due.at)

    def _commit(self, *, runs: int, executes: int = 0, events: EventsEnd = EventsEnd.CONSUMED) -> JobCommit:
        return JobCommit(
            job_id=self._claimed.root_id,
            status=JobStatus.ACTIVE,
            reason=None,
            writes_state=False,
            state=None,
            state_version=self._spec.state_version,
            runs=runs,
            executes=executes,
            error=None,
            writes_schedule=False,
            schedule_delay=None,
            schedule_at=None,
            events=events,
            policy=self._spec.policy,
            next_turn=self._spec.next_turn(self._definition, self._claimed, self._ids),
        )
