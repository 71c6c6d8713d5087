"""Claims go onward while a whole look is slow, look at all again in time, and never rest before they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from durable.execution import Claimed, QueueLevel
from durable.memory.storage import MemoryStorage
from durable.rooms.onward import Onward
from durable.testing.make import Maker
from tests.unit.hand_clock import HandClock

LIMIT = 2
LANE = ("default", 0)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def turns() -> list[Claimed]:
    storage, make = MemoryStorage(), Maker()
    await storage.enqueue([*make.rows(2), make.row(priority=1)])
    return await storage.claim(
        executor_id="a", queues=["default"], task_names=[make.row().task_name], limit=10, lease=60.0
    )


def heard(onward: Onward, claimed: list[Claimed], *, is_whole: bool, took: float) -> Mapping[QueueLevel, str]:
    onward.note(claimed, limit=LIMIT, is_whole=is_whole, took=took)
    return onward.after()


def test_quick_whole_looks_stay_whole(clock: Any, turns: list[Claimed]) -> None:
    assert heard(Onward(clock), turns, is_whole=True, took=0.01) == {}


def test_after_a_slow_whole_look_claims_go_on_behind_the_last_of_each_lane(clock: Any, turns: list[Claimed]) -> None:
    onward = Onward(clock)
    first, second, third = turns
    assert first.priority == 1
    assert heard(onward, turns, is_whole=True, took=0.5) == {("default", 1): first.id, LANE: third.id}
    assert heard(onward, [first, second], is_whole=False, took=0.01) == {("default", 1): first.id, LANE: second.id}


def test_an_answer_that_is_not_full_makes_the_next_look_whole(clock: Any, turns: list[Claimed]) -> None:
    onward = Onward(clock)
    heard(onward, turns, is_whole=True, took=0.5)
    assert heard(onward, turns[:1], is_whole=False, took=0.01) == {}


def test_a_whole_look_is_due_when_twenty_times_its_duration_has_passed(clock: HandClock, turns: list[Claimed]) -> None:
    onward = Onward(clock)  # type: ignore[arg-type]
    heard(onward, turns, is_whole=True, took=0.5)
    clock.now += 9.9
    assert onward.after()
    clock.now += 0.1
    assert onward.after() == {}
