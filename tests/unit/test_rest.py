"""What the claim room sleeps for, and how little it asks while it does: no time passes here but what the test says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import cast

import pytest

from durable.memory import MemoryStorage
from durable.rooms.loop import Waker
from durable.rooms.rest import Rest
from durable.storage import NextStart, Operation

POLL = 2.0
LONG = 1_000_000.0
START = datetime(2030, 1, 1, tzinfo=UTC)


class FakeTime(Waker):
    """A waker on which waiting moves the time, until the moment at which it is rung."""

    def __init__(self, rung_at: float) -> None:
        super().__init__(Random(0))
        self.now = 0.0
        self.rung_at = rung_at
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """For the interface of a clock and of a waker alike."""
        await self.wait(seconds)

    def spread(self, seconds: float) -> float:
        return seconds

    async def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now = min(self.now + seconds, max(self.rung_at, self.now))
        return self.now >= self.rung_at


class Stage:
    """A room at rest on a store in which work comes due at given moments, seen like `next_start` sees it."""

    def __init__(self, *due: float, rung_at: float = LONG) -> None:
        self.time = FakeTime(rung_at)
        self.due = list(due)
        self.looks: list[datetime | None] = []
        self.rest = Rest(storage=MemoryStorage(), waker=self.time, clock=self.time, interval=POLL, look=self._look)

    def _look(self, after: datetime | None, within: float) -> Operation[NextStart]:
        self.looks.append(after)
        begin = -math.inf if after is None else (after - START).total_seconds()
        found = [at for at in self.due if begin < at <= self.time.now + within]
        now = START + timedelta(seconds=self.time.now)
        wait = max(min(found) - self.time.now, 0.0) if found else None
        return cast("Operation[NextStart]", _done(NextStart(now, wait)))

    async def until_work(self, count: int = 0, wait: float | None = None) -> float:
        """Rest after a claim that is made now; gives the moment of the next."""
        await self.rest.until_work(count, self.time.now, wait)
        return self.time.now


async def _done(value: NextStart) -> NextStart:
    return value


@pytest.mark.parametrize("moment", [0.02, 0.3, 1.999, 2.5, 7.3])
async def test_what_comes_due_is_claimed_at_that_moment(moment: float) -> None:
    stage = Stage(moment)
    assert await stage.until_work() == pytest.approx(moment)


async def test_a_grid_that_is_closer_than_the_poll_is_met_slot_by_slot() -> None:
    slots = [0.3 * number for number in range(1, 20)]
    stage = Stage(*slots)
    for slot in slots:
        assert await stage.until_work(1) == pytest.approx(slot)
        stage.due.remove(slot)
    assert len(stage.looks) == len(slots)


async def test_what_comes_due_before_the_first_look_is_claimed_after_it() -> None:
    stage = Stage(0.005)
    assert await stage.until_work() == pytest.approx(0.01)


async def test_an_idle_room_looks_once_for_each_poll_and_claims_nothing() -> None:
    stage = Stage(rung_at=200.0)
    assert await stage.until_work() == 200.0
    assert len(stage.looks) <= 200.0 / POLL + 1


async def test_a_poll_finds_what_nobody_told_of() -> None:
    stage = Stage(0.5)
    await stage.until_work()
    stage.due = [-5.0]  # due before the look that was made: only one without a bound sees it
    assert await stage.until_work(1) == pytest.approx(0.5 + POLL + 0.01)
    assert stage.looks == [None, START + timedelta(seconds=0.01), None]


async def test_a_ring_is_heard_before_the_first_look_and_after_it() -> None:
    early = Stage(0.5, rung_at=0.004)
    assert (await early.until_work(), early.looks) == (0.004, [])
    late = Stage(0.5, rung_at=0.2)
    assert (await late.until_work(), len(late.looks)) == (0.2, 1)


async def test_work_that_is_due_and_cannot_be_had_is_asked_for_at_polls_only() -> None:
    stage = Stage(-1.0, rung_at=100.0)
    claims = 0
    while stage.time.now < 100.0:
        await stage.until_work()
        claims += 1
    assert claims + len(stage.looks) <= 3 * (100.0 / POLL) + 1


async def test_moments_at_which_others_are_first_cost_a_bounded_number_of_statements() -> None:
    stage = Stage(*(number / 1000 for number in range(100_000)), rung_at=100.0)
    claims = 0
    while stage.time.now < 100.0:
        await stage.until_work()
        claims += 1
    assert claims + len(stage.looks) <= 13 * 100


async def test_a_claim_that_gives_something_makes_the_room_quick_again() -> None:
    stage = Stage(*(number / 1000 for number in range(100_000)))
    for _ in range(20):
        await stage.until_work()
    before = stage.time.now
    assert await stage.until_work(1) == pytest.approx(before + 0.01, abs=0.002)


@pytest.mark.parametrize(("wait", "looks"), [(0.0, 0), (0.02, 0), (0.5, 1)])
async def test_a_pool_that_says_when_to_come_again_is_believed(wait: float, looks: int) -> None:
    stage = Stage()
    assert await stage.until_work(wait=wait) == pytest.approx(wait)
    assert len(stage.looks) == looks


async def test_the_earlier_of_a_pool_and_of_what_comes_due_counts() -> None:
    assert await Stage(0.3).until_work(wait=0.5) == pytest.approx(0.3)
    assert await Stage(0.7).until_work(wait=0.5) == pytest.approx(0.5)


async def test_a_pool_that_says_to_come_much_later_is_asked_at_the_polls_as_well() -> None:
    stage = Stage(-1.0)
    assert await stage.until_work() == pytest.approx(0.01)
    assert await stage.until_work(wait=60.0) == pytest.approx(POLL + 0.03)


async def test_what_comes_due_between_a_claim_and_a_slow_look_is_seen() -> None:
    stage = Stage(0.2, 0.25)
    assert await stage.until_work() == pytest.approx(0.2)
    stage.due.remove(0.2)
    claimed_at = stage.time.now
    stage.time.now = 0.4  # the claim was quick, and the answer or the look is slow
    await stage.rest.until_work(1, claimed_at, None)
    assert stage.time.now == pytest.approx(0.41)


def test_the_spread_of_a_poll_is_a_fifth_of_it() -> None:
    waker = Waker(Random(1))
    spread: Sequence[float] = [waker.spread(10.0) for _ in range(1000)]
    assert 8.0 <= min(spread) < 8.2
    assert 11.8 < max(spread) <= 12.0
