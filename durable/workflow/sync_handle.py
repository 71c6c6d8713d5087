"""The handle of a workflow for code without an event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, Protocol, TypeVar, Unpack, overload

from durable.checks import integer
from durable.codec import Codec
from durable.execution import FinishedExecution
from durable.handle import BlockingClient, SyncHandle
from durable.script import Script
from durable.workflow import calls
from durable.workflow.fork import fork, restart
from durable.workflow.names import checked_name
from durable.workflow.requests import Query, TypedUpdate, UpdateOptions
from durable.workflow.said import Chunk, PublishedValues
from durable.workflow_rows import Published, SendOutcome

__all__ = ["BlockingWorkflowClient", "SyncWorkflowHandle"]

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
T = TypeVar("T")


class BlockingWorkflowClient(BlockingClient, Protocol):
    """What a handle of a workflow asks of a blocking client."""

    def play(self, script: Script[T], connection: Any = None) -> T: ...

    def new_id(self) -> str: ...


class SyncWorkflowHandle(SyncHandle[R]):
    """As WorkflowHandle, for code without an event loop. Every call blocks this thread."""

    __slots__ = ("_codec", "_play", "_workflows")

    def __init__(
        self,
        client: BlockingWorkflowClient,
        execution_id: str,
        task_name: str,
        read: Callable[[FinishedExecution], R],
        codec: Codec,
    ) -> None:
        super().__init__(client, execution_id, task_name, read)
        self._play = client.play
        self._codec = codec
        self._workflows = client

    def fork(self, from_step: str | None = None) -> SyncWorkflowHandle[R]:
        """See WorkflowHandle.fork."""
        return self._again(fork(self.execution_id, from_step, self._codec, self._workflows.new_id))

    def restart(self) -> SyncWorkflowHandle[R]:
        """See WorkflowHandle.restart."""
        return self._again(restart(self.execution_id, self._workflows.new_id()))

    def _again(self, made: Script[str]) -> SyncWorkflowHandle[R]:
        new_id = self._play(made)
        return SyncWorkflowHandle(self._workflows, new_id, self.task_name, self._read, self._codec)

    def signal(
        self, name: str, value: Any = None, *, signal_id: str | None = None, connection: Any = None
    ) -> SendOutcome:
        """See WorkflowHandle.signal."""
        return self._play(calls.signal(self.execution_id, self._codec, name, value, signal_id), connection)

    @overload
    def value(self, key: str) -> Any: ...
    @overload
    def value(self, key: str, shape: type[T]) -> T | None: ...
    def value(self, key: str, shape: Any = Any) -> Any:
        """See WorkflowHandle.value."""
        found = self._play(calls.one_value(self.execution_id, key))
        return None if found is None else self._read_value(found, shape)

    def values(self) -> PublishedValues:
        """See WorkflowHandle.values."""
        return self._play(calls.all_values(self.execution_id, self._codec))

    @overload
    def watch(self, key: str) -> Iterator[Any]: ...
    @overload
    def watch(self, key: str, shape: type[T]) -> Iterator[T]: ...
    def watch(self, key: str, shape: Any = Any) -> Iterator[Any]:
        """See WorkflowHandle.watch."""
        return self._watch(checked_name(key, "key"), shape)

    def _watch(self, key: str, shape: Any) -> Iterator[Any]:
        seen: Published | None = None
        while True:
            seen = self._play(calls.next_value(self.execution_id, key, seen))
            if seen is None:
                return
            yield self._read_value(seen, shape)

    def query(self, query: Query[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """See WorkflowHandle.query."""
        return self._play(calls.query(self.execution_id, self.task_name, query, self._codec, *args, **kwargs))

    @overload
    def update(self, update: TypedUpdate[Callable[[], T]], /, **options: Unpack[UpdateOptions]) -> T: ...
    @overload
    def update(self, update: TypedUpdate[Callable[[A], T]], a: A, /, **options: Unpack[UpdateOptions]) -> T: ...
    @overload
    def update(
        self, update: TypedUpdate[Callable[[A, B], T]], a: A, b: B, /, **options: Unpack[UpdateOptions]
    ) -> T: ...
    @overload
    def update(
        self, update: TypedUpdate[Callable[[A, B, C], T]], a: A, b: B, c: C, /, **options: Unpack[UpdateOptions]
    ) -> T: ...
    @overload
    def update(self, update: TypedUpdate[Callable[P, T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def update(self, update: Any, /, *args: Any, **kwargs: Any) -> Any:
        """See WorkflowHandle.update."""
        script = calls.update(self.execution_id, self.task_name, update, self._codec, args, kwargs)
        return self._play(script)

    @overload
    def stream(self, *, after: int = 0) -> Iterator[Chunk[Any]]: ...
    @overload
    def stream(self, shape: type[T], *, after: int = 0) -> Iterator[Chunk[T]]: ...
    def stream(self, shape: Any = Any, *, after: int = 0) -> Iterator[Chunk[Any]]:
        """See WorkflowHandle.stream."""
        return self._stream(shape, integer(after, "after", 0, 2**31 - 1))

    def _stream(self, shape: Any, after: int) -> Iterator[Chunk[Any]]:
        read = self._codec.value(shape)
        while True:
            found = self._play(calls.next_chunks(self.execution_id, after))
            if found is None:
                return
            for after, payload, at in found:
                yield Chunk(after, read.load(payload, f"chunk {after}"), at)

    def _read_value(self, found: Published, shape: Any) -> Any:
        return self._codec.value(shape).load(found.value, f"published value {found.key!r}")
