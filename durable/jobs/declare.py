"""Declare keyed jobs on an app or a registry: `@app.continuous`, `@app.debounce`, `app.task_job`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, TypedDict, TypeVar, Unpack, get_args, overload

from durable.checks import integer, shown
from durable.codec import Codec
from durable.definition import Definition
from durable.durations import Duration, seconds
from durable.errors import ConfigurationError, SerializationError
from durable.execution import DEFAULT_QUEUE
from durable.execution_log import LogLevel
from durable.job import JobKind, TurnPolicy
from durable.jobs.context import ContinuousContext, DebounceContext
from durable.jobs.continuous import Continuous
from durable.jobs.debounce import Debounce
from durable.jobs.handlers import checked_handler, checked_reducer
from durable.jobs.keyed import JobHome, Keyed
from durable.jobs.schedule import Schedule
from durable.jobs.spec import AT_ONCE, ContinuousSpec, DebounceSpec, Handlers, KeyedSpec, OnExhausted, TaskSpec
from durable.jobs.task import Task
from durable.options import TaskOptions, checked_task_options
from durable.retry import NO_RETRY, Retry, checked_retry, exponential
from durable.settings import checked_name

__all__ = ["JobDeclarations", "JobOptions"]

S = TypeVar("S")
E = TypeVar("E")
K = TypeVar("K", bound=Keyed[Any])

MOST_EVENTS = 10_000
LONGEST_WINDOW = 3_650 * 86_400.0
SHORTEST_WINDOW = 0.001
FLUSH_RETRY = Retry(max_attempts=5, delay=exponential("1s", max="30s"))
"""What a Debounce does unless told otherwise: a flush that fails once must not lose its batch to the dead letters."""


class JobOptions(TypedDict, total=False):
    """What every kind of job takes."""

    retry: Retry | None
    """None: a single attempt; of a flush of a Debounce, five."""
    timeout: Duration | None
    """For one attempt of a turn; None: no limit."""
    queue: str
    priority: int
    max_deliveries: int
    """Claims of one turn without an end, after which it counts as failed."""
    log_level: LogLevel | None
    """The least that is logged about its turns; None goes by the logger `durable`."""
    on_exhausted: OnExhausted
    """After the last attempt: "fail" keeps what failed, for a redrive; "purge" throws it away; "continue" goes on."""
    state_version: int
    """Raise it when the state's type changes in a way that old states do not fit."""
    migrate: Callable[[Any, int], Any] | None
    """Called with the plain JSON of a state of another version, and that version; gives the JSON of this one."""


