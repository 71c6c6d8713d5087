"""What a declared job is: its types, its policy and its handlers, checked once; not how it is called and run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

from durable.codec import Codec, Shape
from durable.definition import Definition, JobSpec
from durable.errors import DurableError, SerializationError
from durable.execution import Claimed
from durable.ids import IdSource
from durable.job import Job, JobKey, JobKind, NewEvent, NewTurn, StoredEvent, TurnPolicy
from durable.jobs.errors import HandlerMissing, JobValidationError, StateVersionMismatch
from durable.jobs.schedule import Schedule
from durable.options import checked_text

__all__ = ["ContinuousSpec", "DebounceSpec", "Handlers", "KeyedSpec", "OnExhausted", "TaskSpec"]

OnExhausted = Literal["fail", "continue", "purge"]
"""What becomes of a job whose turn failed for good: kept as failed, as if it had not been, or ended and forgotten."""

NO_EVENTS: Final = TurnPolicy()
AT_ONCE: Final = TurnPolicy(None, None, 1)
_UNASKED_DEDUPE: Final = 60.0
"""Seconds for which the id of an event is remembered that its sender gave none: so long a lost answer is asked for
again, which takes 30 s at most."""


@dataclass(kw_only=True)
class KeyedSpec(JobSpec):
    """The common part. `codec` is the app's, also for registries that it includes."""

    kind: JobKind
    name: str
    codec: Callable[[], Codec]
    state_type: Any
    state_version: int
    migrate: Callable[[Any, int], Any] | None
    on_exhausted: OnExhausted
    policy: TurnPolicy = NO_EVENTS

    @cached_property
    def state_shape(self) -> Shape[Any]:
        return self.codec().value(self.state_type, f"state of {self.kind} {self.name!r}")

    @cached_property
    def _plain(self) -> Shape[Any]:
        return self.codec().value(Any, "a state of another version")

    @property
    def handles_errors(self) -> bool:
        """Whether a handler of its own is told when another fails or takes too long."""
        return False

    @property
    def task_name(self) -> str:
        """The name under which its turns are claimed."""
        return f"{self.kind}:{self.name}"

    def job_key(self, key: str) -> JobKey:
        return JobKey(self.kind, self.name, checked_text(key, "key"))

    def new_turn(self, definition: Definition, turn_id: str) -> NewTurn:
        options = definition.options
        return NewTurn(
            turn_id, self.task_name, options.version, options.queue, options.priority, options.retry.max_attempts,
            None,  # the timeout is for the handlers, and counts from when they begin
        )  # fmt: skip

    def next_turn(self, definition: Definition, claimed: Claimed, ids: IdSource) -> NewTurn:
        """The turn after one that was claimed: where that was."""
        return self.new_turn(definition, ids.new_id())._replace(queue=claimed.queue, priority=claimed.priority)

    def dump_state(self, state: Any, instance_id: str) -> str:
        """Raises JobValidationError."""
        try:
            return self.state_shape.dump(state, "state")
        except SerializationError as error:
            raise JobValidationError(instance_id, str(error)) from None

    def load_state(self, job: Job) -> Any:
        """The state of a job as it is declared today; what is stored is left as it is.

        Raises StateVersionMismatch, with the raw state, and JobValidationError.
        """
        if job.state is None:
            return None
        mismatch = self.version_mismatch(job)
        try:
            if mismatch is not None:
                mismatch.raw_state = self._plain.load(job.state, "state")
                raise mismatch
            if job.state_version == self.state_version:
                return self.state_shape.load(job.state, "state")
            return self._migrated(job.state, job.state_version)
        except StateVersionMismatch:
            raise
        except DurableError as error:
            raise JobValidationError(
                job.job_key.instance_id,
                f"the stored state of version {job.state_version} does not fit version {self.state_version}: {error}",
            ) from error

    def version_mismatch(self, job: Job) -> StateVersionMismatch | None:
        """Why this code must not read the state of a job, nor write another over it; None: it may."""
        is_older = job.state_version < self.state_version
        if job.state is None or job.state_version == self.state_version or (is_older and self.migrate is not None):
            return None
        return StateVersionMismatch(
            job.job_key.instance_id, stored_version=job.state_version, code_version=self.state_version
        )

    def _migrated(self, stored: str, version: int) -> Any:
        assert self.migrate is not None
        try:
            raw = self.migrate(self._plain.load(stored, "state"), version)
        except Exception as error:
            raise SerializationError("state", f"migrate raised {type(error).__name__}: {error}") from error
        return self.state_shape.load(self._plain.dump(raw, "state"), "state")


@dataclass(kw_only=True)
class ContinuousSpec(KeyedSpec):
    schedule: Schedule
    start_immediately: bool
    handler: Callable[..., Any]


@dataclass(kw_only=True)
class _EventSpec(KeyedSpec):
    event_type: Any
    dedupe_window: float

    @cached_property
    def event_shape(self) -> Shape[Any]:
        return self.codec().value(self.event_type, f"event of {self.kind} {self.name!r}")

    def new_event(
        self, key: str, event: Any, event_id: str | None, *, definition: Definition, new_id: Callable[[], str]
    ) -> NewEvent:
        """Raises ConfigurationError for a bad key or id, JobValidationError for an event that does not fit."""
        job_key = self.job_key(key)
        try:
            payload = self.event_shape.dump(event, "event")
        except SerializationError as error:
            raise JobValidationError(job_key.instance_id, str(error)) from None
        is_own = event_id is None
        id_ = new_id() if event_id is None else checked_text(event_id, "event_id")
        return NewEvent(
            job_key, new_id(), id_, payload, self.state_version, self.policy,
            _UNASKED_DEDUPE if is_own else self.dedupe_window, self.new_turn(definition, new_id()),
        )  # fmt: skip

    def load_events(self, events: tuple[StoredEvent, ...], instance_id: str) -> tuple[Any, ...]:
        try:
            return tuple(self.event_shape.load(event.payload, f"event {event.number}") for event in events)
        except SerializationError as error:
            raise JobValidationError(instance_id, f"a stored event does not fit its type any more: {error}") from error


@dataclass(kw_only=True)
class DebounceSpec(_EventSpec):
    initial_state: Any
    reducer: Callable[[Any, Any], Any] | None
    handler: Callable[..., Any]

    @cached_property
    def _initial(self) -> str | None:
        return None if self.initial_state is None else self.state_shape.dump(self.initial_state, "initial_state")

    def fold(self, events: tuple[Any, ...], instance_id: str) -> Any:
        """The state of a batch; without a reducer its last event."""
        # Read anew each time: a reducer may change what it is given.
        state = None if self._initial is None else self.state_shape.load(self._initial, "initial_state")
        for event in events:
            state = event if self.reducer is None else self.reducer(state, event)
        # As a state it must fit its type, whatever the reducer gave.
        return self.state_shape.load(self.dump_state(state, instance_id), "state")


@dataclass
class Handlers:
    """The functions of a Task job; set by its decorators, so they are there when the first turn runs."""

    job_name: str
    on_event: Callable[..., Any] | None = None
    execute: Callable[..., Any] | None = None
    on_idle: Callable[..., Any] | None = None
    on_error: Callable[..., Any] | None = None

    def get(self, which: str) -> Callable[..., Any]:
        """Raises HandlerMissing."""
        found: Callable[..., Any] | None = getattr(self, which)
        if found is None:
            raise HandlerMissing(self.job_name, which)
        return found


@dataclass(kw_only=True)
class TaskSpec(_EventSpec):
    handlers: Handlers

    @property
    def handles_errors(self) -> bool:
        return self.handlers.on_error is not None
