"""Waiters: when they look for the end of what this process has just stored, and of anything else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any, cast

import pytest

from durable import waiters
from durable.bus import Bus
from durable.execution import FinishedExecution, Status
from durable.storage import Hint
from durable.waiters import Waiters

END = FinishedExecution("one", Status.COMPLETED, "7", None)


class Looked:
    """Stands for a storage: notes what it is asked."""

    is_shared = False

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []
        self.ends: list[FinishedExecution] = []
        self.bus = Bus(cast("Any", self))
        self.waiters = Waiters(cast("Any", self), self.bus, poll_interval=60.0, random=Random(1))
        self.has_looked = asyncio.Event()

    async def finished(self, ids: Sequence[str]) -> list[FinishedExecution]:
        self.asked.append(("finished", list(ids)))
        self.has_looked.set()
        return self.ends

    async def existing(self, ids: Sequence[str]) -> set[str]:
        self.asked.append(("existing", list(ids)))
        return set(ids)

    async def settle(self) -> None:
        """Let every task go as far as it can."""
        for _ in range(10):
            turn = asyncio.Event()
            asyncio.get_running_loop().call_soon(turn.set)
            await turn.wait()


@pytest.fixture
async def looked() -> Looked:
    return Looked()


async def test_the_end_of_anything_is_looked_for_at_once(looked: Looked) -> None:
    looked.waiters.futures(["one"])
    await looked.settle()
    assert looked.asked == [("finished", ["one"]), ("existing", ["one"])]


async def test_what_was_just_stored_here_is_not_looked_for_at_once(looked: Looked) -> None:
    looked.waiters.stored(["one", "two"])
    (future,) = looked.waiters.futures(["one"])
    await looked.settle()
    assert looked.asked == []
    looked.waiters.resolve([END])
    assert await future == END


async def test_it_is_looked_for_a_little_later(looked: Looked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiters, "_FRESH", 0.001)
    looked.ends = [END]
    looked.waiters.stored(["one"])
    (future,) = looked.waiters.futures(["one"])
    async with asyncio.timeout(10):
        assert await future == END
    assert looked.asked == [("finished", ["one"])]


async def test_a_hint_has_it_looked_for_at_once(looked: Looked) -> None:
    looked.ends = [END]
    looked.waiters.stored(["one"])
    (future,) = looked.waiters.futures(["one"])
    looked.bus.tell(Hint("finished", ""))
    async with asyncio.timeout(10):
        assert await future == END


async def test_what_has_ended_here_before_anybody_waits_is_looked_for_at_once(looked: Looked) -> None:
    looked.waiters.stored(["one"])
    assert looked.waiters.are_interested
    looked.waiters.resolve([END])
    assert not looked.waiters.are_interested
    looked.waiters.futures(["one"])
    await looked.settle()
    assert looked.asked == [("finished", ["one"]), ("existing", ["one"])]


@pytest.mark.parametrize("topic", ["finished", "cancelled", "reconnected"])
async def test_what_may_have_ended_elsewhere_before_anybody_waits_is_looked_for_at_once(
    looked: Looked, topic: str
) -> None:
    looked.waiters.stored(["one"])
    looked.bus.tell(Hint("ready", "default"), Hint(topic, ""))
    looked.waiters.futures(["one"])
    await looked.settle()
    assert looked.asked == [("finished", ["one"]), ("existing", ["one"])]


async def test_who_has_no_time_looks_at_once(looked: Looked) -> None:
    looked.waiters.stored(["one"])
    looked.waiters.futures(["one"], within=0.015)
    await looked.settle()
    assert looked.asked == [("finished", ["one"]), ("existing", ["one"])]


async def test_what_is_waited_for_beside_it_is_looked_for_at_once(looked: Looked) -> None:
    looked.waiters.stored(["one"])
    looked.waiters.futures(["one", "other"])
    await looked.settle()
    assert looked.asked == [("finished", ["one", "other"]), ("existing", ["other"])]


async def test_who_waits_a_second_time_looks_at_once(looked: Looked) -> None:
    looked.waiters.stored(["one"])
    looked.waiters.futures(["one"])[0].cancel()
    await looked.settle()
    looked.waiters.futures(["one"])
    await looked.settle()
    assert looked.asked == [("finished", ["one"]), ("existing", ["one"])]


async def test_what_was_stored_long_ago_is_looked_for_at_once(looked: Looked, monkeypatch: pytest.MonkeyPatch) -> None:
    looked.waiters.stored(["one"])
    monkeypatch.setattr(waiters, "_FRESH", 0.0)
    looked.waiters.futures(["one"])
    await looked.settle()
    assert looked.asked == [("finished", ["one"]), ("existing", ["one"])]


async def test_only_so_many_of_the_last_are_known(looked: Looked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiters, "_MOST_FRESH", 2)
    for name in ("one", "two", "three"):
        looked.waiters.stored([name])
    assert len(looked.waiters._fresh) <= 2  # pyright: ignore[reportPrivateUsage]