class JobDeclarations(ABC):
    """What the registry derives from; it remembers what is declared. A job's turns are claimed under `kind:name`."""

    @abstractmethod
    def _keep(self, job: K) -> K:
        """Remember the declared job."""

    @abstractmethod
    def _add_job(self, spec: KeyedSpec, function: Callable[..., Any] | None, options: TaskOptions) -> Definition:
        """Remember the definition of its turns; raises AlreadyRegistered."""

    @abstractmethod
    def _codec_of_jobs(self) -> Codec: ...

    @abstractmethod
    def _home_of_jobs(self) -> JobHome: ...

    def continuous(
        self,
        *,
        state: type[S],
        schedule: Schedule,
        name: str | None = None,
        start_immediately: bool = True,
        **options: Unpack[JobOptions],
    ) -> Callable[[Callable[[ContinuousContext[S]], Any]], Continuous[S]]:
        """Register a function that runs for each key on a schedule, with a state of its own.

        Without `retry`, a run that fails is followed by the next planned one. With it, `on_exhausted` says what then:
        "fail" keeps the job without a next run until it is triggered or ended, "continue" plans the next run, "purge"
        ends the job and forgets its state; this also where there is no retry, at the first failure.
        """
        _schedule(schedule)
        if not isinstance(start_immediately, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"start_immediately is {shown(start_immediately)}; give True or False")

        def declare(function: Callable[[ContinuousContext[S]], Any]) -> Continuous[S]:
            own = _name(function, name)
            spec = ContinuousSpec(
                **self._common(JobKind.CONTINUOUS, own, state, options),
                schedule=schedule,
                start_immediately=start_immediately,
                handler=function,
            )
            definition = self._declare(spec, function, NO_RETRY, options)
            return self._keep(Continuous[S](spec, definition, self._home_of_jobs))

        return declare

    @overload
    def debounce(
        self,
        *,
        event: type[E],
        flush_after: Duration,
        name: str | None = None,
        max_events: int | None = None,
        window: Literal["first", "last"] = "first",
        max_wait: Duration | None = None,
        dedupe_window: Duration = "1d",
        **options: Unpack[JobOptions],
    ) -> Callable[[Callable[[DebounceContext[E, E]], Any]], Debounce[E, E]]: ...
    @overload
    def debounce(
        self,
        *,
        event: type[E],
        state: type[S],
        reducer: Callable[[S | None, E], S],
        flush_after: Duration,
        initial_state: S | None = None,
        name: str | None = None,
        max_events: int | None = None,
        window: Literal["first", "last"] = "first",
        max_wait: Duration | None = None,
        dedupe_window: Duration = "1d",
        **options: Unpack[JobOptions],
    ) -> Callable[[Callable[[DebounceContext[S, E]], Any]], Debounce[S, E]]: ...
    def debounce(
        self,
        *,
        event: Any,
        flush_after: Duration,
        state: Any = None,
        reducer: Callable[[Any, Any], Any] | None = None,
        initial_state: Any = None,
        name: str | None = None,
        max_events: int | None = None,
        window: Literal["first", "last"] = "first",
        max_wait: Duration | None = None,
        dedupe_window: Duration = "1d",
        **options: Unpack[JobOptions],
    ) -> Callable[[Callable[..., Any]], Debounce[Any, Any]]:
        """Register a function that is given the events of a key together.

        A batch flushes `flush_after` its first event, or with window="last" after its last one, but `max_wait` after
        the first at the latest; and as soon as it has `max_events`. `reducer(state, event)` makes the state of a batch
        in the executor, when it flushes: first from `initial_state`, None unless given; without one the last event is
        the state. A flush that fails is tried 5 times unless `retry` says otherwise; then the batch is kept for
        `redrive`, and with on_exhausted="purge" thrown away.
        """
        policy = _window(flush_after, window, max_wait, max_events)
        if (state is None) != (reducer is None):
            raise ConfigurationError("give state and reducer together, or neither")
        dedupe = seconds(dedupe_window, "dedupe_window", maximum=LONGEST_WINDOW)

        if reducer is None and initial_state is not None:
            raise ConfigurationError("initial_state is for a reducer; without one the state is the last event")
        if reducer is not None:
            checked_reducer(reducer)
            self._check_initial(initial_state, state)

        def declare(function: Callable[..., Any]) -> Debounce[Any, Any]:
            own = _name(function, name)
            spec = DebounceSpec(
                **self._common(JobKind.DEBOUNCE, own, event if state is None else state, options),
                policy=policy,
                event_type=event,
                dedupe_window=dedupe,
                initial_state=initial_state,
                reducer=reducer,
                handler=function,
            )
            definition = self._declare(spec, function, FLUSH_RETRY, options)
            return self._keep(Debounce[Any, Any](spec, definition, self._home_of_jobs))

        return declare

    def task_job(
        self,
        name: str,
        *,
        state: type[S],
        event: type[E],
        dedupe_window: Duration = "1d",
        **options: Unpack[JobOptions],
    ) -> Task[S, E]:
        """Declare a Task job: its handlers are set by `@job.on_event`, `@job.execute`, `@job.on_idle`, `@job.on_error`.

        Without `retry`, an event whose handler fails is kept as failed, for `redrive`, and the next is handled; with
        on_exhausted="purge" it is thrown away. A turn is one whole: what any of its handlers raises fails it, and none
        of what they did is kept.
        """
        spec = TaskSpec(
            handlers=Handlers(name),
            **self._common(JobKind.TASK, checked_name(name, "the job's name"), state, options),
            policy=AT_ONCE,
            event_type=event,
            dedupe_window=seconds(dedupe_window, "dedupe_window", maximum=LONGEST_WINDOW),
        )
        return self._keep(Task[S, E](spec, self._declare(spec, None, NO_RETRY, options), self._home_of_jobs))

    # --- inside --------------------------------------------------------------------------------------------

    def _check_initial(self, initial_state: Any, state: Any) -> None:
        if initial_state is None:
            return
        try:
            self._codec_of_jobs().value(state, "state").dump(initial_state, "initial_state")
        except SerializationError as error:
            raise ConfigurationError(str(error)) from None

    def _common(self, kind: JobKind, name: str, state: Any, options: JobOptions) -> dict[str, Any]:
        on_exhausted = options.get("on_exhausted", "fail")
        if on_exhausted not in get_args(OnExhausted):
            raise ConfigurationError(
                f"on_exhausted is {on_exhausted!r}; give one of {', '.join(get_args(OnExhausted))}"
            )
        if on_exhausted == "continue" and kind is not JobKind.CONTINUOUS:
            raise ConfigurationError('on_exhausted="continue" is for a Continuous; give "fail" or "purge"')
        if ":" in name:
            # The readable id of a job is kind:name:key, and a key may hold anything.
            raise ConfigurationError(f"the job's name {name!r} contains a colon")
        migrate = options.get("migrate")
        if migrate is not None:
            checked_handler(migrate, "migrate", "state", "version")
        return {
            "kind": kind,
            "name": name,
            "codec": self._codec_of_jobs,
            "state_type": state,
            "state_version": integer(options.get("state_version", 1), "state_version", 1, 2**31 - 1),
            "migrate": migrate,
            "on_exhausted": on_exhausted,
        }

    def _declare(
        self, spec: KeyedSpec, function: Callable[..., Any] | None, retry: Retry, options: JobOptions
    ) -> Definition:
        unknown = sorted(options.keys() - JobOptions.__annotations__.keys())
        if unknown:
            raise ConfigurationError(f"unknown option {unknown[0]!r} of {spec.kind} {spec.name!r}")
        checked = checked_task_options(
            retry=checked_retry(options.get("retry")) or retry,
            timeout=options.get("timeout"),
            delay=0,
            queue=options.get("queue", DEFAULT_QUEUE),
            priority=options.get("priority", 0),
            version=1,
            max_deliveries=options.get("max_deliveries", 5),
            log_level=options.get("log_level"),
        )
        return self._add_job(spec, function, checked)


