"""Handles: what a caller keeps of an execution it started, in both colours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar

from durable.durations import Duration, seconds
from durable.errors import ConfigurationError, ExecutionNotFound, ResultTimeout
from durable.execution import CancelResult, Execution, FinishedExecution, Status
from durable.returns import ChildResult

__all__ = ["BlockingClient", "Handle", "HandleClient", "SyncHandle", "WhenRunning", "first_end", "may_finish", "only"]

R = TypeVar("R")
WhenRunning = Literal["stop", "finish"]


class HandleClient(Protocol):
    """What a handle asks of an open app."""

    async def execution(self, execution_id: str) -> Execution: ...

    async def end(self, execution_id: str, timeout: float | None) -> FinishedExecution: ...

    async def cancel(
        self, execution_id: str, *, reason: str, running: WhenRunning, force: bool = False
    ) -> CancelResult: ...

    async def children(self, execution_id: str) -> list[ChildResult[Any]]: ...


class BlockingClient(Protocol):
    """The same for a SyncHandle."""

    def execution(self, execution_id: str) -> Execution: ...

    def end(self, execution_id: str, timeout: float | None) -> FinishedExecution: ...

    def cancel(self, execution_id: str, *, reason: str, running: WhenRunning, force: bool = False) -> CancelResult: ...

    def children(self, execution_id: str) -> list[ChildResult[Any]]: ...


class Handle(Generic[R]):
    """One execution, from its id. Holds no connection; any number may exist for the same execution."""

    __slots__ = ("_client", "_read", "execution_id", "task_name")

    def __init__(
        self, client: HandleClient, execution_id: str, task_name: str, read: Callable[[FinishedExecution], R]
    ) -> None:
        self._client = client
        self._read = read
        self.execution_id = execution_id
        self.task_name = task_name

    def __repr__(self) -> str:
        return f"<Handle {self.execution_id} of task {self.task_name!r}>"

    async def result(self, timeout: Duration | None = None) -> R:
        """Wait for the end and give the result.

        `timeout` in seconds: None waits for ever, 0 looks once. Raises ResultTimeout (the execution goes on),
        ExecutionFailed, ExecutionTimedOut, ExecutionCancelled, or ExecutionNotFound.
        """
        end = await self._client.end(self.execution_id, wait_limit(timeout))
        return self._read(end)

    async def status(self) -> Status:
        """The status as stored now, in one word; raises ExecutionNotFound. `app.status` says more."""
        return (await self._client.execution(self.execution_id)).status

    async def execution(self) -> Execution:
        """The whole record as stored now; raises ExecutionNotFound."""
        return await self._client.execution(self.execution_id)

    async def children(self) -> list[ChildResult[Any]]:
        """The children in order, finished or not; the finalize execution is not among them."""
        return await self._client.children(self.execution_id)

    async def cancel(
        self, *, reason: str = "cancelled by a client", running: WhenRunning = "stop", force: bool = False
    ) -> CancelResult:
        """End the execution and what runs below it, unless it has finished; `outcome` of the result says which it was.

        A queued one, also between two attempts, is cancelled at once. With `running="stop"` the coroutine of a running
        one is cancelled and its thread told; what it still returns is refused. With `running="finish"` its attempt
        goes on, and counts if it ends the execution; if it would be run again, it is cancelled instead. A workflow that
        has begun is asked by a CancelledError in its body, once more with each call after it has heard of the last.

        With `force` a workflow is ended at once as well, whatever its code is or does: its body hears of nothing, and
        nothing of it is undone or finalized.
        """
        return await self._client.cancel(self.execution_id, reason=reason, running=running, force=force)


class SyncHandle(Generic[R]):
    """As Handle, for code without an event loop. Every call blocks this thread."""

    __slots__ = ("_client", "_read", "execution_id", "task_name")

    def __init__(
        self, client: BlockingClient, execution_id: str, task_name: str, read: Callable[[FinishedExecution], R]
    ) -> None:
        self._client = client
        self._read = read
        self.execution_id = execution_id
        self.task_name = task_name

    def __repr__(self) -> str:
        return f"<SyncHandle {self.execution_id} of task {self.task_name!r}>"

    def result(self, timeout: Duration | None = None) -> R:
        """See Handle.result."""
        return self._read(self._client.end(self.execution_id, wait_limit(timeout)))

    def status(self) -> Status:
        return self._client.execution(self.execution_id).status

    def execution(self) -> Execution:
        return self._client.execution(self.execution_id)

    def children(self) -> list[ChildResult[Any]]:
        return self._client.children(self.execution_id)

    def cancel(
        self, *, reason: str = "cancelled by a client", running: WhenRunning = "stop", force: bool = False
    ) -> CancelResult:
        """See Handle.cancel."""
        return self._client.cancel(self.execution_id, reason=reason, running=running, force=force)


def may_finish(running: str) -> bool:
    """What `running` says; raises ConfigurationError for another word."""
    if running not in ("stop", "finish"):
        raise ConfigurationError(f"running must be 'stop' or 'finish', not {running!r}")
    return running == "finish"


def wait_limit(timeout: Duration | None) -> float | None:
    return None if timeout is None else seconds(timeout, "timeout")


async def first_end(
    future: asyncio.Future[FinishedExecution], execution_id: str, timeout: float | None
) -> FinishedExecution:
    """Await one end within `timeout` seconds; raises ResultTimeout and forgets the wait."""
    try:
        async with asyncio.timeout(timeout):
            return await future
    except TimeoutError:
        raise ResultTimeout(execution_id, timeout or 0.0) from None


def only(found: Sequence[Execution | None], execution_id: str) -> Execution:
    """The single record looked up; raises ExecutionNotFound."""
    (record,) = found
    if record is None:
        raise ExecutionNotFound(execution_id)
    return record
