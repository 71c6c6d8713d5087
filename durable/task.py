"""Definitions: a registered function with its options. It stays callable; enqueueing it makes an execution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from durable.callbacks import store_callback
from durable.checks import shown
from durable.child import Child
from durable.definition import Definition, new_execution, new_executions
from durable.errors import ConfigurationError, Continue, ErrorInfo
from durable.events import Fact
from durable.execution import NewExecution, Status, WakeResult
from durable.handle import Handle
from durable.notice import NewNotice
from durable.options import ChildOptions, EnqueueOptions, Overrides, checked_overrides, checked_text
from durable.pool_rows import PoolConfig, PoolTally
from durable.script import Script
from durable.slices import Gradual, in_slices
from durable.stored_errors import store_error

__all__ = ["Home", "SleepingTask", "Task", "TaskFunction", "Typed", "checked_task_name"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
F_co = TypeVar("F_co", covariant=True)


class Home(Protocol):
    """The app a definition belongs to, as far as a definition needs it."""

    @property
    def stores_in_parts(self) -> bool:
        """The inputs of many executions may be made while it stores those before them."""
        ...

    async def enqueue_new(self, task: Task[..., R], new: NewExecution, connection: Any) -> Handle[R]: ...

    async def enqueue_all(
        self, task: Task[..., R], rows: Sequence[NewExecution], connection: Any
    ) -> list[Handle[R]]: ...

    async def wake(self, task_name: str, sleeping_id: str, output: str | None, error: str | None) -> WakeResult: ...

    def handle(self, task: Task[..., R], execution_id: str) -> Handle[R]: ...

    def new_id(self) -> str: ...

    def new_ids(self, count: int) -> list[str]: ...

    async def play(self, script: Script[T], connection: Any = None) -> T: ...

    def notices(self, facts: Iterable[Fact]) -> tuple[NewNotice, ...]: ...

    async def pool_config(self, declared: PoolConfig) -> PoolConfig: ...

    async def configure_pool(self, pool: PoolConfig, fields: frozenset[str]) -> PoolConfig: ...

    async def pool_tallies(self, pool: str, over: float) -> list[PoolTally]: ...


class Typed(Protocol[F_co]):
    """What the type checkers see of a definition: its parameters and result as a function."""

    @property
    def shape(self) -> F_co: ...


class Task(Generic[P, R]):
    """A registered function as others use it: P are its parameters without the context, R is its result."""

    def __init__(self, definition: Definition, home: Callable[[], Home]) -> None:
        self.definition = definition
        self._home = home

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def shape(self) -> Callable[P, R]:
        """For type checkers only: `enqueue(order, delay="1m")` is checked through it, options and arguments alike."""
        raise AttributeError("shape exists for type checkers only")

    @overload
    async def enqueue(self: Typed[Callable[[], R]], **options: Unpack[EnqueueOptions]) -> Handle[R]: ...
    @overload
    async def enqueue(self: Typed[Callable[[A], R]], a: A, /, **options: Unpack[EnqueueOptions]) -> Handle[R]: ...
    @overload
    async def enqueue(
        self: Typed[Callable[[A, B], R]], a: A, b: B, /, **options: Unpack[EnqueueOptions]
    ) -> Handle[R]: ...
    @overload
    async def enqueue(
        self: Typed[Callable[[A, B, C], R]], a: A, b: B, c: C, /, **options: Unpack[EnqueueOptions]
    ) -> Handle[R]: ...
    @overload
    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]: ...
    async def enqueue(self, *args: Any, **kwargs: Any) -> Handle[Any]:
        """Store an execution; it is durable when this returns.

        Arguments by position and the options of EnqueueOptions; arguments by name where no option has their name
        (`with_options` for both at once). Raises InvalidInput, SerializationError, ConfigurationError,
        IdempotencyConflict; nothing is stored then. Calls that arrive while a write is in flight share the next one.
        """
        arguments, options = self.split(kwargs)
        return await self._enqueue(args, arguments, options)

    def with_options(self, **options: Unpack[EnqueueOptions]) -> Optioned[P, R]:
        """The task with options set apart, so that `enqueue` takes the function's own parameters and nothing else."""
        checked_overrides(self.definition.options, options)
        return Optioned(self, dict(options))

    async def enqueue_many(
        self: Typed[Callable[[A], R]], inputs: Iterable[A], **options: Unpack[EnqueueOptions]
    ) -> list[Handle[R]]:
        """Store one execution for each input, all or none, in one transaction; handles in the order of inputs.

        Raises as enqueue does; the error names the place of a bad input, as `inputs[3]`.
        """
        task = cast("Task[..., R]", self)
        overrides = checked_overrides(task.definition.options, options)
        home = task._home()
        given = list(inputs)
        dumped = task.definition.dump_inputs(given)
        is_late = overrides.connection is None and home.stores_in_parts and task.definition.may_dump_late
        stored = Gradual(dumped, len(given)) if is_late else await in_slices(dumped)
        rows = new_executions(task.definition, stored, overrides, home.new_ids(len(stored)))
        return await home.enqueue_all(task, rows, overrides.connection)

    @overload
    def child(self: Typed[Callable[[], R]], **options: Unpack[ChildOptions]) -> Child[R]: ...
    @overload
    def child(self: Typed[Callable[[A], R]], a: A, /, **options: Unpack[ChildOptions]) -> Child[R]: ...
    @overload
    def child(self: Typed[Callable[[A, B], R]], a: A, b: B, /, **options: Unpack[ChildOptions]) -> Child[R]: ...
    @overload
    def child(
        self: Typed[Callable[[A, B, C], R]], a: A, b: B, c: C, /, **options: Unpack[ChildOptions]
    ) -> Child[R]: ...
    @overload
    def child(self, *args: P.args, **kwargs: P.kwargs) -> Child[R]: ...
    def child(self, *args: Any, **kwargs: Any) -> Child[Any]:
        """A child for `Spawn`: validated here, stored when the parent's turn ends. Raises as enqueue does."""
        arguments, options = self.split(kwargs)
        overrides = checked_overrides(self.definition.options, options, is_child=True)
        new = self.new(args, arguments, overrides, _UNPLACED)
        return Child(new, self.definition.load_result, frozenset(options), (args, arguments, options))

    def continue_with(self, *args: P.args, **kwargs: P.kwargs) -> Continue:
        """What this task raises to go on with other arguments: `raise pages.continue_with(cursor)`.

        The turn ends without a result, and the same execution is ready again at once, behind what is due already,
        with all its attempts. At most a million turns. Raises as enqueue does for bad arguments.
        """
        return Continue(self.name, self.definition.dump_input(args, kwargs))

    def check_callback(self) -> None:
        """Raise ConfigurationError unless it takes one Completion; for OnComplete."""
        self.definition.check_callback()

    def callback_text(self, context: Any, *, when: Iterable[Status] | None, is_within: bool) -> str:
        """What a record keeps of a call of this task for its end; for OnComplete."""
        stored = self.definition.dump_context(context, is_within=is_within)
        new = new_execution(self.definition, "{}", Overrides(self.definition.options), _UNPLACED)
        return store_callback(new, when=when, context=stored, is_within=is_within)

    def handle(self, execution_id: str) -> Handle[R]:
        """A handle for an execution of this task that exists, or may. Does not look whether it does."""
        return self._home().handle(self, execution_id)

    async def _enqueue(self, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]) -> Handle[R]:
        definition = self.definition
        overrides = checked_overrides(definition.options, options) if options else definition.plain
        home = self._home()
        new = self.new(args, kwargs, overrides, home.new_id())
        return await home.enqueue_new(self, new, overrides.connection)

    def new(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], overrides: Overrides, execution_id: str
    ) -> NewExecution:
        """The record of one call, validated; for the clients."""
        return new_execution(self.definition, self.definition.dump_input(args, kwargs), overrides, execution_id)

    def split(self, kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arguments of the function and options of the call; a parameter's name goes to the function."""
        if not kwargs:
            return kwargs, kwargs
        names = self.definition.parameter_names
        arguments = {name: value for name, value in kwargs.items() if name in names or name not in _OPTION_NAMES}
        return arguments, {name: value for name, value in kwargs.items() if name not in arguments}


_OPTION_NAMES = EnqueueOptions.__annotations__.keys() | ChildOptions.__annotations__.keys()


_UNPLACED = "00000000-0000-0000-0000-000000000000"
"""The id of a child before its parent's turn ends and gives it one of its own."""


class Optioned(Generic[P, R]):
    """A task with options of one enqueue set apart."""

    def __init__(self, task: Task[P, R], options: dict[str, Any]) -> None:
        self._task = task
        self._options = options

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """See Task.enqueue."""
        return await self._task._enqueue(args, kwargs, self._options)  # pyright: ignore[reportPrivateUsage]


class TaskFunction(Task[P, R], Generic[P, R, Q, T]):
    """A definition that can be called as the function it was made from: Q and T are its own parameters and result."""

    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> T:
        """Run the function here and now: nothing is stored, validated or retried."""
        return self.definition.function(*args, **kwargs)  # type: ignore[no-any-return]


class SleepingTask(Task[[str], R]):
    """A task without a function: its execution waits under a unique id until somebody wakes it, or its deadline."""

    async def wakeup(self, sleeping_id: str, output: R) -> WakeResult:
        """Complete the execution of that id with `output`.

        The first wake-up wins and is kept for an execution that does not exist yet; repeating it is harmless.
        """
        checked_text(sleeping_id, "sleeping_id")
        return await self._home().wake(self.name, sleeping_id, self.definition.dump_result(output), None)

    async def wakeup_failed(self, sleeping_id: str, message: str) -> WakeResult:
        """Fail the execution of that id, as `wakeup` completes it."""
        checked_text(sleeping_id, "sleeping_id")
        error = store_error(ErrorInfo("WokenAsFailed", message, is_retryable=False))
        return await self._home().wake(self.name, sleeping_id, None, error)


def checked_task_name(task: object) -> str | None:
    """The name of a task by which to filter; None for None. Raises ConfigurationError for what is no task."""
    if task is None:
        return None
    if not isinstance(task, Task):
        raise ConfigurationError(f"task is {shown(task)}; give a declared task or workflow, not its name")
    return cast(Task[..., Any], task).name