def _name(function: Callable[..., Any], name: str | None) -> str:
    checked_handler(function, "a job", "ctx")
    return checked_name(getattr(function, "__name__", "") if name is None else name, "the job's name")


def _schedule(schedule: object) -> None:
    if not all(hasattr(schedule, method) for method in ("first", "postponed", "next", "describe")):
        raise ConfigurationError('schedule must be made by every("30m") or cron("0 5 * * *")')


def _window(flush_after: Duration, window: str, max_wait: Duration | None, max_events: int | None) -> TurnPolicy:
    length = seconds(flush_after, "flush_after", minimum=SHORTEST_WINDOW, maximum=LONGEST_WINDOW)
    most = None if max_events is None else integer(max_events, "max_events", 1, MOST_EVENTS)
    if window == "first":
        if max_wait is not None:
            raise ConfigurationError('max_wait is for window="last"; with "first" a batch never waits longer')
        return TurnPolicy(length, None, most)
    if window != "last":
        raise ConfigurationError(f'window is {window!r}; give "first" or "last"')
    longest = LONGEST_WINDOW if max_wait is None else seconds(max_wait, "max_wait", maximum=LONGEST_WINDOW)
    if longest < length:
        raise ConfigurationError(f"max_wait is {longest:g} s, shorter than flush_after, {length:g} s")
    return TurnPolicy(length, longest, most)
