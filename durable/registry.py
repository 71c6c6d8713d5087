"""Register definitions by name. A registry touches no database; an app is one, and may include others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar, Unpack, overload

from durable.checks import integer
from durable.codec import Codec
from durable.context import TaskContext, wants_context
from durable.decorators import Anything, FinalizedDecorator, LoopDecorator, ParentDecorator, TaskDecorator
from durable.definition import Definition, LoopSpec, ParentSpec, SequenceSpec, WorkflowSpec
from durable.durations import Duration, seconds
from durable.errors import AlreadyRegistered, ConfigurationError, NotOpen, UnknownTask
from durable.execution import DEFAULT_QUEUE, Kind, NewExecution
from durable.execution_log import LogLevel
from durable.jobs.declare import JobDeclarations
from durable.jobs.keyed import JobHome, Keyed
from durable.jobs.spec import KeyedSpec
from durable.jobs.timer_turn import TIMER_TURNS, timer_turns
from durable.options import DefinitionOptions, SleepingOptions, TaskOptions, checked_pool, checked_task_options
from durable.pool import Pool
from durable.pool_options import DeclaredPool, Rate, declared_pool
from durable.pool_rows import PoolConfig
from durable.retry import Retry, checked_retry
from durable.settings import checked_name
from durable.task import Home, SleepingTask, Task, TaskFunction, Typed
from durable.workflow.context import WorkflowContext
from durable.workflow.takes import takes_context
from durable.workflow.traps import warn_of_traps
from durable.workflow.workflow import Workflow, WorkflowDecorator

__all__ = ["Registry"]

P = ParamSpec("P")
R = TypeVar("R")
K = TypeVar("K", bound=Keyed[Any])
F = TypeVar("F")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")

MOST_ITERATIONS = 1_000_000


class Registry(JobDeclarations):
    """Names and definitions. Declare tasks on one in a module of their own, then `app.include(registry)`."""

    def __init__(self, *, codec: Codec | None = None) -> None:
        self._definitions: dict[str, Definition] = {}
        self._jobs: dict[str, Keyed[Any]] = {}
        self._pools: dict[str, Pool] = {}
        self._owner: Registry | None = None
        self._codec = codec or Codec()
        self._timer_turns = timer_turns(lambda: self.codec)

    # --- look-up -------------------------------------------------------------------------------------------

    def __contains__(self, name: object) -> bool:
        return name in self._definitions

    def __iter__(self) -> Iterator[str]:
        return iter(self._definitions)

    def __getitem__(self, name: str) -> Definition:
        """The definition of a name; raises UnknownTask. That of the turns of timers belongs to no name of a user's."""
        found = self._definitions.get(name) or self.find(name)
        if found is None:
            raise UnknownTask(name)
        return found

    def find(self, name: str) -> Definition | None:
        return self._timer_turns if name == TIMER_TURNS else self._definitions.get(name)

    def log_level_of(self, name: str) -> int | None:
        """The least that is logged about executions of a name; None goes by the logger `durable`."""
        found = self.find(name)
        return None if found is None else found.options.log_level

    @property
    def claimed_names(self) -> tuple[str, ...]:
        """The names that an executor of these definitions claims; with any task, also the turns of timers."""
        names = {name for name, definition in self._definitions.items() if definition.kind is not Kind.SLEEPING}
        if any(definition.kind is Kind.TASK for definition in self._definitions.values()):
            names.add(TIMER_TURNS)
        return tuple(sorted(names))

    def include(self, *registries: Registry) -> None:
        """Take over all definitions of other registries; raises AlreadyRegistered for a name that is taken."""
        for registry in registries:
            if registry._owner is not None:
                raise ConfigurationError("the registry already belongs to an app")
            for definition in registry._definitions.values():
                self._add(definition)
            for job in registry._jobs.values():
                self._keep(job)
            for pool in registry._pools.values():
                self._add_pool(pool)
            registry._owner = self

    # --- decorators ----------------------------------------------------------------------------------------

    @overload
    def task(
        self, function: Callable[Concatenate[Anything, P], Coroutine[Any, Any, R]], /
    ) -> TaskFunction[Concatenate[Any, P], R, Concatenate[Any, P], Coroutine[object, object, R]]: ...
    @overload
    def task(
        self, function: Callable[Concatenate[TaskContext, P], Coroutine[Any, Any, R]], /
    ) -> TaskFunction[P, R, Concatenate[TaskContext, P], Coroutine[object, object, R]]: ...
    @overload
    def task(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> TaskFunction[P, R, P, Coroutine[object, object, R]]: ...
    @overload
    def task(
        self, function: Callable[Concatenate[Anything, P], R], /
    ) -> TaskFunction[Concatenate[Any, P], R, Concatenate[Any, P], R]: ...
    @overload
    def task(
        self, function: Callable[Concatenate[TaskContext, P], R], /
    ) -> TaskFunction[P, R, Concatenate[TaskContext, P], R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> TaskFunction[P, R, P, R]: ...
    @overload
    def task(
        self,
        /,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        delay: Duration = 0,
        queue: str = DEFAULT_QUEUE,
        priority: int = 0,
        version: int = 1,
        max_deliveries: int = 5,
        pool: DeclaredPool | None = None,
        log_level: LogLevel | None = None,
    ) -> TaskDecorator: ...
    def task(self, function: Any = None, /, **options: Any) -> Any:
        """Register a function, `def` or `async def`; bare, or with options.

        `timeout` bounds one attempt; None means no limit. `delay` passes before the first attempt. Raises
        AlreadyRegistered, and ConfigurationError for what cannot be a task. `log_level` is the least that is logged
        about its executions; None goes by the logger `durable`.
        """
        register = self._registrar(Kind.TASK, options.pop("name", None), None, options)
        return TaskDecorator(register) if function is None else register(function)

    @overload
    def parent(
        self, *, finalize: Task[..., F], name: str | None = None, **options: Unpack[DefinitionOptions]
    ) -> FinalizedDecorator[F]: ...
    @overload
    def parent(
        self,
        *,
        finalize: Callable[..., Coroutine[Any, Any, F]],
        name: str | None = None,
        **options: Unpack[DefinitionOptions],
    ) -> FinalizedDecorator[F]: ...
    @overload
    def parent(
        self, *, finalize: Callable[..., F], name: str | None = None, **options: Unpack[DefinitionOptions]
    ) -> FinalizedDecorator[F]: ...
    @overload
    def parent(
        self, *, finalize: None = None, name: str | None = None, **options: Unpack[DefinitionOptions]
    ) -> ParentDecorator: ...
    def parent(self, *, finalize: Any = None, name: str | None = None, **options: Any) -> Any:
        """Register a function that returns `Spawn(output, children)`. Takes the options of `task`.

        When every child has finished, whatever way, `finalize(output, children)` gives the result: a function of this
        process, run with the parent's timeout and retry policy, or a task, run as an execution of its own. Without it
        the result is a ParentResult. A failing child does not fail the parent; a failing finalize does.
        """
        end = finalize.definition if isinstance(finalize, Task) else finalize
        if end is not None and not isinstance(end, Definition) and not callable(end):
            raise ConfigurationError("finalize must be a function or a task")
        if isinstance(end, Definition) and end.kind == Kind.SLEEPING:
            raise ConfigurationError("finalize cannot be a sleeping task: it takes no input")
        register = self._registrar(Kind.PARENT, name, ParentSpec(end), options)
        return ParentDecorator(register) if finalize is None else FinalizedDecorator[Any](register)

    def loop(
        self,
        *,
        max_iterations: int,
        every: Duration = 0,
        name: str | None = None,
        **options: Unpack[DefinitionOptions],
    ) -> LoopDecorator:
        """Register a function that returns `Done(output)` or `Again()`: one record, one turn after another.

        `every` passes between turns, counted from the end of each; `Again(delay)` sets another. The result is a
        LoopResult; it is not done after `max_iterations` turns. Takes the options of `task`; retries are per turn.
        """
        spec = LoopSpec(integer(max_iterations, "max_iterations", 1, MOST_ITERATIONS), seconds(every, "every"))
        return LoopDecorator(self._registrar(Kind.LOOP, name, spec, {**options}))

    @overload
    def sequence(self, name: str, first: Task[P, R], /, **options: Unpack[DefinitionOptions]) -> Task[P, R]: ...
    @overload
    def sequence(
        self,
        name: str,
        first: Task[P, A],
        second: Typed[Callable[[A], R]],
        /,
        **options: Unpack[DefinitionOptions],
    ) -> Task[P, R]: ...
    @overload
    def sequence(
        self,
        name: str,
        first: Task[P, A],
        second: Typed[Callable[[A], B]],
        third: Typed[Callable[[B], R]],
        /,
        **options: Unpack[DefinitionOptions],
    ) -> Task[P, R]: ...
    @overload
    def sequence(
        self,
        name: str,
        first: Task[P, A],
        second: Typed[Callable[[A], B]],
        third: Typed[Callable[[B], C]],
        fourth: Typed[Callable[[C], R]],
        /,
        **options: Unpack[DefinitionOptions],
    ) -> Task[P, R]: ...
    @overload
    def sequence(
        self,
        name: str,
        first: Task[P, Any],
        second: Task[..., Any],
        third: Task[..., Any],
        fourth: Task[..., Any],
        fifth: Task[..., Any],
        /,
        *others: Task[..., Any],
        **options: Unpack[DefinitionOptions],
    ) -> Task[P, Any]: ...
    def sequence(self, name: str, first: Task[P, Any], *others: Any, **options: Any) -> Task[P, Any]:
        """Register tasks that run one after the other, each with the result of the one before as its only argument.

        The result is that of the last. A task that does not complete ends the sequence as finalize_failed.
        """
        tasks: tuple[Task[..., Any], ...] = (first, *others)
        steps = tuple(task.definition for task in tasks)
        if any(step.kind == Kind.SLEEPING for step in steps[:1]):
            raise ConfigurationError("a sequence cannot begin with a sleeping task")
        definition = self._define(name, Kind.SEQUENCE, None, SequenceSpec(steps), options)
        return Task(definition, self.home)

    def sleeping(
        self, name: str, output: type[R], *, timeout: Duration | None = None, **options: Unpack[SleepingOptions]
    ) -> SleepingTask[R]:
        """Register a task without a function: enqueue it with a unique id, and it waits there for `wakeup`.

        It ends as timed_out `timeout` after its delay, when the next upkeep of an executor sees it (5 s apart unless
        you say otherwise); None means it waits for ever. An id can be used once.
        """
        definition = self._define(name, Kind.SLEEPING, None, None, {**options, "timeout": timeout}, output=output)
        return SleepingTask(definition, self.home)

    @overload
    def workflow(
        self, function: Callable[Concatenate[WorkflowContext, P], Coroutine[Any, Any, R]], /
    ) -> Workflow[P, R]: ...
    @overload
    def workflow(
        self,
        /,
        *,
        name: str | None = None,
        timeout: Duration | None = None,
        delay: Duration = 0,
        queue: str = DEFAULT_QUEUE,
        priority: int = 0,
        version: int = 1,
        max_deliveries: int = 5,
        pool: DeclaredPool | None = None,
    ) -> WorkflowDecorator: ...
    def workflow(self, function: Any = None, /, **options: Any) -> Any:
        """Register an `async def` whose first parameter is a WorkflowContext; bare, or with options.

        `timeout` is for the whole workflow, its waits included; None means no limit. A workflow has no `retry`: its
        steps have. Raises AlreadyRegistered, and ConfigurationError for what cannot be a workflow.
        """
        if "retry" in options:
            raise ConfigurationError("a workflow has no retry; give it to its steps, which are what can be repeated")
        name = options.pop("name", None)

        def register(body: Callable[..., Any]) -> Workflow[..., Any]:
            if not inspect.iscoroutinefunction(body) or not takes_context(body):
                raise ConfigurationError("a workflow is an async def whose first parameter is a WorkflowContext")
            definition = self._define(_name_of(body, name), Kind.WORKFLOW, body, WorkflowSpec(), options)
            warn_of_traps(body)
            return Workflow(definition, self.home)

        return WorkflowDecorator(register) if function is None else register(function)

    def pool(
        self,
        name: str,
        *,
        max_parallelism: int | None = 10,
        max_per_key: int | None = 1,
        keep_order: bool = True,
        rate: Rate | None = None,
        retry: Retry | None = None,
    ) -> Pool:
        """Declare a queue with limits over all executors, at any time, also while the app is open.

        `max_parallelism` executions run at once: 0 starts none, None means no limit. Of one `serial_key` it is
        `max_per_key`, in order; with `keep_order` one that waits for its next attempt holds up those behind it. `rate`
        limits starts. `retry` is the policy of the pool's tasks that have none of their own. These are what the pool
        begins with: it is changed by `Pool.configure`. Declaring it twice gives the same Pool; raises
        ConfigurationError where the two differ.
        """
        declared = declared_pool(
            name, max_parallelism=max_parallelism, max_per_key=max_per_key, keep_order=keep_order, rate=rate
        )
        return self._add_pool(Pool(declared, checked_retry(retry), self.task, self.home))

    @property
    def pools(self) -> Mapping[str, PoolConfig]:
        """The declared pools by name."""
        return {name: pool.declared for name, pool in self._pools.items()}

    def pools_of(self, rows: Sequence[NewExecution]) -> list[PoolConfig]:
        """The declared pools that rows go to; raises ConfigurationError for one of another app."""
        names = {row.queue for row in rows if row.is_pooled}
        unknown = sorted(names - self._pools.keys())
        if unknown:
            raise ConfigurationError(f"pool {unknown[0]!r} is declared on another app; declare it on this one as well")
        return [self._pools[name].declared for name in sorted(names)]

    # --- inside --------------------------------------------------------------------------------------------

    def _registrar(
        self, kind: Kind, name: str | None, spec: ParentSpec | LoopSpec | None, options: dict[str, Any]
    ) -> Callable[[Callable[..., Any]], Any]:
        def register(function: Callable[..., Any]) -> TaskFunction[..., Any, ..., Any]:
            definition = self._define(_name_of(function, name), kind, function, spec, options)
            return TaskFunction(definition, self.home)

        return register

    def _define(
        self,
        name: str,
        kind: Kind,
        function: Callable[..., Any] | None,
        spec: ParentSpec | SequenceSpec | LoopSpec | WorkflowSpec | None,
        options: dict[str, Any],
        *,
        output: Any = None,
    ) -> Definition:
        definition = Definition(
            name=checked_name(name, "the task's name"),
            kind=kind,
            function=function,
            codec=lambda: self.codec,
            options=_options(options),
            spec=spec,
            wants_context=kind is Kind.WORKFLOW or (function is not None and wants_context(function)),
            output=output,
        )
        self._add(definition)
        return definition

    def _add(self, definition: Definition) -> None:
        if definition.name in self._definitions:
            raise AlreadyRegistered(definition.name)
        self._definitions[definition.name] = definition

        if self._owner is not None:
            self._owner._add(definition)

    def _add_job(self, spec: KeyedSpec, function: Callable[..., Any] | None, options: TaskOptions) -> Definition:
        definition = Definition(
            name=spec.task_name,
            kind=Kind.TURN,
            function=function,
            codec=lambda: self.codec,
            options=options,
            spec=spec,
        )
        self._add(definition)
        return definition

    def _keep(self, job: K) -> K:
        self._jobs[job.__calls__.spec.task_name] = job
        if self._owner is not None:
            self._owner._keep(job)
        return job

    def _codec_of_jobs(self) -> Codec:
        return self.codec

    def _home_of_jobs(self) -> JobHome:
        return self.home()

    def _add_pool(self, pool: Pool) -> Pool:
        known = self._pools.setdefault(pool.name, pool)
        if (known.declared, known.retry) != (pool.declared, pool.retry):
            raise ConfigurationError(f"pool {pool.name!r} is declared twice, and differently; change it by configure()")
        if self._owner is not None:
            self._owner._add_pool(pool)
        return known

    @property
    def codec(self) -> Codec:
        """How payloads are stored: the app's codec, also for the registries it includes."""
        return self._codec if self._owner is None else self._owner.codec

    def home(self) -> Home:
        """The app behind the definitions; raises NotOpen for a registry that no app includes."""
        if self._owner is None:
            raise NotOpen("these tasks stand on a registry that no app includes; call app.include(registry)")
        return self._owner.home()


def _name_of(function: Callable[..., Any], name: str | None) -> str:
    """The given name or the function's own; refuses what cannot be a task."""
    if not callable(function):
        raise ConfigurationError(f"a task is made from a function, not from {type(function).__name__}")
    if inspect.isclass(function) or isinstance(function, (staticmethod, classmethod)):
        raise ConfigurationError("a task is made from a function, not from a class or a method")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise ConfigurationError("a task cannot be a generator; return a list, or spawn children")
    own: str = getattr(function, "__name__", "")
    if name is None and own in ("", "<lambda>"):
        raise ConfigurationError("give a name= to a function that has none")
    parameters = list(inspect.signature(function).parameters)
    if parameters[:1] == ["self"]:
        raise ConfigurationError(f"{own or name} is a method; a task is a plain function")
    return own if name is None else name


def _options(given: dict[str, Any]) -> TaskOptions:
    allowed = {"retry", "timeout", "delay", "queue", "priority", "version", "max_deliveries", "pool", "log_level"}
    unknown = sorted(given.keys() - allowed)
    if unknown:
        raise ConfigurationError(f"unknown option {unknown[0]!r}; a task takes {', '.join(sorted(allowed))}")
    defaults: dict[str, Any] = {
        "retry": None, "timeout": None, "delay": 0, "queue": DEFAULT_QUEUE, "priority": 0, "version": 1,
        "max_deliveries": 5,
    }  # fmt: skip
    pool = checked_pool(given)
    given = {name: value for name, value in given.items() if name != "pool"}
    if pool is not None:
        retry = given.get("retry")
        given |= {"queue": pool.name, "is_pooled": True, "retry": pool.retry if retry is None else retry}
    return checked_task_options(**{**defaults, **given})
