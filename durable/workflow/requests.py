"""What others may ask of a workflow: queries over what it has published, and updates that it validates and answers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from functools import cached_property
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypedDict, TypeVar

from durable.checks import shown
from durable.codec import Codec, Signature
from durable.durations import Duration
from durable.errors import ConfigurationError
from durable.workflow.names import checked_name
from durable.workflow.said import PublishedValues
from durable.workflow.takes import takes_context

if TYPE_CHECKING:
    from durable.workflow.context import WorkflowContext

__all__ = ["Query", "TypedUpdate", "Update", "UpdateOptions"]

P = ParamSpec("P")
R = TypeVar("R")
F_co = TypeVar("F_co", covariant=True)


class UpdateOptions(TypedDict, total=False):
    """What a caller may say of one update."""

    update_id: str
    """An update of the same id is the same: it is not done again, and has the same answer."""
    timeout: Duration | None
    """How long to wait for the answer; None waits for ever. The update goes on after it."""


class TypedUpdate(Protocol[F_co]):
    """What the type checkers see of an update: its parameters and result as a function."""

    @property
    def shape(self) -> F_co: ...

    @property
    def is_update(self) -> Literal[True]: ...


class Query(Generic[P, R]):
    """A function over the published values of a workflow, made by `@flow.query`. It stays callable."""

    def __init__(self, workflow: str, function: Callable[Concatenate[PublishedValues, P], R]) -> None:
        self.workflow = workflow
        if not callable(function):
            raise ConfigurationError(f"a query is a def, not {shown(function)}")
        self.name = checked_name(getattr(function, "__name__", None), "the name of a query")
        if inspect.iscoroutinefunction(function) or not inspect.signature(function).parameters:
            raise ConfigurationError(f"query {self.name!r} must be a def whose first parameter takes the values")
        self._function = function

    def __repr__(self) -> str:
        return f"<Query {self.name!r} of workflow {self.workflow!r}>"

    def __call__(self, state: PublishedValues, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._function(state, *args, **kwargs)


class Update(Generic[P, R]):
    """A request that a running workflow answers, made by `@flow.update`. The handler stays callable."""

    def __init__(
        self,
        workflow: str,
        function: Callable[Concatenate[WorkflowContext, P], Coroutine[Any, Any, R]],
        codec: Callable[[], Codec],
    ) -> None:
        self.workflow = workflow
        if not callable(function):
            raise ConfigurationError(f"an update is an async def, not {shown(function)}")
        self.name = checked_name(getattr(function, "__name__", None), "the name of an update")
        parameters = inspect.signature(function).parameters
        if not inspect.iscoroutinefunction(function) or not takes_context(function):
            raise ConfigurationError(
                f"update {self.name!r} must be an async def whose first parameter is the WorkflowContext"
            )
        taken = sorted(UpdateOptions.__annotations__.keys() & parameters)
        if taken:
            raise ConfigurationError(
                f"update {self.name!r} has a parameter {taken[0]!r}, which is an option of the call"
            )
        self._function = function
        self._codec = codec
        self.validate: Callable[..., object] | None = None
        """Raises to refuse; None: what fits the parameters is accepted."""

    def __repr__(self) -> str:
        return f"<Update {self.name!r} of workflow {self.workflow!r}>"

    def __call__(self, ctx: WorkflowContext, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        return self._function(ctx, *args, **kwargs)

    def validator(
        self, function: Callable[Concatenate[WorkflowContext, P], None]
    ) -> Callable[Concatenate[WorkflowContext, P], None]:
        """Register a def with the parameters of the handler that raises to refuse a request, and changes nothing."""
        if inspect.iscoroutinefunction(function):
            raise ConfigurationError(f"the validator of update {self.name!r} must be a def")
        taken, wanted = list(inspect.signature(function).parameters), list(inspect.signature(self._function).parameters)
        if taken[1:] != wanted[1:] or not taken:
            raise ConfigurationError(
                f"the validator of update {self.name!r} takes ({', '.join(taken)}); give it the parameters of the "
                f"handler: ({', '.join(wanted)})"
            )
        if self.validate is not None:
            raise ConfigurationError(f"update {self.name!r} has a validator already")
        self.validate = function
        return function

    @cached_property
    def signature(self) -> Signature:
        return self._codec().signature(self._function, skip_first=True, name=f"{self.workflow}.{self.name}")

    @property
    def shape(self) -> Callable[P, R]:
        """For type checkers only."""
        raise AttributeError("shape exists for type checkers only")

    @property
    def is_update(self) -> Literal[True]:
        return True
