"""Workflows as users hold them: the definition, and the handle of one of its executions."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from durable.checks import integer
from durable.codec import Codec
from durable.definition import WorkflowSpec
from durable.errors import ConfigurationError
from durable.execution import FinishedExecution
from durable.handle import Handle, HandleClient
from durable.options import EnqueueOptions
from durable.script import Script
from durable.task import Home, TaskFunction, Typed
from durable.workflow import calls
from durable.workflow.context import WorkflowContext
from durable.workflow.fork import fork, restart
from durable.workflow.names import checked_name
from durable.workflow.requests import Query, TypedUpdate, Update, UpdateOptions
from durable.workflow.said import Chunk, PublishedValues
from durable.workflow.takes import takes_context_alone
from durable.workflow.traps import warn_of_traps
from durable.workflow_rows import Published, SendOutcome

__all__ = ["TypedWorkflow", "Workflow", "WorkflowClient", "WorkflowDecorator", "WorkflowHandle"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
F_co = TypeVar("F_co", covariant=True)


class WorkflowClient(HandleClient, Protocol):
    """What a handle of a workflow asks of its app."""

    @property
    def codec(self) -> Codec: ...

    async def play(self, script: Script[T], connection: Any = None) -> T: ...

    def new_id(self) -> str: ...


class WorkflowHandle(Handle[R]):
    """One execution of a workflow, from its id."""

    __slots__ = ("_codec", "_play", "_workflows")

    def __init__(
        self,
        client: WorkflowClient,
        execution_id: str,
        task_name: str,
        read: Callable[[FinishedExecution], R],
    ) -> None:
        super().__init__(client, execution_id, task_name, read)
        self._play = client.play
        self._codec = client.codec
        self._workflows = client

    async def signal(
        self, name: str, value: Any = None, *, signal_id: str | None = None, connection: Any = None
    ) -> SendOutcome:
        """Send a signal: durable when this returns, kept until the workflow waits for it, and given to it once.

        `signal_id` makes a repeated call a no-op, told by the outcome `duplicate`, as long as the execution is kept,
        which remembers each one. With a connection it is part of the caller's transaction. `finished` is the outcome
        for a workflow that has ended. Raises ExecutionNotFound, SerializationError, and ConfigurationError for what is
        no name.
        """
        return await self._play(calls.signal(self.execution_id, self._codec, name, value, signal_id), connection)

    @overload
    async def value(self, key: str) -> Any: ...
    @overload
    async def value(self, key: str, shape: type[T]) -> T | None: ...
    async def value(self, key: str, shape: Any = Any) -> Any:
        """What the workflow has published under a key; None where it has not. Asks no executor.

        Raises ExecutionNotFound, and SerializationError for what is not of that shape.
        """
        found = await self._play(calls.one_value(self.execution_id, key))
        return None if found is None else self._read_value(found, shape)

    async def values(self) -> PublishedValues:
        """All that the workflow has published, by key."""
        return await self._play(calls.all_values(self.execution_id, self._codec))

    @overload
    def watch(self, key: str) -> AsyncIterator[Any]: ...
    @overload
    def watch(self, key: str, shape: type[T]) -> AsyncIterator[T]: ...
    def watch(self, key: str, shape: Any = Any) -> AsyncIterator[Any]:
        """The value of a key as it is, and again whenever it has become another, until the workflow has ended.

        Values that follow each other faster than they are read are left out, but never the last. Raises as `value`.
        """
        return self._watch(checked_name(key, "key"), shape)

    async def _watch(self, key: str, shape: Any) -> AsyncIterator[Any]:
        seen: Published | None = None
        while True:
            seen = await self._play(calls.next_value(self.execution_id, key, seen))
            if seen is None:
                return
            yield self._read_value(seen, shape)

    async def query(self, query: Query[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a `@flow.query` over what the workflow has published; runs here, and asks no executor.

        What the function raises passes through. Raises ExecutionNotFound, and ConfigurationError for a query of another
        workflow.
        """
        return await self._play(calls.query(self.execution_id, self.task_name, query, self._codec, *args, **kwargs))

    @overload
    async def update(self, update: TypedUpdate[Callable[[], T]], /, **options: Unpack[UpdateOptions]) -> T: ...
    @overload
    async def update(self, update: TypedUpdate[Callable[[A], T]], a: A, /, **options: Unpack[UpdateOptions]) -> T: ...
    @overload
    async def update(
        self, update: TypedUpdate[Callable[[A, B], T]], a: A, b: B, /, **options: Unpack[UpdateOptions]
    ) -> T: ...
    @overload
    async def update(
        self, update: TypedUpdate[Callable[[A, B, C], T]], a: A, b: B, c: C, /, **options: Unpack[UpdateOptions]
    ) -> T: ...
    @overload
    async def update(self, update: TypedUpdate[Callable[P, T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def update(self, update: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Ask the workflow to do something, and give its answer; it is done once, also where this is called again.

        `update_id` names the request: with the same one nothing is sent again, and the answer is the same. `timeout`
        is for the answer: None waits for ever. Raises InvalidInput before anything is sent; UpdateRefused where the
        validator raised or the workflow had ended; UpdateFailed where the handler raised, or the workflow was ended
        by force; UpdateTimeout; ExecutionNotFound.
        """
        script = calls.update(self.execution_id, self.task_name, update, self._codec, args, kwargs)
        return await self._play(script)

    @overload
    def stream(self, *, after: int = 0) -> AsyncIterator[Chunk[Any]]: ...
    @overload
    def stream(self, shape: type[T], *, after: int = 0) -> AsyncIterator[Chunk[T]]: ...
    def stream(self, shape: Any = Any, *, after: int = 0) -> AsyncIterator[Chunk[Any]]:
        """What the workflow and its steps emit, from the piece after a number on, until it has ended.

        `after` is the number of the last piece that was read. Pieces of the body come once; those of a step that was
        tried again come again. Raises ExecutionNotFound, and SerializationError for what is not of that shape.
        """
        return self._stream(shape, integer(after, "after", 0, 2**31 - 1))

    async def _stream(self, shape: Any, after: int) -> AsyncIterator[Chunk[Any]]:
        read = self._codec.value(shape)
        while True:
            found = await self._play(calls.next_chunks(self.execution_id, after))
            if found is None:
                return
            for after, payload, at in found:
                yield Chunk(after, read.load(payload, f"chunk {after}"), at)

    def _read_value(self, found: Published, shape: Any) -> Any:
        return self._codec.value(shape).load(found.value, f"published value {found.key!r}")

    async def fork(self, from_step: str | None = None) -> WorkflowHandle[R]:
        """Run the workflow again from a step on, as an execution of its own, by the code of today; gives its handle.

        `from_step` is a step's key such as `charge#2`, its name for the first of that name, or the key of anything else
        in the history. What came before is not done again: it has its stored results, and its children their ends; a
        child that had not ended is started anew. None: from where it failed, before it began to undo its work; all of
        it for one that has completed, or waits. What was undone stays undone, and is not done again: fork a workflow
        that has undone its work from before the first step that was undone. Signals that it had not met are not
        copied. Its stream begins with what had been streamed, its values are published again by its first turn, and an
        approval that was not decided is asked for anew. Raises ExecutionNotFound, and ConfigurationError for a step
        that the history does not have.
        """
        return await self._again(fork(self.execution_id, from_step, self._codec, self._workflows.new_id))

    async def restart(self) -> WorkflowHandle[R]:
        """Run the workflow again from the beginning, with the same input, as an execution of its own."""
        return await self._again(restart(self.execution_id, self._workflows.new_id()))

    async def _again(self, made: Script[str]) -> WorkflowHandle[R]:
        new_id = await self._play(made)
        return WorkflowHandle(self._workflows, new_id, self.task_name, self._read)


class TypedWorkflow(Protocol[F_co]):
    """As Typed, of workflows alone."""

    @property
    def shape(self) -> F_co: ...

    @property
    def is_workflow(self) -> Literal[True]: ...


class Workflow(TaskFunction[P, R, Concatenate[WorkflowContext, P], Coroutine[object, object, R]], Generic[P, R]):
    """A registered workflow: P are the parameters of its body without the context, R is its result."""

    @property
    def app(self) -> Home:
        """The app that it belongs to. Raises NotOpen, or what the registry says, while it belongs to none."""
        return self._home()

    @property
    def is_workflow(self) -> Literal[True]:
        return True

    @property
    def _spec(self) -> WorkflowSpec:
        spec = self.definition.spec
        assert isinstance(spec, WorkflowSpec)
        return spec

    @overload
    async def enqueue(self: Typed[Callable[[], R]], **options: Unpack[EnqueueOptions]) -> WorkflowHandle[R]: ...
    @overload
    async def enqueue(
        self: Typed[Callable[[A], R]], a: A, /, **options: Unpack[EnqueueOptions]
    ) -> WorkflowHandle[R]: ...
    @overload
    async def enqueue(
        self: Typed[Callable[[A, B], R]], a: A, b: B, /, **options: Unpack[EnqueueOptions]
    ) -> WorkflowHandle[R]: ...
    @overload
    async def enqueue(
        self: Typed[Callable[[A, B, C], R]], a: A, b: B, c: C, /, **options: Unpack[EnqueueOptions]
    ) -> WorkflowHandle[R]: ...
    @overload
    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> WorkflowHandle[R]: ...
    async def enqueue(  # pyright: ignore[reportIncompatibleMethodOverride] - the same overloads, with a narrower result
        self, *args: Any, **kwargs: Any
    ) -> WorkflowHandle[Any]:
        """See Task.enqueue."""
        arguments, options = self.split(kwargs)
        return cast("WorkflowHandle[Any]", await self._enqueue(args, arguments, options))

    def handle(self, execution_id: str) -> WorkflowHandle[R]:
        """See Task.handle."""
        return cast("WorkflowHandle[R]", super().handle(execution_id))

    def finalize(
        self, function: Callable[[WorkflowContext], Coroutine[Any, Any, None]]
    ) -> Callable[[WorkflowContext], Coroutine[Any, Any, None]]:
        """Register what runs before every end of the workflow, also a failed or cancelled one, after the undoing.

        An async def that takes the context alone; raises ConfigurationError for anything else, and for a second one.
        """
        if not inspect.iscoroutinefunction(function) or not takes_context_alone(function):
            raise ConfigurationError(
                f"the finalize of workflow {self.name!r} must be an async def that takes the WorkflowContext alone"
            )
        if self._spec.finalize is not None:
            raise ConfigurationError(f"workflow {self.name!r} has a finalize already")
        self._spec.finalize = function
        warn_of_traps(function)
        return function

    def query(self, function: Callable[Concatenate[PublishedValues, Q], T]) -> Query[Q, T]:
        """Register a function over the published values, for `handle.query`: read-only, and run by who asks."""
        made = Query(self.name, function)
        self._keep(self._spec.queries, made.name, made)
        return made

    def update(self, function: Callable[Concatenate[WorkflowContext, Q], Coroutine[Any, Any, T]]) -> Update[Q, T]:
        """Register a handler for `handle.update`: an async def, run beside the body with the same context.

        Its steps are durable as those of the body, with which it shares `ctx.state`. The body's return waits for the
        handlers that run; where the body fails or is stopped, they are cancelled. What comes after that is refused.
        """
        made = Update(self.name, function, lambda: self.definition.codec)
        self._keep(self._spec.updates, made.name, made)
        warn_of_traps(function)
        return made

    def _keep(self, kept: dict[str, Any], name: str, made: Any) -> None:
        if name in kept:
            raise ConfigurationError(f"workflow {self.name!r} has {kept[name]!r} already")
        kept[name] = made


class WorkflowDecorator:
    """What `app.workflow(…)` with options gives."""

    def __init__(self, register: Callable[[Callable[..., Any]], Any]) -> None:
        self._register = register

    def __call__(self, function: Callable[Concatenate[WorkflowContext, P], Coroutine[Any, Any, R]]) -> Workflow[P, R]:
        return self._register(function)  # type: ignore[no-any-return]
