"""Tasks that begin at once, within the one that starts them: most steps, and all sends, are done before they wait.

Python has them from 3.12 on. Before that, an event loop gives a task its first step by `call_soon`, which is what is
taken out of its hands here. A task of its own for each keeps `asyncio.current_task` and `asyncio.timeout` what they
are to a user's code.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import tasks
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

__all__ = ["begun"]

T = TypeVar("T")


def begun(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """A task that has run until it first waits, or to its end. Called from a task of the same running loop.

    Where the loop makes tasks or calls in a way of its own, or is in debug mode, it is an ordinary task of that loop.
    """
    if loop.get_task_factory() is not None or loop.get_debug() or "call_soon" in getattr(loop, "__dict__", ()):
        return loop.create_task(coroutine, name=name)
    if sys.version_info >= (3, 12):
        return asyncio.Task(coroutine, loop=loop, name=name, eager_start=True)
    return _by_hand(loop, coroutine, name)


def _by_hand(loop: Any, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    calls: list[tuple[Callable[..., object], tuple[Any, ...], Context | None]] = []

    def keep(callback: Callable[..., object], *args: Any, context: Context | None = None) -> None:
        calls.append((callback, args, context))

    try:
        loop.call_soon = keep
    except AttributeError:  # a loop that takes no attributes
        return asyncio.Task(coroutine, loop=loop, name=name)
    try:
        task = asyncio.Task(coroutine, loop=loop, name=name)
    finally:
        del loop.call_soon
    # The last is that of the task. Others there are only if the collector of garbage came by while it was made.
    *others, (step, args, context) = calls
    for callback, its_args, its_context in others:
        loop.call_soon(callback, *its_args, context=its_context)
    assert context is not None, "asyncio gives each task one"
    # As the event loop would run it, but that the task which runs is set aside for it.
    outer = tasks.current_task(loop)
    if outer is None:
        context.run(step, *args)
        return task
    tasks._leave_task(loop, outer)
    try:
        context.run(step, *args)
    finally:
        tasks._enter_task(loop, outer)
    return task
