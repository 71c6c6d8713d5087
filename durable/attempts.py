"""What this executor holds: attempts under their (id, fence), with the local deadline of each lease."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from durable.execution import Claimed, Settlement

__all__ = ["Attempt", "Holdings", "Signal"]


class Signal:
    """A flag that handlers in threads can wait for."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block this thread until the flag is set or `timeout` seconds have passed; gives whether it is set.

        Only for sync handlers: an async one gets CancelledError, and would block its event loop here.
        """
        return self._event.wait(timeout)

    def set(self) -> None:
        self._event.set()


class Attempt:
    """One claim in the hands of this process, from the claim until its end is written or refused."""

    # Most attempts never set most of these: they stay with the class, which makes an attempt quick to make.
    close: Callable[[Settlement], Settlement] | None = None
    """Adds what an end must carry beside the execution's own, whatever way it ends; None: nothing."""
    age: float | None = None
    """Seconds since the first attempt, for max_duration, where the execution's age is another; None: it is that."""
    about: object | None = None
    """What its kind has found out about the turn, for the events that tell of its end, failed or not."""
    has_news = False
    """Somebody marked the execution for its executor, and its kind has yet to look why."""
    on_news: Callable[[], None] | None = None
    """Called when there is news."""
    instance_id: str | None = None
    """The readable id of the job that it is a turn of, once its turn was taken; None for all else."""
    emit: Callable[[Any], None] | None = None
    """Adds to what a workflow streams, from any thread; None: it is no step of one that runs."""
    exhausted: str | None = None
    """The limit of the retry policy that its failure has met: max_attempts or max_duration."""
    task: asyncio.Task[None] | None = None
    cancel_signal: Signal | None = None
    has_begun = False
    """The first step of its task has run: only from then on does its coroutine notice that it is cancelled."""
    is_lost = False
    is_over = False
    """Its end was handed over or given up: what its handler still does is nobody's any more."""
    stop_reason: str | None = None
    """Why the handler was cancelled: timed_out, lost, cancelled or shutdown; None while nobody did."""
    joined: Callable[[], Awaitable[str]] | None = None
    """What is yet to run in the transaction that ends the execution; gives its output."""
    connection: Any = None
    """That of the transaction, while it runs."""

    def __init__(self, claimed: Claimed, renewed_at: float, deadline: float) -> None:
        self.claimed = claimed
        self.renewed_at = renewed_at
        """Monotonic time at which the last accepted claim or renewal was sent."""
        self.deadline = deadline
        """Monotonic time after which this process must count the lease as lost, whatever any query is doing."""
        self.started_at = renewed_at
        """Monotonic time at which its handler was started; until then, that of the claim."""

    @property
    def key(self) -> tuple[str, int]:
        return self.claimed.id, self.claimed.fence

    def tell_news(self) -> None:
        """Of a kind that is told, instead of being stopped; also before its handler has begun."""
        self.has_news = True
        if self.on_news is not None:
            self.on_news()

    def stop(self, reason: str) -> None:
        """Cancel the handler's coroutine and set the signal that its thread may look at. Event loop only."""
        self.stop_reason = self.stop_reason or reason
        self.is_lost = self.is_lost or reason in ("lost", "cancelled")
        if self.cancel_signal is not None:
            self.cancel_signal.set()
        if self.task is not None and self.has_begun:
            self.task.cancel()


class Holdings:
    """The attempts held. An execution that this process claims again is held a second time.

    Changed on the event loop only; `snapshot` may be called from any thread.
    """

    def __init__(self) -> None:
        self._held: dict[str, Attempt] = {}
        """The newest attempt at each execution."""
        self._older: dict[tuple[str, int], Attempt] = {}
        """Attempts whose lease is gone: their executions are held anew."""
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._held) + len(self._older)

    def __iter__(self) -> Iterator[Attempt]:
        return iter(self.snapshot())

    def add(self, attempt: Attempt) -> Attempt | None:
        """Hold it; gives the attempt at the same execution that was held until now, whose lease must be gone."""
        id_ = attempt.claimed.id
        before = self._held.get(id_)
        if before is not None:
            self._older[before.key] = before
        self._held[id_] = attempt
        self._empty.clear()
        return before

    def __contains__(self, attempt: Attempt) -> bool:
        return self._held.get(attempt.claimed.id) is attempt or self._older.get(attempt.key) is attempt

    def remove(self, attempt: Attempt) -> None:
        """Hold it no more; nothing happens to one that is not held."""
        id_ = attempt.claimed.id
        if self._held.get(id_) is attempt:
            del self._held[id_]
        elif self._older:
            self._older.pop(attempt.key, None)
        if not self._held and not self._older:
            self._empty.set()

    async def emptied(self) -> None:
        """Wait until nothing is held."""
        await self._empty.wait()

    def of(self, execution_id: str) -> list[Attempt]:
        return [attempt for attempt in self.snapshot() if attempt.claimed.id == execution_id]

    def snapshot(self) -> list[Attempt]:
        # list(dict.values()) copies under the interpreter's lock in one step, so a thread sees a whole state.
        held = list(self._held.values())
        return [*held, *list(self._older.values())] if self._older else held
