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

    __slots__ = (
        "about",
        "age",
        "cancel_signal",
        "claimed",
        "close",
        "connection",
        "deadline",
        "exhausted",
        "has_news",
        "is_lost",
        "is_over",
        "joined",
        "news",
        "renewed_at",
        "started_at",
        "stop_reason",
        "task",
    )

    def __init__(self, claimed: Claimed, renewed_at: float, deadline: float) -> None:
        self.claimed = claimed
        self.renewed_at = renewed_at
        """Monotonic time at which the last accepted claim or renewal was sent."""
        self.deadline = deadline
        """Monotonic time after which this process must count the lease as lost, whatever any query is doing."""
        self.close: Callable[[Settlement], Settlement] | None = None
        """Adds what an end must carry beside the execution's own, whatever way it ends; None: nothing."""
        self.started_at = renewed_at
        """Monotonic time at which its handler was started; until then, that of the claim."""
        self.age: float | None = None
        """Seconds since the first attempt, for max_duration, where the execution's age is another; None: it is that."""
        self.about: object | None = None
        """What its kind has found out about the turn, for the events that tell of its end, failed or not."""
        self.news: Callable[[], None] | None = None
        """Told, instead of being stopped, when somebody marked the execution for its executor; None: it is stopped."""
        self.has_news = False
        """Of a workflow: it was marked, be it before its turn began, and its turn has not looked at its row since."""
        self.exhausted: str | None = None
        """The limit of the retry policy that its failure has met: max_attempts or max_duration."""
        self.task: asyncio.Task[None] | None = None
        self.cancel_signal: Signal | None = None
        self.is_lost = False
        self.is_over = False
        """Its end was handed over or given up: what its handler still does is nobody's any more."""
        self.stop_reason: str | None = None
        """Why the handler was cancelled: timed_out, lost, cancelled or shutdown; None while nobody did."""
        self.joined: Callable[[], Awaitable[str]] | None = None
        """What is yet to run in the transaction that ends the execution; gives its output."""
        self.connection: Any = None
        """That of the transaction, while it runs."""

    @property
    def key(self) -> tuple[str, int]:
        return self.claimed.id, self.claimed.fence

    def stop(self, reason: str) -> None:
        """Cancel the handler's coroutine and set the signal that its thread may look at. Event loop only."""
        self.stop_reason = self.stop_reason or reason
        self.is_lost = self.is_lost or reason in ("lost", "cancelled")
        if self.cancel_signal is not None:
            self.cancel_signal.set()
        if self.task is not None:
            self.task.cancel()


class Holdings:
    """The attempts held, by (id, fence): an execution that this process claims again is another entry.

    Changed on the event loop only; `snapshot` may be called from any thread.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], Attempt] = {}
        self._newest: dict[str, Attempt] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Attempt]:
        return iter(self.snapshot())

    def add(self, attempt: Attempt) -> Attempt | None:
        """Hold it; gives the attempt at the same execution that was held until now, whose lease must be gone."""
        before = self._newest.get(attempt.claimed.id)
        self._held[attempt.key] = self._newest[attempt.claimed.id] = attempt
        self._empty.clear()
        return before

    def get(self, key: tuple[str, int]) -> Attempt | None:
        return self._held.get(key)

    def remove(self, key: tuple[str, int]) -> None:
        removed = self._held.pop(key, None)
        if removed is not None and self._newest.get(key[0]) is removed:
            del self._newest[key[0]]
        if not self._held:
            self._empty.set()

    async def emptied(self) -> None:
        """Wait until nothing is held."""
        await self._empty.wait()

    def of(self, execution_id: str) -> list[Attempt]:
        return [attempt for attempt in self.snapshot() if attempt.claimed.id == execution_id]

    def snapshot(self) -> list[Attempt]:
        # list(dict.values()) copies under the interpreter's lock in one step, so a thread sees a whole state.
        return list(self._held.values())
