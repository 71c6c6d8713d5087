"""What a runner is given: the claim, its definition, and the few services a turn may use. No storage."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor as Threads
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from durable.attempts import Attempt, Signal
from durable.child import DEEPEST_TREE, MOST_CHILDREN, Child, place
from durable.clock import Clock
from durable.context import Beats, StepAttempt, TaskContext
from durable.definition import Definition
from durable.errors import ConfigurationError, DurableError, ErrorInfo
from durable.execution import ChildOutcome, Claimed, NewExecution
from durable.execution_log import ExecutionLog
from durable.ids import IdSource
from durable.job import TakenTurn, TurnToTake
from durable.registry import Registry
from durable.workflow.services import WorkflowServices

__all__ = ["EndedBy", "Services", "Turn"]


class EndedBy(DurableError):
    """A turn fails with the stored error of another execution, as it is and for good."""

    def __init__(self, error: ErrorInfo) -> None:
        self.error = error
        super().__init__(str(error))


@dataclass(frozen=True, slots=True)
class Services:
    """What the turns of one executor share."""

    executor_id: str
    registry: Registry
    ids: IdSource
    threads: Threads
    shutdown_signal: Signal
    beats: Beats
    children_of: Callable[[str], Awaitable[list[ChildOutcome]]]
    take: Callable[[Attempt, TurnToTake], Awaitable[TakenTurn | None]]
    """What a turn of a job runs on; None: the attempt has lost its lease."""
    limit: Callable[[Attempt, float | None], AbstractContextManager[None]]
    """Stops an attempt as timed out whose block takes longer than so many seconds."""
    clock: Clock
    workflows: WorkflowServices
    log: ExecutionLog


class Turn:
    """One claimed execution about to run."""

    __slots__ = ("attempt", "claimed", "definition", "on_thread_left", "services", "stop")

    def __init__(
        self, attempt: Attempt, definition: Definition, services: Services, stop: Callable[[Attempt, str], None]
    ) -> None:
        """`stop` ends the attempt for a reason, such as `timed_out`, also if its handler does not listen."""
        self.attempt = attempt
        self.claimed: Claimed = attempt.claimed
        self.definition = definition
        self.services = services
        self.stop = stop
        self.on_thread_left: Callable[[Future[Any]], None] | None = None
        """Hears of a thread that runs on when its call was cancelled."""

    def call(self, stored_input: str | None = None) -> Awaitable[Any]:
        """Run the definition's function on a stored input; None means that of the execution."""
        args, kwargs = self.definition.signature.load(self.claimed.input if stored_input is None else stored_input)
        return self.call_with(*args, **kwargs)

    def call_with(self, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Run the definition's function, with the context before its arguments where it wants one."""
        definition = self.definition
        if definition.wants_context:
            args = (self.context(), *args)
        if definition.is_async:
            called: Awaitable[Any] = definition.function(*args, **kwargs)
            return called
        return self.in_thread(definition.function, *args, **kwargs)

    async def in_thread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a sync function in a thread of the executor, with this task's context variables."""
        run: Callable[..., Any] = contextvars.copy_context().run
        call = partial(run, _without_stop_iteration, partial(function, *args, **kwargs))
        thread = self.services.threads.submit(call)
        try:
            value = await asyncio.wrap_future(thread)
        except asyncio.CancelledError:
            if not thread.done() and not thread.cancel():
                self.services.log.write(
                    logging.WARNING, self.claimed,
                    "the thread of execution %s (task %s) runs on after its attempt was stopped; it should look at "
                    "ctx.cancel_signal", self.claimed.id, self.claimed.task_name,
                )  # fmt: skip
                if self.on_thread_left is not None:
                    self.on_thread_left(thread)
            raise
        if inspect.iscoroutine(value):
            value.close()
            raise ConfigurationError("a sync function returned a coroutine; declare it with async def")
        return value

    def context(self, step: StepAttempt | None = None) -> TaskContext:
        """`step`: of a step of a workflow, which has attempts of its own."""
        return TaskContext(
            self.attempt,
            executor_id=self.services.executor_id,
            previous_error=self.definition.load_error(self.claimed.error) if step is None else step.previous_error,
            step=step,
            shutdown_signal=self.services.shutdown_signal,
            beats=self.services.beats,
        )

    def place_children(self, children: Sequence[Child[Any]], *, first_index: int = 0) -> tuple[NewExecution, ...]:
        """The records of children below this execution; raises ConfigurationError beyond the limits."""
        if len(children) > MOST_CHILDREN:
            raise ConfigurationError(
                f"task {self.claimed.task_name!r} returned {len(children)} children, the limit is {MOST_CHILDREN}; "
                "spawn parents that spawn them"
            )
        return tuple(self.place(child, first_index + index) for index, child in enumerate(children))

    def place(self, child: Child[Any], index: int, *, is_finalize: bool = False) -> NewExecution:
        depth = self.claimed.depth + 1
        if depth > DEEPEST_TREE:
            raise ConfigurationError(f"the tree is {depth} levels deep, the limit is {DEEPEST_TREE}")
        if not isinstance(child, Child):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"children are made by task.child(…), got {type(child).__name__}")
        return place(
            child.new,
            execution_id=self.services.ids.new_id(),
            parent_id=self.claimed.id,
            root_id=self.claimed.root_id,
            index=index,
            depth=depth,
            is_finalize=is_finalize,
        )

    async def children(self) -> list[ChildOutcome]:
        """The ends of this execution's children in order; finalize executions come last, the newest at the end."""
        return await self.services.children_of(self.claimed.id)

    def complete_family(self, found: Sequence[ChildOutcome]) -> list[ChildOutcome]:
        """The ends of all children, without those of finalize executions; the turn fails if a record is gone.

        Nothing of ours removes a record of a living tree, so a missing one was taken by hand, and a result made from
        the rest would be wrong without a sign of it.
        """
        ends = [end for end in found if not end.is_finalize]
        if len(ends) != self.claimed.children_count:
            message = f"{self.claimed.children_count} children were started, {len(ends)} are stored"
            raise EndedBy(ErrorInfo("children_missing", message, is_retryable=False))
        return ends


def _without_stop_iteration(call: Callable[[], Any]) -> Any:
    """No future can carry these: who awaits it would wait for ever. A coroutine turns the first into this too."""
    try:
        return call()
    except (StopIteration, GeneratorExit) as error:
        raise RuntimeError(f"the function raised {type(error).__name__}") from error
