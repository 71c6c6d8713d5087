"""A client call of several steps, written once and played by the clients of both colours.

A script is a generator: it yields what it wants of the storage, is sent the answer, and returns the result of the call.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar

from durable.job import Appended, NewEvent
from durable.storage import Hint, Operation, Storage

__all__ = ["Append", "Ask", "EndOf", "Heard", "NewsOf", "Script", "Tell", "append", "ask", "change", "when_said"]

T = TypeVar("T")


class Ask(NamedTuple):
    """Run an operation; it must bear being repeated."""

    make: Callable[[Storage], Operation[Any]]
    may_wait: bool
    """It writes rows that another transaction may hold."""


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


class Heard(NamedTuple):
    """What has been heard of a workflow; see NewsOf."""

    number: int
    waited: float
    """Seconds."""


class NewsOf(NamedTuple):
    """Wait until a workflow may have said something since, or has ended, or a while has passed; answered with a Heard.

    Raises ExecutionNotFound.
    """

    execution_id: str
    heard: int | None
    """The number of the answer before; None: answer at once."""
    looks: int
    """How many looks in a row have found nothing."""
    limit: float | None
    """Seconds; None: as long as it is good to wait between looks."""


Script = Generator[Append | Ask | Tell | EndOf | NewsOf, Any, T]


def ask(make: Callable[[Storage], Operation[T]]) -> Script[T]:
    """The answer to an operation that only reads, with its type; `yield from ask(…)`."""
    answer: T = yield Ask(make, may_wait=False)
    return answer


def change(make: Callable[[Storage], Operation[T]]) -> Script[T]:
    """The same of one that writes rows which a transaction of somebody else's may hold."""
    answer: T = yield Ask(make, may_wait=True)
    return answer


def append(event: NewEvent) -> Script[Appended]:
    """What became of an event; `yield from append(…)`."""
    answer: Appended = yield Append(event)
    return answer


def when_said(
    execution_id: str, look: Callable[[], Script[T | None]], timeout: float | None = None
) -> Script[T | None]:
    """What `look` finds, as soon as it finds something; None: the workflow has ended without, or the time is over.

    `timeout` is in seconds; 0 looks once.
    """
    heard: Heard = yield NewsOf(execution_id, None, 0, None)
    waited = 0.0
    looks = 0
    while True:
        # What it says at its end is there when the end is: so the end is asked for first.
        ended = yield from ask(lambda storage: storage.finished([execution_id]))
        found = yield from look()
        left = None if timeout is None else timeout - waited
        if found is not None or ended or (left is not None and left <= 0):
            return found
        heard = yield NewsOf(execution_id, heard.number, looks, left)
        waited += heard.waited
        looks += 1
