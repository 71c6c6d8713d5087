"""OnComplete: which task to call when an execution has ended, with what, for which ends and in which transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, Protocol, TypeVar, overload

from durable.errors import ConfigurationError
from durable.execution import Status
from durable.returns import Completion

__all__ = ["Callback", "End", "OnComplete"]

C = TypeVar("C")
F_co = TypeVar("F_co", covariant=True)

End = Literal["completed", "failed", "timed_out", "cancelled"]
_ENDS: Final[dict[str, tuple[Status, ...]]] = {
    "completed": (Status.COMPLETED,),
    "failed": (Status.FAILED, Status.FINALIZE_FAILED),
    "timed_out": (Status.TIMED_OUT,),
    "cancelled": (Status.CANCELLED,),
}
_MODES: Final = ("execution", "transaction")


class Callback(Protocol[F_co]):
    """What is asked of the task that is called."""

    @property
    def shape(self) -> F_co: ...

    def check_callback(self) -> None: ...

    def callback_text(self, context: Any, *, when: Iterable[Status] | None, is_within: bool) -> str: ...


class OnComplete:
    """An option of `enqueue`: call a task once when the execution has ended for good, whatever ended it.

    `callback` takes one argument, a Completion. `context` is stored with the execution and given back with the call.
    `when` names the ends that are called for; None means all of them.

    `mode="execution"` makes an execution of the callback in the transaction that ends the work; it has the options
    and retries of its task. `mode="transaction"` runs it inside that transaction, on `ctx.connection`: what it writes
    there is committed together with the result, or, if it raises, not at all. Then the result is kept, and the call
    goes on as an execution with that failure as its first attempt. So it does at ends that no executor writes:
    cancelled, poisoned, past a deadline, woken.
    """

    __slots__ = ("_callback", "_context", "_is_within", "_when")

    @overload
    def __init__(
        self,
        callback: Callback[Callable[[Completion[Any, None]], Any]],
        *,
        when: Iterable[End] | None = None,
        mode: Literal["execution", "transaction"] = "execution",
    ) -> None: ...
    @overload
    def __init__(
        self,
        callback: Callback[Callable[[Completion[Any, C]], Any]],
        *,
        context: C,
        when: Iterable[End] | None = None,
        mode: Literal["execution", "transaction"] = "execution",
    ) -> None: ...
    def __init__(
        self, callback: Any, *, context: Any = None, when: Iterable[str] | None = None, mode: str = "execution"
    ) -> None:
        """Raise ConfigurationError for what is no task of one Completion, no end or no mode."""
        if not hasattr(callback, "callback_text"):
            raise ConfigurationError(f"OnComplete takes a task, not {type(callback).__name__}")
        if mode not in _MODES:
            raise ConfigurationError(f"mode {mode!r} must be one of {', '.join(_MODES)}")
        self._callback: Callback[Any] = callback
        self._callback.check_callback()
        self._context = context
        self._is_within = mode == "transaction"
        self._when = None if when is None else _statuses(when)

    def to_text(self) -> str:
        """The stored form; raises SerializationError for a context that the callback's annotation does not take."""
        return self._callback.callback_text(self._context, when=self._when, is_within=self._is_within)


def _statuses(when: Iterable[str]) -> frozenset[Status]:
    ends = [when] if isinstance(when, str) else list(when)
    unknown = [end for end in ends if end not in _ENDS]
    if unknown or not ends:
        raise ConfigurationError(f"when must name one or more of {', '.join(_ENDS)}; got {unknown or ends}")
    return frozenset(status for end in ends for status in _ENDS[end])
