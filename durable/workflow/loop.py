"""The event loop of one workflow's body: it runs what is ready, in order, and knows no time and no I/O."""

from __future__ import annotations

import asyncio
import sys
from asyncio import events, tasks
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final, NoReturn, TypeVar

from durable.errors import ConfigurationError

__all__ = ["WorkflowLoop"]

T = TypeVar("T")
_MOST_CALLS: Final = 1_000_000
"""Callbacks in a row after which a body is taken for one that spins, such as `while True: await asyncio.sleep(0)`."""


class WorkflowLoop(asyncio.AbstractEventLoop):
    """Callbacks run in the order in which they became ready, so the same inputs always give the same order.

    asyncio's own tasks, futures, gather, TaskGroup, Event, Lock and Queue work on it. What would wait for time or for
    the outside raises ConfigurationError and says what to use instead.
    """

    def __init__(self) -> None:
        self._ready: deque[asyncio.Handle] = deque()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.error: BaseException | None = None
        """The first error of a callback that belongs to no task."""

    def run_ready(self) -> None:
        """Run until nothing is ready. Called from any thread that has no running loop, or inside that of an executor.

        Raises ConfigurationError for a body that never stops to wait for something.
        """
        outer = events._get_running_loop()
        task = None if outer is None else tasks.current_task(outer)
        hooks = sys.get_asyncgen_hooks()
        if outer is not None and task is not None:
            tasks._leave_task(outer, task)  # type: ignore[attr-defined]
        events._set_running_loop(self)
        sys.set_asyncgen_hooks(None, None)
        try:
            self._run()
        finally:
            sys.set_asyncgen_hooks(*hooks)
            events._set_running_loop(outer)
            if outer is not None and task is not None:
                tasks._enter_task(outer, task)  # type: ignore[attr-defined]

    def _run(self) -> None:
        ready = self._ready
        calls = 0
        while ready:
            handle = ready.popleft()
            if not handle._cancelled:  # type: ignore[attr-defined]
                handle._run()
            calls += 1
            if calls > _MOST_CALLS:
                raise ConfigurationError("the workflow's body runs without ever waiting for a step, a sleep or a signal")

    def close(self) -> None:
        """Forget the tasks that have not ended. Their `finally` blocks run as far as they do not await."""
        self._ready.clear()
        for task in self.tasks:
            if task.done():
                continue
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine = task.get_coro()
            try:
                if coroutine is not None and hasattr(coroutine, "close"):
                    coroutine.close()
            except BaseException:
                continue  # a body that awaits while it is closed: nothing of it counts any more
        self.tasks.clear()
        self._ready.clear()

    # --- what asyncio asks of a loop ------------------------------------------------------------------------

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name, context=context)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.error = self.error or (error if isinstance(error, BaseException) else RuntimeError(context["message"]))

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def time(self) -> NoReturn:
        raise ConfigurationError("a workflow's body has no clock of its own; use ctx.now(), ctx.sleep() or timeout=")

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> NoReturn:
        raise ConfigurationError("asyncio's timers do not work in a workflow's body; use ctx.sleep() or timeout=")

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> NoReturn:
        self.call_later(0.0, callback)

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> NoReturn:
        raise ConfigurationError("threads cannot reach into a workflow's body; use a step")

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> NoReturn:  # type: ignore[override]
        raise ConfigurationError("a workflow's body runs nothing in threads; use ctx.step(function)")
