"""The storage in memory looks at few rows: how many is counted, because how long it takes says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from durable.job import TurnPolicy, TurnToTake
from durable.memory.overlay import Index, Overlay, Table
from durable.testing.contract.jobs_scene import TURN
from durable.testing.contract.pool_scene import PoolScene
from durable.testing.contract.scene import Scene
from durable.testing.contract.timers import OWNER, TimerScene
from durable.timer import TimerEnd
from durable.transitions import complete
from tests.support.memory_subject import MemorySubject

FEW = 20
"""Rows that are looked at for each one that is claimed or ended, however many there are."""


class Looks:
    """Counts the rows that all tables in memory give."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for name in ("find_items", "items", "values"):
            monkeypatch.setattr(Overlay, name, self._counting(getattr(Overlay, name)))

    def _counting(self, look: Any) -> Any:
        def counted(*args: Any) -> Iterator[Any]:
            for row in look(*args):
                self.count += 1
                yield row

        return counted


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


@pytest.mark.parametrize("count", [100, 2_000])
async def test_a_limited_pool_looks_at_few_rows_for_each_work(looks: Looks, count: int) -> None:
    pool = PoolScene(Scene(MemorySubject()))
    await pool.open(max_parallelism=3)
    await pool.enqueue(count)
    looks.count = 0
    assert len(await pool.drain()) == count
    assert looks.count < FEW * count


@pytest.mark.parametrize("count", [100, 2_000])
async def test_the_timers_of_one_owner_cost_few_looks_each(looks: Looks, count: int) -> None:
    timers = TimerScene(MemorySubject())
    for number in range(count):
        await timers.set(delay=float(number % 7))
    assert looks.count < FEW * count
    await timers.subject.advance(10.0)
    looks.count = 0
    for _ in range(count):
        (turn,) = await timers.claim(TURN)
        (taken,) = await timers.storage.take_turns([TurnToTake(turn.id, turn.fence, TurnPolicy())])
        assert taken.timer is not None
        commit = timers.make.job_commit(taken.job.id, timer=TimerEnd(taken.timer.id, None, 0.0, 0))
        await timers.storage.settle([complete(turn, "null")._replace(job=commit)])
    assert await timers.listed(OWNER) == []
    assert looks.count < FEW * count


def rows() -> Table[str, int]:
    """Numbers by their last digit, the smaller first; 0 is in no group."""
    return Table(digit=Index(lambda _, value: value % 10 if value else None, lambda _, value: (value,)))


def test_a_find_gives_the_rows_of_a_group_in_order_with_what_the_transaction_has_changed() -> None:
    table = rows()
    table["a"], table["b"], table["c"], table["d"] = 31, 11, 21, 5
    overlay = Overlay(table)
    overlay.put("c", 41)
    overlay.put("e", 1)
    overlay.put("b", 12)
    overlay.put("e", 51)
    overlay.remove("d")
    assert list(overlay.find("digit", 1)) == [31, 41, 51]
    assert list(overlay.find("digit", 2)) == [12]
    assert list(overlay.find("digit", 5)) == []
    assert list(Overlay(table).find("digit", 1)) == [11, 21, 31]


def test_a_commit_keeps_the_indexes() -> None:
    table = rows()
    table["a"], table["b"] = 11, 21
    overlay = Overlay(table)
    overlay.put("a", 0)
    overlay.remove("b")
    overlay.put("c", 31)
    overlay.commit()
    assert dict(table) == {"a": 0, "c": 31}
    assert list(Overlay(table).find("digit", 1)) == [31]
    assert list(Overlay(table).find("digit", 0)) == []


def test_a_find_looks_at_no_more_rows_than_are_asked_for() -> None:
    table = rows()
    for number in range(100):
        table[str(number)] = number * 10 + 1
    found = Overlay(table).find("digit", 1)
    assert [next(found), next(found)] == [1, 11]
