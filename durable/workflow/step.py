"""Steps: a function with the options of its calls in workflows, and how its result is stored."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, ParamSpec, TypeVar, overload

from durable.codec import Codec
from durable.codec.shape import Shape
from durable.context import wants_context
from durable.definition import Definition, annotated_return
from durable.durations import Duration, seconds
from durable.errors import ConfigurationError
from durable.retry import NO_RETRY, Retry, checked_retry
from durable.task import Task, TaskFunction

__all__ = ["Step", "StepPlan", "StepPlans", "step"]

_MOST_PASSING: Final = 256

P = ParamSpec("P")
R = TypeVar("R")


class Step(Generic[P, R]):
    """A function made by `@step`: called as before, and by `ctx.step` with the options given here."""

    def __init__(
        self, function: Callable[P, R], *, name: str | None, retry: Retry | None, timeout: float | None
    ) -> None:
        self.__wrapped__ = function
        self.__name__ = self.__qualname__ = name or getattr(function, "__name__", "step")
        self.__doc__ = function.__doc__
        self.retry = retry
        self.timeout = timeout

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.__wrapped__(*args, **kwargs)


class StepDecorator:
    """What `step(…)` with options gives."""

    def __init__(self, name: str | None, retry: Retry | None, timeout: float | None) -> None:
        self._name, self._retry, self._timeout = name, retry, timeout

    def __call__(self, function: Callable[P, R]) -> Step[P, R]:
        return Step(function, name=self._name, retry=self._retry, timeout=self._timeout)


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(*, name: str | None = None, retry: Retry | None = None, timeout: Duration | None = None) -> StepDecorator: ...
def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
) -> Any:
    """Give a function a name, a retry policy and a timeout for one attempt, for whenever a workflow calls it as a step.

    Bare, or with options. The function stays callable. None means: the function's name, one attempt, no limit.
    """
    limit = None if timeout is None else seconds(timeout, "timeout", minimum=0.001)
    decorator = StepDecorator(name, checked_retry(retry), limit)
    return decorator if function is None else decorator(function)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """How a workflow calls one function."""

    name: str
    function: Callable[..., Any]
    result: Shape[Any]
    retry: Retry
    timeout: float | None
    wants_context: bool
    is_async: bool
    task: Definition | None = None
    """The task that the function belongs to; None: it is a function of its own."""


class StepPlans:
    """The plans of one app's functions, made at the first call of each."""

    def __init__(self, codec: Callable[[], Codec]) -> None:
        self._codec = codec
        self._plans: dict[Any, StepPlan] = {}
        self._passing: OrderedDict[Any, StepPlan] = OrderedDict()
        """Those of functions that a body may have made for itself, and of methods: kept for ever, they would keep all
        that they refer to."""

    def __getitem__(self, function: Any) -> StepPlan:
        """Raises ConfigurationError for what cannot be a step."""
        try:
            return self._plans.get(function) or self._passing.get(function) or self._keep(function)
        except TypeError:  # a callable that cannot be hashed
            return self._make(function)

    def _keep(self, function: Any) -> StepPlan:
        may_pass = inspect.ismethod(function) or "<locals>" in getattr(function, "__qualname__", "")
        plans: dict[Any, StepPlan] = self._passing if may_pass else self._plans
        plan = plans[function] = self._make(function)
        if len(self._passing) > _MOST_PASSING:
            self._passing.popitem(last=False)
        return plan

    @staticmethod
    def of_task(task: Definition) -> StepPlan:
        return StepPlan(
            task.name, task.function, task.result, task.options.retry, task.options.timeout, task.wants_context,
            task.is_async, task,
        )  # fmt: skip

    def _make(self, function: Any) -> StepPlan:
        if isinstance(function, Task):
            definition: Definition = function.definition
            if not isinstance(function, TaskFunction) or definition.kind != "task":
                what = f"{definition.kind} {definition.name!r}"
                raise ConfigurationError(f"{what} cannot be a step; use ctx.child, which runs it as a child")
            return self.of_task(definition)
        retry, timeout = NO_RETRY, None
        name = getattr(function, "__name__", "")
        if isinstance(function, Step):
            retry, timeout, function = function.retry or NO_RETRY, function.timeout, function.__wrapped__
        if not callable(function):
            given = " ".join([type(function).__name__, *([repr(name)] if name else [])])  # such as coroutine 'charge'
            raise ConfigurationError(
                f"a step is a function, not {given}: give it uncalled, with its arguments after it"
            )
        if not hasattr(function, "__name__"):  # made by functools.partial, or an object with __call__
            kind = type(function).__name__
            raise ConfigurationError(
                f"a step is a function with a name and annotations, not a {kind}: call it in a def"
            )
        if name == "<lambda>":
            name = ""  # `with_options` may give one
        shape = self._codec().value(annotated_return(function), f"result of step {name!r}")
        is_async = inspect.iscoroutinefunction(function)
        return StepPlan(name, function, shape, retry, timeout, wants_context(function), is_async)
