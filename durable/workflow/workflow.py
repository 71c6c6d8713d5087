"""Workflows as users hold them: the definition, and the handle of one of its executions."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from durable.codec import Codec
from durable.definition import WorkflowSpec
from durable.errors import ConfigurationError, ExecutionNotFound
from durable.execution import FinishedExecution
from durable.handle import Handle, HandleClient
from durable.options import EnqueueOptions, checked_text
from durable.script import Script, Tell, ask
from durable.storage import Hint
from durable.task import TaskFunction, Typed
from durable.workflow.context import WorkflowContext
from durable.workflow.fork import fork, restart
from durable.workflow.traps import warn_of_traps
from durable.workflow_rows import MessageKind, NewMessage, Published, SendOutcome, Sent

__all__ = ["Workflow", "WorkflowClient", "WorkflowDecorator", "WorkflowHandle"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


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

        `signal_id` makes a repeated call a no-op, told by the outcome `duplicate`. With a connection it is part of the
        caller's transaction. `finished` is the outcome for a workflow that has ended. Raises ExecutionNotFound,
        SerializationError, and ConfigurationError for what is no name.
        """
        checked_text(name, "name")
        payload = self._codec.value(Any).dump(value, f"signal {name!r}")
        if signal_id is not None:
            checked_text(signal_id, "signal_id")
        message = NewMessage(self.execution_id, MessageKind.SIGNAL, name, payload, signal_id)
        sent = await self._play(_send(message), connection)
        if sent.outcome is SendOutcome.NOT_FOUND:
            raise ExecutionNotFound(self.execution_id)
        return sent.outcome

    @overload
    async def value(self, key: str) -> Any: ...
    @overload
    async def value(self, key: str, shape: type[T]) -> T | None: ...
    async def value(self, key: str, shape: Any = Any) -> Any:
        """What the workflow has published under a key; None where it has not. Asks no executor."""
        found = await self._play(_published(self.execution_id, [checked_text(key, "key")]))
        return self._codec.value(shape).load(found[0].value, f"published value {key!r}") if found else None

    async def fork(self, from_step: str | None = None) -> WorkflowHandle[R]:
        """Run the workflow again from a step on, as an execution of its own, by the code of today; gives its handle.

        `from_step` is a step's key such as `charge#2`, its name for the first of that name, or the key of anything else
        in the history. What came before is not done again: it has its stored results, and its children their ends; a
        child that had not ended is started anew. None: from where it failed, before it began to undo its work; all of
        it for one that has completed, or waits. What was undone stays undone. Signals that it had not met are not
        copied. Raises ExecutionNotFound, and ConfigurationError for a step that the history does not have.
        """
        return await self._again(lambda new_id: fork(self.execution_id, from_step, new_id))

    async def restart(self) -> WorkflowHandle[R]:
        """Run the workflow again from the beginning, with the same input, as an execution of its own."""
        return await self._again(lambda new_id: restart(self.execution_id, new_id))

    async def _again(self, make: Callable[[str], Script[str]]) -> WorkflowHandle[R]:
        new_id = await self._play(make(self._workflows.new_id()))
        return WorkflowHandle(self._workflows, new_id, self.task_name, self._read)


def _send(message: NewMessage) -> Script[Sent]:
    (sent,) = yield from ask(lambda storage: storage.send_messages([message]))
    hints = [] if sent.ready_queue is None else [Hint("ready", sent.ready_queue)]
    if sent.is_running:
        hints.append(Hint("cancelled", ""))
    if hints:
        yield Tell(tuple(hints))
    return sent


def _published(execution_id: str, keys: list[str] | None) -> Script[list[Published]]:
    return (yield from ask(lambda storage: storage.published_values(execution_id, keys)))


class Workflow(TaskFunction[P, R, Concatenate[WorkflowContext, P], Coroutine[object, object, R]], Generic[P, R]):
    """A registered workflow: P are the parameters of its body without the context, R is its result."""

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
        """Register what runs before every end of the workflow, also a failed or cancelled one, after the undoing."""
        if self._spec.finalize is not None:
            raise ConfigurationError(f"workflow {self.name!r} has a finalize already")
        self._spec.finalize = function
        warn_of_traps(function)
        return function


class WorkflowDecorator:
    """What `app.workflow(…)` with options gives."""

    def __init__(self, register: Callable[[Callable[..., Any]], Any]) -> None:
        self._register = register

    def __call__(self, function: Callable[Concatenate[WorkflowContext, P], Coroutine[Any, Any, R]]) -> Workflow[P, R]:
        return self._register(function)  # type: ignore[no-any-return]
