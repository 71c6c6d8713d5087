"""The event loop of one workflow's body: it runs what is ready, in order, and knows no time and no I/O."""

from __future__ import annotations

import asyncio
import logging
import sys
from asyncio import events, tasks
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from itertools import count
from threading import get_ident
from typing import Any, Final, NoReturn, TypeVar

from durable.errors import ConfigurationError

__all__ = ["Entered", "WorkflowLoop"]

T = TypeVar("T")
_log = logging.getLogger("durable")
_unregister: Final[Callable[[asyncio.Task[Any]], None]] = vars(tasks)["_unregister_task"]
_IS_ONE_TASK_AT_ONCE: Final = sys.version_info >= (3, 14)
"""In a thread; before, Python knew one for each event loop, and the outer one may stay the current one of its own."""
_MOST_CALLS: Final = 1_000_000
"""Callbacks in a row after which a body is taken for one that spins, such as `while True: await asyncio.sleep(0)`."""
_MOST_CLOSES: Final = 100
"""Awaits in the `finally` blocks of a body, one after another, that are passed over when it is closed."""


class _Call:
    """What asyncio needs of a handle: an `asyncio.Handle` takes several times as long to make and to run."""

    __slots__ = ("args", "callback", "context", "is_cancelled")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled


class _Task(asyncio.Task[T]):
    """A task that sets iterate over in the order of creation: TaskGroup cancels what is in a set, and asyncio.wait
    gives sets, whose order would else be that of addresses in memory, another one in every process."""

    def __init__(self, coro: Coroutine[Any, Any, T], number: int, **options: Any) -> None:
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


def _close(coroutine: Any) -> None:
    """A body that awaits while it is closed raises, and stands at that await: nothing of it counts any more."""
    for _ in range(_MOST_CLOSES):
        with suppress(BaseException):
            coroutine.close()
            return


class WorkflowLoop:
    """Callbacks run in the order in which they became ready, so the same inputs always give the same order.

    asyncio's own tasks, futures, gather, TaskGroup, Event, Lock and Queue work on it. What would wait for time or for
    the outside raises ConfigurationError and says what to use instead.
    """

    def __init__(self) -> None:
        self._ready: deque[_Call] = deque()
        self._numbers = count(1)
        self.thread: int | None = None
        """That in which the body runs; None: it does not. See `Entered`."""
        self.outer: asyncio.AbstractEventLoop | None = None
        """The event loop that is known to run wherever this one is entered; None: it has to be asked for."""
        self.tasks: set[asyncio.Task[Any]] = set()
        self.error: BaseException | None = None
        """The first error of a callback that belongs to no task."""

    def run_ready(self) -> None:
        """Run until nothing is ready. Called from any thread that has no running loop, or inside that of an executor.

        Raises ConfigurationError for a body that never stops to wait for something.
        """
        if self.thread is not None:
            self._run()
        elif self.outer is None or _IS_ONE_TASK_AT_ONCE:
            with Entered(self):
                self._run()
        else:
            self._run_within(self.outer)

    def _run_within(self, outer: asyncio.AbstractEventLoop) -> None:
        """As `Entered` would, which each step would come to, in half of the time."""
        this: Any = self
        hooks = sys.get_asyncgen_hooks()
        events._set_running_loop(this)
        sys.set_asyncgen_hooks(None, None)
        self.thread = get_ident()
        try:
            self._run()
        finally:
            self.thread = None
            sys.set_asyncgen_hooks(*hooks)
            events._set_running_loop(outer)

    def _run(self) -> None:
        ready = self._ready
        calls = 0
        while ready:
            call = ready.popleft()
            if not call.is_cancelled:
                try:
                    call.context.run(call.callback, *call.args)
                except BaseException as error:
                    # asyncio lets SystemExit and KeyboardInterrupt out of a task beside storing them; like every other
                    # they end the workflow, not the executor.
                    self.error = self.error or error
            calls += 1
            if calls > _MOST_CALLS:
                raise ConfigurationError("the workflow's body runs on without waiting for anything")

    def close(self) -> None:
        """Forget the tasks that have not ended. Their `finally` blocks run as far as they do not await."""
        if self.tasks:
            with Entered(self):
                while self.tasks:
                    # What it starts while it is closed is closed as well.
                    self._forget(self.tasks.pop())
        self._ready.clear()

    def drop(self, task: asyncio.Task[Any]) -> None:
        """As close, of one task."""
        self.tasks.discard(task)
        with Entered(self):
            self._forget(task)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        if not task.done():
            vars_of: Any = task
            vars_of._log_destroy_pending = False
            _close(task.get_coro())

    # --- what asyncio asks of a loop ------------------------------------------------------------------------

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:
        call: Any = _Call(callback, args, context or copy_context())
        self._ready.append(call)
        return call  # type: ignore[no-any-return]

    def create_future(self) -> asyncio.Future[Any]:
        loop: Any = self  # of which asyncio's futures and tasks ask what stands here, and nothing else
        return asyncio.Future(loop=loop)

    def create_task(
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        number, loop = next(self._numbers), self
        # asyncio names tasks by a count of the process, which is another one in a replay.
        task = _Task(coro, number, loop=loop, name=f"Task-{number}" if name is None else name, context=context)
        # asyncio keeps all tasks of a process in one set, where those of one number would meet in one place.
        _unregister(task)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if "handle" not in context:
            # Said when the garbage is collected, at any time: that a task failed and nobody looked, for one.
            if isinstance(context.get("future"), asyncio.Task):
                _log.warning("in a workflow's body: %s", context["message"], exc_info=error)
            return
        self.error = self.error or (error if isinstance(error, BaseException) else RuntimeError(context["message"]))

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def __getattr__(self, name: str) -> NoReturn:
        """Everything else of a loop has to do with time, threads or I/O."""
        if name.startswith("_"):
            raise AttributeError(name)
        raise ConfigurationError(
            f"a workflow's body has no {name}: use ctx.sleep, ctx.timeout and ctx.now for time, and steps for the rest"
        )


class Entered:
    """Makes a workflow's loop the running one of this thread for a while, for one `run_ready` or many.

    A class, because entering a generator takes as long again as all of this.
    """

    __slots__ = ("_hooks", "_loop", "_outer", "_task", "_thread")

    def __init__(self, loop: WorkflowLoop) -> None:
        self._loop = loop

    def __enter__(self) -> None:
        loop: Any = self._loop
        # To ask for the running loop, and to set one, takes a system call each before Python 3.12.
        outer = self._outer = (loop.outer if loop.thread is None else None) or events._get_running_loop()
        self._task = None
        if _IS_ONE_TASK_AT_ONCE and outer is not None:
            task = self._task = tasks.current_task(outer)
            if task is not None:
                tasks._leave_task(outer, task)
        self._hooks = sys.get_asyncgen_hooks()
        events._set_running_loop(loop)
        sys.set_asyncgen_hooks(None, None)
        self._thread, loop.thread = loop.thread, get_ident()

    def __exit__(self, *error: object) -> None:
        self._loop.thread = self._thread
        sys.set_asyncgen_hooks(*self._hooks)
        events._set_running_loop(self._outer)
        if self._outer is not None and self._task is not None:
            tasks._enter_task(self._outer, self._task)
