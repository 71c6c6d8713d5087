"""A client call of several steps, written once and played by the clients of both colours.

A script is a generator: it yields what it wants of the storage, is sent the answer, and returns the result of the call.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar

from durable.job import Appended, NewEvent
from durable.storage import Hint, Operation, Storage

__all__ = ["Append", "Ask", "EndOf", "Script", "Tell", "append", "ask"]

T = TypeVar("T")


class Ask(NamedTuple):
    """Run an operation; it must bear being repeated."""

    make: Callable[[Storage], Operation[Any]]


class Append(NamedTuple):
    """Append one event; answered with an Appended. May go out together with those of other calls."""

    event: NewEvent


class Tell(NamedTuple):
    """Give hints, after what was asked before has been committed."""

    hints: tuple[Hint, ...]


class EndOf(NamedTuple):
    """Wait for the end of an execution; answered with a FinishedExecution. Raises ResultTimeout."""

    execution_id: str
    timeout: float | None


Script = Generator[Append | Ask | Tell | EndOf, Any, T]


def ask(make: Callable[[Storage], Operation[T]]) -> Script[T]:
    """The answer to an operation, with its type; `yield from ask(…)`."""
    answer: T = yield Ask(make)
    return answer


def append(event: NewEvent) -> Script[Appended]:
    """What became of an event; `yield from append(…)`."""
    answer: Appended = yield Append(event)
    return answer
