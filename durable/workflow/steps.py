"""The steps that run for one turn of a workflow: each attempt is a task of the executor's own event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from durable.clock import Clock
from durable.codec import Codec
from durable.eager import begun
from durable.errors import ErrorInfo, NonRetryable
from durable.workflow.ending import Ending
from durable.workflow.entries import RunStep
from durable.workflow.pending import Pending
from durable.workflow.services import WorkflowServices
from durable.workflow_rows import Checkpoint, Standing

__all__ = ["Finished", "NotCommitted", "StepRuns"]

_log = logging.getLogger("durable")
_TASK_NAME: Final = "durable-step-"
_DEAF_AFTER: Final = 5.0
"""Seconds that stopped steps have to end, before the turn ends without them."""
_TIMED_OUT = ErrorInfo("timed_out", "the attempt took longer than its timeout", is_retryable=True)


@dataclass(slots=True, eq=False)  # a frozen one takes four times as long to make
class Finished:
    """How an attempt of a step ended."""

    key: str
    attempt: int
    output: str | None
    error: str | None
    delay: float | None = None
    """Seconds until the next attempt; None: there is none."""
    elapsed: float = 0.0
    """Seconds since the first attempt began."""
    digest: str = ""
    """Of the arguments."""


class NotCommitted(Exception):
    """The transaction of a step was refused, and nothing of it is stored."""

    def __init__(self, finished: Finished) -> None:
        self.finished = finished
        """The attempt as it has ended now."""
        super().__init__(finished.key)


@dataclass(slots=True)
class _Open:
    """A transaction whose step has returned, and which waits for its checkpoint."""

    connection: Any
    finished: Finished
    failed: Callable[[Exception], Finished]
    """The same attempt, failed with an error."""
    standing: asyncio.Future[Standing | None]
    committed: asyncio.Task[Any]


class StepRuns:
    """Starts attempts, and keeps what has come of them until it is asked for."""

    _beginning = ""
    """The key of the step that is being started, as long as its first part runs."""
    _ending: Ending | None = None
    """None until a step is stopped; most workflows never stop one."""
    _committing: asyncio.Task[Any] | None = None
    _broken: BaseException | None = None
    """Why a transaction could not be had, or not be ended."""

    def __init__(
        self,
        services: WorkflowServices,
        codec: Codec,
        *,
        call: Callable[[Pending, tuple[Any, ...]], Awaitable[Any]],
        guard: Callable[[], None],
        random: Callable[[], float],
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        on_end: Callable[[], None],
    ) -> None:
        """`call` runs a function with arguments before its own: on the event loop, or a sync one in a thread.

        `guard` raises CancelledError where the process has been away for so long that a step may be another's by now.
        `on_end` is called whenever there may be something to take, or nothing runs any more.
        """
        self._services = services
        self._codec = codec
        self._call = call
        self._guard = guard
        self._random = random
        self._clock = clock
        self._loop = loop
        self._on_end = on_end
        self._running: dict[str, asyncio.Task[Finished | None]] = {}
        self._over_at: dict[str, float] = {}
        """When the attempts are over that have a timeout, by the event loop's time."""
        self._finished: list[Finished] = []
        self._open: list[_Open] = []
        self._writing: list[_Open] = []

    @property
    def is_idle(self) -> bool:
        """Nothing runs, and nothing has ended that was not taken."""
        return not (self._running or self.has_finished)

    @property
    def has_opened(self) -> bool:
        """A transaction was taken, and waits for `write`."""
        return bool(self._writing)

    @property
    def has_finished(self) -> bool:
        return bool(self._finished or self._open or self._broken)

    def start(self, pending: Pending, *, began: float) -> None:
        """Begin an attempt; `began` is when its first one did, by the monotonic clock."""
        if pending.key in self._running:
            return
        pending.due_at = None
        command = pending.command
        assert isinstance(command, RunStep)
        if command.plan.timeout is not None:
            self._over_at[pending.key] = self._loop.time() + command.plan.timeout
        name = f"{_TASK_NAME}{pending.key}"
        if command.is_transaction and self._services.has_transactions:
            task = self._loop.create_task(self._in_transaction(pending, command, began), name=name)
            task.add_done_callback(lambda done: self._end(pending.key, done))
            self._running[pending.key] = task
            return
        if self.are_ending:
            # After what was stopped has heard of it: its clean-up may be what this one relies on.
            attempt = self._attempt(pending, command, began)
            self._running[pending.key] = self._loop.create_task(attempt, name=name)
            return
        self._beginning = pending.key
        task = begun(self._loop, self._attempt(pending, command, began), name=name)
        self._beginning = ""
        if not task.done():
            self._running[pending.key] = task

    def stop(self, key: str) -> None:
        """Nobody waits for it any more; what it still does is forgotten."""
        # Its connection is about to be given back: nothing may be written on it.
        self._open = [step for step in self._open if step.finished.key != key]
        # Stored or not, it would depend on the moment at which the executor dies.
        self._finished = [finished for finished in self._finished if finished.key != key]
        task = self._running.pop(key, None)
        if task is not None:
            task.cancel()
            self._stopped.add(task, key, until=self._patience(key))

    def left(self, thread: Future[Any]) -> None:
        """Called within a step that was stopped, or has timed out, and whose thread runs on."""
        task = asyncio.current_task()
        assert task is not None
        key = task.get_name().removeprefix(_TASK_NAME)
        self._stopped.add(asyncio.wrap_future(thread), key, until=self._patience(key))

    def _patience(self, key: str) -> float | None:
        """Until when a stopped step may take to end: until its timeout, or a little longer; None: it has none."""
        over = self._over_at.get(key)
        return None if over is None else max(over, self._loop.time() + _DEAF_AFTER)

    @property
    def _stopped(self) -> Ending:
        if self._ending is None:
            self._ending = Ending(self._on_end)
        return self._ending

    @property
    def are_ending(self) -> bool:
        """Some were stopped, and may still do something."""
        return bool(self._ending)

    @property
    def are_left(self) -> bool:
        """Some still run, or were stopped and may still do something."""
        return bool(self._running or self._ending)

    async def stop_all(self) -> None:
        if self._ending is not None:
            self._ending.close()
        tasks = list(self._running.values())
        self._running.clear()
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        _, deaf = await asyncio.wait(tasks, timeout=_DEAF_AFTER)
        for task in deaf:
            _log.warning("%s ignores its cancellation; its workflow goes on without it", task.get_name())

    def take_finished(self) -> list[Finished]:
        """What has ended. At most one of them is in a transaction, which waits for `write`. Raises what broke one."""
        if self._broken is not None:
            raise self._broken
        finished, self._finished = self._finished, []
        if self._open and not self._writing:
            self._writing = [self._open.pop(0)]
            finished.append(self._writing[0].finished)
        if self._open:
            self._on_end()
        return finished

    async def write(self, checkpoint: Checkpoint) -> Standing | None:
        """Write a checkpoint in the transaction of the step that was taken, and commit; None where there is none."""
        if not self._writing:
            return None
        (step,) = self._writing
        self._writing = []
        standing = None
        self._committing = step.committed
        try:
            standing = await self._services.write_on(checkpoint, step.connection)
        except Exception as error:
            raise self._refused(step, error) from error
        finally:
            step.standing.set_result(standing)
        if standing is not None:
            await asyncio.wait([step.committed])
            failure = None if step.committed.cancelled() else step.committed.exception()
            if isinstance(failure, Exception):
                raise self._refused(step, failure) from failure
        return standing

    def _refused(self, step: _Open, error: Exception) -> Exception:
        """A fault of the storage, or one of the step: constraints may be looked at by the commit alone."""
        return error if self._services.is_transient(error) else NotCommitted(step.failed(error))

    def _end(self, key: str, task: asyncio.Task[Finished | None]) -> None:
        """Of a step in a transaction, also where that could not begin or was not committed."""
        error = None if task.cancelled() else task.exception()
        if self._running.get(key) is not task:
            return
        del self._running[key]
        if error is not None and self._committing is not task:
            self._broken = self._broken or error
        elif error is None and not task.cancelled() and (finished := task.result()) is not None:
            self._finished.append(finished)
        self._on_end()

    async def _attempt(self, pending: Pending, command: RunStep, began: float) -> Finished | None:
        first = (None,) if command.is_transaction else ()
        try:
            if command.plan.timeout is None:
                value = await self._call(pending, first)
            else:
                value = await _within(command.plan.timeout, self._call(pending, first))
            finished = Finished(pending.key, pending.attempts + 1, command.dump(value), None, digest=pending.digest)
        except BaseException as error:
            if self._is_stop(pending.key, error):
                raise
            finished = self._failed(pending, command, began, error)
        # By itself, because a callback of its task would take as long as all of the above.
        if self._is_wanted(pending.key):
            self._running.pop(pending.key, None)
            self._finished.append(finished)
            self._on_end()
        return finished

    def _is_wanted(self, key: str) -> bool:
        """Asked by an attempt of the step: it was not stopped."""
        return self._beginning == key or self._running.get(key) is asyncio.current_task(self._loop)

    async def _in_part(self, pending: Pending, first: tuple[Any, ...]) -> Any:
        """A savepoint tells whether the function has ended the transaction whose connection it is given."""
        async with self._services.transaction(first[0]):
            self._guard()  # the transaction took its time to begin
            return await self._call(pending, first)

    async def _in_its_part(self, pending: Pending, command: RunStep, began: float, connection: Any) -> Finished:
        """As an attempt ends, in the transaction of the connection."""
        try:
            part = self._in_part(pending, (connection,))
            value = await (part if command.plan.timeout is None else _within(command.plan.timeout, part))
            return Finished(pending.key, pending.attempts + 1, command.dump(value), None, digest=pending.digest)
        except BaseException as error:
            if self._is_stop(pending.key, error):
                raise
            return self._failed(pending, command, began, error)

    def _is_stop(self, key: str, error: BaseException) -> bool:
        """The attempt was stopped; else a CancelledError is the step's own doing, and a failure like any other."""
        return isinstance(error, asyncio.CancelledError) and not self._is_wanted(key)

    def _failed(self, pending: Pending, command: RunStep, began: float, raised: BaseException) -> Finished:
        error = _TIMED_OUT if isinstance(raised, _TimedOut) else raised
        attempt = pending.attempts + 1
        elapsed = self._clock.monotonic() - began
        delay = None
        if attempt < command.plan.retry.max_attempts and not isinstance(error, (NonRetryable, KeyboardInterrupt)):
            delay, _ = command.plan.retry.judge(attempts=attempt, error=error, elapsed=elapsed, random=self._random())
        stored = self._codec.dump_error(error, is_retryable=delay is not None)
        return Finished(pending.key, attempt, None, stored, delay, elapsed, pending.digest)

    async def _in_transaction(self, pending: Pending, command: RunStep, began: float) -> Finished | None:
        """Run the function, then wait for the checkpoint, which the turn writes on this connection.

        None: the turn knows what has become of it.
        """
        current = asyncio.current_task()
        assert current is not None
        try:
            async with self._services.transaction() as connection:
                finished = await self._in_its_part(pending, command, began, connection)
                if finished.error is not None or self._running.get(pending.key) is not current:
                    # It failed, or was stopped and did not listen: nobody will write its checkpoint.
                    raise _RolledBack(finished)
                standing: asyncio.Future[Standing | None] = self._loop.create_future()
                failed = partial(self._failed, pending, command, began)
                self._open.append(_Open(connection, finished, failed, standing, current))
                self._on_end()
                if await standing is None:
                    raise _RolledBack(None)
        except _RolledBack as rolled_back:
            return rolled_back.finished
        return None


async def _within(seconds: float, awaitable: Awaitable[Any]) -> Any:
    """Raises _TimedOut where it takes longer; a TimeoutError of its own passes through."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await awaitable
    except TimeoutError as error:
        if limit.expired():
            raise _TimedOut from error
        raise


class _TimedOut(Exception):
    """The timeout of an attempt is over."""


class _RolledBack(Exception):
    def __init__(self, finished: Finished | None) -> None:
        self.finished = finished
        super().__init__()
