"""Leases whose rows somebody holds are renewed soon after, and not at the next usual time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from durable.attempts import Attempt, Holdings
from durable.memory import MemoryStorage
from durable.memory.operation import MemoryOperation
from durable.memory.store import Store
from durable.rooms.renew import RenewRoom
from durable.testing.make import Maker
from tests.unit.hand_clock import HandClock

LEASE = 60.0


class _Storage(MemoryStorage):
    """The first renewal meets a row that is held."""

    tries = 0

    def renew(self, held: Sequence[tuple[str, int]], *, lease: float) -> MemoryOperation[frozenset[str]]:
        self.tries += 1
        return super().renew(held if self.tries > 1 else [], lease=lease)


class _Alarm:
    """Instead of waiting, it notes for how long; set after some times."""

    def __init__(self, clock: HandClock, times: int) -> None:
        self.waits: list[float] = []
        self._clock = clock
        self._times = times

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self._clock.now += seconds
        return len(self.waits) > self._times


async def test_a_held_lease_is_renewed_soon_after() -> None:
    storage, clock, holdings = _Storage(store=Store(lambda: datetime.now(UTC))), HandClock(), Holdings()
    row = Maker().row()
    await storage.enqueue([row])
    (turn,) = await storage.claim(executor_id="a", queues=[row.queue], task_names=[row.task_name], limit=1, lease=LEASE)
    attempt = Attempt(turn, clock.monotonic() - LEASE / 3, clock.monotonic() + LEASE)
    holdings.add(attempt)
    room = RenewRoom(storage=storage, holdings=holdings, clock=clock, lease=LEASE, on_lost=lambda _: None)
    alarm = _Alarm(clock, 2)
    room._stopping = alarm  # type: ignore[assignment]
    room._run()
    assert alarm.waits == [LEASE / 6, 0.25, LEASE / 6]
    assert (storage.tries, attempt.renewed_at) == (2, clock.now - LEASE / 6)
