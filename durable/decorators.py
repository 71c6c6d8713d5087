"""The types of the decorators: what a type checker and an editor see of a registered function. No logic.

Each decorator tells six shapes of function apart: `async def` or `def`, and by the first parameter. One that takes
anything (object, Any, no annotation) would also match a TaskContext, so it is asked for first, by a type of our own.
What calling an `async def` gives is a Coroutine[object, object, R]: with Any there, mypy would give up on every later
overload that takes the definition.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from durable.context import TaskContext
from durable.returns import Again, Done, LoopResult, ParentResult, Spawn
from durable.task import TaskFunction

__all__ = ["Anything", "FinalizedDecorator", "LoopDecorator", "ParentDecorator", "TaskDecorator"]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F")
O = TypeVar("O")  # noqa: E741 - output

Register = Callable[[Callable[..., Any]], Any]


class Anything:
    """Accepted by no first parameter but one that accepts every object. Never made."""


class TaskDecorator:
    """What `app.task(…)` with options gives: keeps the function callable and typed."""

    def __init__(self, register: Register) -> None:
        self._register = register

    @overload
    def __call__(
        self, function: Callable[Concatenate[Anything, P], Coroutine[Any, Any, R]], /
    ) -> TaskFunction[Concatenate[Any, P], R, Concatenate[Any, P], Coroutine[object, object, R]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[TaskContext, P], Coroutine[Any, Any, R]], /
    ) -> TaskFunction[P, R, Concatenate[TaskContext, P], Coroutine[object, object, R]]: ...
    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> TaskFunction[P, R, P, Coroutine[object, object, R]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Anything, P], R], /
    ) -> TaskFunction[Concatenate[Any, P], R, Concatenate[Any, P], R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[TaskContext, P], R], /
    ) -> TaskFunction[P, R, Concatenate[TaskContext, P], R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> TaskFunction[P, R, P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        return self._register(function)


class ParentDecorator:
    """What `app.parent()` gives: the result is the output beside the children's results."""

    def __init__(self, register: Register) -> None:
        self._register = register

    @overload
    def __call__(
        self, function: Callable[Concatenate[Anything, P], Coroutine[Any, Any, Spawn[O]]], /
    ) -> TaskFunction[
        Concatenate[Any, P], ParentResult[O], Concatenate[Any, P], Coroutine[object, object, Spawn[O]]
    ]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[TaskContext, P], Coroutine[Any, Any, Spawn[O]]], /
    ) -> TaskFunction[P, ParentResult[O], Concatenate[TaskContext, P], Coroutine[object, object, Spawn[O]]]: ...
    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, Spawn[O]]], /
    ) -> TaskFunction[P, ParentResult[O], P, Coroutine[object, object, Spawn[O]]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Anything, P], Spawn[O]], /
    ) -> TaskFunction[Concatenate[Any, P], ParentResult[O], Concatenate[Any, P], Spawn[O]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[TaskContext, P], Spawn[O]], /
    ) -> TaskFunction[P, ParentResult[O], Concatenate[TaskContext, P], Spawn[O]]: ...
    @overload
    def __call__(self, function: Callable[P, Spawn[O]], /) -> TaskFunction[P, ParentResult[O], P, Spawn[O]]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        return self._register(function)


class FinalizedDecorator(Generic[F]):
    """What `app.parent(finalize=…)` gives: the result is that of finalize."""

    def __init__(self, register: Register) -> None:
        self._register = register

    @overload
    def __call__(
        self, function: Callable[Concatenate[Anything, P], Coroutine[Any, Any, Spawn[Any]]], /
    ) -> TaskFunction[Concatenate[Any, P], F, Concatenate[Any, P], Coroutine[object, object, Spawn[Any]]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[TaskContext, P], Coroutine[Any, Any, Spawn[Any]]], /
    ) -> TaskFunction[P, F, Concatenate[TaskContext, P], Coroutine[object, object, Spawn[Any]]]: ...
    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, Spawn[Any]]], /
    ) -> TaskFunction[P, F, P, Coroutine[object, object, Spawn[Any]]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Anything, P], Spawn[Any]], /
    ) -> TaskFunction[Concatenate[Any, P], F, Concatenate[Any, P], Spawn[Any]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[TaskContext, P], Spawn[Any]], /
    ) -> TaskFunction[P, F, Concatenate[TaskContext, P], Spawn[Any]]: ...
    @overload
    def __call__(self, function: Callable[P, Spawn[Any]], /) -> TaskFunction[P, F, P, Spawn[Any]]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        return self._register(function)


class LoopDecorator:
    """What `app.loop(…)` gives."""

    def __init__(self, register: Register) -> None:
        self._register = register

    @overload
    def __call__(
        self, function: Callable[Concatenate[Anything, P], Coroutine[Any, Any, Done[R] | Again]], /
    ) -> TaskFunction[
        Concatenate[Any, P], LoopResult[R], Concatenate[Any, P], Coroutine[object, object, Done[R] | Again]
    ]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[TaskContext, P], Coroutine[Any, Any, Done[R] | Again]], /
    ) -> TaskFunction[P, LoopResult[R], Concatenate[TaskContext, P], Coroutine[object, object, Done[R] | Again]]: ...
    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, Done[R] | Again]], /
    ) -> TaskFunction[P, LoopResult[R], P, Coroutine[object, object, Done[R] | Again]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Anything, P], Done[R] | Again], /
    ) -> TaskFunction[Concatenate[Any, P], LoopResult[R], Concatenate[Any, P], Done[R] | Again]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[TaskContext, P], Done[R] | Again], /
    ) -> TaskFunction[P, LoopResult[R], Concatenate[TaskContext, P], Done[R] | Again]: ...
    @overload
    def __call__(
        self, function: Callable[P, Done[R] | Again], /
    ) -> TaskFunction[P, LoopResult[R], P, Done[R] | Again]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any:
        return self._register(function)
