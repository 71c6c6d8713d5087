"""The steps that run for one turn of a workflow: each attempt is a task of the executor's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from durable.codec import Codec
from durable.errors import ErrorInfo, NonRetryable
from durable.workflow.entries import RunStep
from durable.workflow.replay import Pending
from durable.workflow.services import WorkflowServices
from durable.workflow_rows import Checkpoint, Standing

__all__ = ["Finished", "StepRuns"]

_TIMED_OUT = ErrorInfo("timed_out", "the attempt took longer than its timeout", is_retryable=True)


@dataclass(frozen=True, slots=True)
class Finished:
    """How an attempt of a step ended."""

    key: str
    attempt: int
    output: str | None
    error: str | None
    delay: float | None = None
    """Seconds until the next attempt; None: there is none."""


@dataclass(slots=True)
class _Open:
    """A transaction whose step has returned, and which waits for its checkpoint."""

    connection: Any
    finished: Finished
    standing: asyncio.Future[Standing | None]
    committed: asyncio.Task[Any]


class StepRuns:
    """Starts attempts, and keeps what has come of them until it is asked for."""

    def __init__(
        self,
        services: WorkflowServices,
        codec: Codec,
        *,
        call: Callable[[RunStep, tuple[Any, ...]], Awaitable[Any]],
        random: Callable[[], float],
    ) -> None:
        """`call` runs a function with arguments before its own: on the event loop, or a sync one in a thread."""
        self._services = services
        self._codec = codec
        self._call = call
        self._random = random
        self._running: dict[str, asyncio.Task[Finished | None]] = {}
        self._finished: list[Finished] = []
        self._open: list[_Open] = []
        self._writing: list[_Open] = []
        self._error: BaseException | None = None
        self.on_end: Callable[[], None] = lambda: None

    @property
    def is_idle(self) -> bool:
        """Nothing runs, and nothing has ended that was not taken."""
        return not self._running and not self.has_finished

    @property
    def has_finished(self) -> bool:
        return bool(self._finished or self._open or self._error)

    def start(self, pending: Pending) -> None:
        if pending.key in self._running:
            return
        pending.due_at = None
        command = pending.command
        assert isinstance(command, RunStep)
        in_transaction = command.is_transaction and self._services.has_transactions
        attempt = self._in_transaction(pending, command) if in_transaction else self._attempt(pending, command)
        task = asyncio.create_task(attempt, name=f"durable-step-{pending.key}")
        self._running[pending.key] = task
        if in_transaction:
            task.add_done_callback(lambda done: self._end(pending.key, done))

    def stop(self, key: str) -> None:
        """Nobody waits for it any more; what it still does is forgotten."""
        task = self._running.pop(key, None)
        if task is not None:
            task.cancel()

    async def stop_all(self) -> None:
        tasks = list(self._running.values())
        self._running.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def take_finished(self) -> list[Finished]:
        """What has ended. At most one of them is in a transaction, which waits for `write`.

        Raises the error of a transaction that could not begin, or of which nobody knows whether it was committed.
        """
        if self._error is not None:
            raise self._error
        finished, self._finished = self._finished, []
        if self._open and not self._writing:
            self._writing = [self._open.pop(0)]
            finished.append(self._writing[0].finished)
        if self._open:
            self.on_end()
        return finished

    async def write(self, checkpoint: Checkpoint) -> Standing | None:
        """Write a checkpoint in the transaction of the step that was taken, and commit; None where there is none."""
        if not self._writing:
            return None
        (step,) = self._writing
        self._writing = []
        standing = None
        try:
            standing = await self._services.write_on(checkpoint, step.connection)
        finally:
            step.standing.set_result(standing)
        if standing is not None:
            await asyncio.wait([step.committed])
            step.committed.result()
        return standing

    def _end(self, key: str, task: asyncio.Task[Finished | None]) -> None:
        """Of a step in a transaction, also where that could not begin or was not committed."""
        error = None if task.cancelled() else task.exception()
        if self._running.get(key) is not task:
            return
        del self._running[key]
        if error is not None:
            self._error = error
        elif not task.cancelled() and (finished := task.result()) is not None:
            self._finished.append(finished)
        self.on_end()

    async def _attempt(self, pending: Pending, command: RunStep) -> Finished | None:
        first = (None,) if command.is_transaction else ()
        finished = await self._judged(pending, command, first)
        if self._running.get(pending.key) is asyncio.current_task():
            del self._running[pending.key]
            self._finished.append(finished)
            self.on_end()
        return finished

    async def _judged(self, pending: Pending, command: RunStep, first: tuple[Any, ...]) -> Finished:
        attempt = pending.attempts + 1
        limit = None if command.timeout is None else asyncio.timeout(command.timeout)
        try:
            if limit is None:
                value = await self._call(command, first)
            else:
                async with limit:
                    value = await self._call(command, first)
            return Finished(pending.key, attempt, command.dump(value), None)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _is_stopped():
                raise
            is_timeout = isinstance(error, TimeoutError) and limit is not None and limit.expired()
            return self._failed(pending, command, _TIMED_OUT if is_timeout else error)

    def _failed(self, pending: Pending, command: RunStep, error: BaseException | ErrorInfo) -> Finished:
        attempt = pending.attempts + 1
        delay = None
        if attempt < command.retry.max_attempts and not isinstance(error, (NonRetryable, KeyboardInterrupt)):
            delay, _ = command.retry.judge(attempts=attempt, error=error, elapsed=0.0, random=self._random())
        stored = self._codec.dump_error(error, is_retryable=delay is not None)
        return Finished(pending.key, attempt, None, stored, delay)

    async def _in_transaction(self, pending: Pending, command: RunStep) -> Finished | None:
        """Run the function, then wait for the checkpoint, which the turn writes on this connection; None: it did."""
        current = asyncio.current_task()
        assert current is not None
        try:
            async with self._services.transaction() as connection:
                finished = await self._judged(pending, command, (connection,))
                if finished.error is not None:
                    raise _RolledBack(finished)
                standing: asyncio.Future[Standing | None] = asyncio.get_running_loop().create_future()
                self._open.append(_Open(connection, finished, standing, current))
                self.on_end()
                if await standing is None:
                    raise _RolledBack(finished)
        except _RolledBack as failed:
            return failed.finished
        return None


class _RolledBack(Exception):
    def __init__(self, finished: Finished) -> None:
        self.finished = finished
        super().__init__()


def _is_stopped() -> bool:
    """True when somebody has cancelled this task; a step may raise CancelledError by itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
