"""What a body awaits beside futures: children that start when they are awaited, tasks, and what is shielded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from inspect import isawaitable
from typing import Any, TypeVar

from durable.errors import ConfigurationError
from durable.workflow.entries import Group

__all__ = ["ChildCall", "shielded", "started"]

R = TypeVar("R")
T = TypeVar("T")


class ChildCall(Coroutine[Any, Any, R]):
    """A child that starts when it is awaited, or given to `gather`, `wait_first` or a task of asyncio.

    A coroutine, because a TaskGroup takes nothing else.
    """

    def __init__(self, start: Callable[[Group], asyncio.Future[R]]) -> None:
        self._start = start
        self._going_on: Generator[Any, None, R] | None = None

    def __await__(self) -> Generator[Any, None, R]:
        return (yield from self._start(Group()).__await__())

    def begin(self, group: Group) -> asyncio.Future[R]:
        """Start it, without a task that awaits it: where there are thousands, those take a tenth of the time.

        The body needs it and others of the group together, and none of them before all have ended.
        """
        try:
            return self._start(group)
        except Exception as error:
            refused: asyncio.Future[R] = asyncio.get_running_loop().create_future()
            refused.set_exception(error)
            return refused

    def send(self, value: Any, /) -> Any:
        """For asyncio."""
        return self._waiting.send(value)

    def throw(self, *error: Any) -> Any:
        """For asyncio."""
        return self._waiting.throw(*error)

    def close(self) -> None:
        """For asyncio."""
        self._waiting.close()

    @property
    def _waiting(self) -> Generator[Any, None, R]:
        if self._going_on is None:
            self._going_on = self.__await__()
        return self._going_on


def started(awaitable: Awaitable[T]) -> asyncio.Task[T]:
    """Raises ConfigurationError for what cannot be awaited."""
    if not isawaitable(awaitable):
        found = type(awaitable).__name__
        raise ConfigurationError(
            f"gather, wait_first and shield take awaitables one by one, such as ctx.step(…), not a {found}"
        )
    # A coroutine as it is: within another, it would be complained of as never awaited if it is cancelled at once.
    return asyncio.create_task(awaitable if asyncio.iscoroutine(awaitable) else _awaited(awaitable))


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


async def shielded(awaitable: Awaitable[T]) -> T:
    """Wait until it has ended, however often who waits is cancelled meanwhile; then raise the first of those."""
    inner = started(awaitable)
    stopped: asyncio.CancelledError | None = None
    while not inner.done():
        try:
            await asyncio.wait([inner])
        except asyncio.CancelledError as error:
            stopped = stopped or error
    if stopped is None:
        return inner.result()
    failed = None if inner.cancelled() else inner.exception()
    if failed is not None:
        stopped.add_note(f"what was shielded failed: {type(failed).__name__}: {failed}")
    raise stopped
