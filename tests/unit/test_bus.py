"""The bus: what other processes hear of a stream of hints, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from durable.bus import Bus
from durable.storage import Hint

READY = Hint("ready", "default")


class Sent:
    """Stands for a storage: notes each statement with hints. And for the clock: a gap lasts until it is ended."""

    is_shared = True

    def __init__(self) -> None:
        self.statements: list[set[Hint]] = []
        self.tellers: set[str] = set()
        self.gaps: list[float] = []
        self._end = asyncio.Event()
        self.bus = Bus(cast("Any", self), sleep=self._sleep)

    async def hint(self, hints: Sequence[Hint], *, teller: str) -> None:
        self.statements.append(set(hints))
        self.tellers.add(teller)

    async def listen(self, *, teller: str) -> AsyncIterator[Hint]:
        self.tellers.add(teller)
        nothing: tuple[Hint, ...] = ()
        for hint in nothing:
            yield hint

    async def _sleep(self, seconds: float) -> None:
        self.gaps.append(seconds)
        self._end.clear()
        await self._end.wait()

    async def settle(self) -> None:
        """Let every task go as far as it can."""
        for _ in range(10):
            turn = asyncio.Event()
            asyncio.get_running_loop().call_soon(turn.set)
            await turn.wait()

    async def end_gap(self) -> None:
        self._end.set()
        await self.settle()

    async def tell(self, times: int) -> None:
        for _ in range(times):
            self.bus.tell_paced(READY)
        await self.settle()


@pytest.fixture
async def sent() -> Sent:
    return Sent()


async def test_a_lone_hint_goes_out_at_once(sent: Sent) -> None:
    await sent.tell(1)
    assert sent.statements == [{READY}]
    await sent.end_gap()
    await sent.tell(1)
    assert sent.statements == [{READY}, {READY}]


async def test_some_that_come_one_by_one_go_out_at_once(sent: Sent) -> None:
    for count in range(1, 5):
        await sent.tell(1)
        assert len(sent.statements) == count
    await sent.tell(1)
    assert len(sent.statements) == 4
    await sent.end_gap()
    assert len(sent.statements) == 5


async def test_a_stream_goes_out_in_bursts_further_and_further_apart(sent: Sent) -> None:
    await sent.tell(4)
    for count in range(1, 6):
        await sent.tell(100)
        assert len(sent.statements) == count
        await sent.end_gap()
        assert len(sent.statements) == count + 1
    assert sent.gaps == [0.01, 0.02, 0.04, 0.05, 0.05, 0.05]


async def test_what_only_others_are_told_is_paced_without_a_word_to_listeners_here(sent: Sent) -> None:
    heard: list[Hint] = []
    sent.bus.subscribe(heard.append)
    for _ in range(9):
        sent.bus.tell_others_paced(READY)
        await sent.settle()
    assert (len(sent.statements), heard) == (4, [])
    await sent.end_gap()
    assert len(sent.statements) == 5


async def test_a_stream_of_ends_does_not_hold_back_what_is_enqueued(sent: Sent) -> None:
    for _ in range(9):
        sent.bus.tell_others_paced(Hint("finished", ""))
        await sent.settle()
    assert {READY} not in sent.statements
    await sent.tell(1)
    assert sent.statements[-1] == {READY}


async def test_a_stream_that_thins_out_is_told_sooner_again(sent: Sent) -> None:
    await sent.tell(4 + 3)
    await sent.end_gap()
    await sent.tell(1)
    await sent.end_gap()
    assert sent.gaps == [0.01, 0.02, 0.01]


async def test_who_waits_here_hurries_what_is_held_back(sent: Sent) -> None:
    await sent.tell(5)
    assert sent.statements == [{READY}]
    sent.bus.hurry()
    await sent.settle()
    assert sent.statements == [{READY}, {READY}]
    await sent.end_gap()
    assert sent.statements == [{READY}, {READY}]


async def test_what_is_held_back_goes_out_before_the_end(sent: Sent) -> None:
    await sent.tell(5)
    await sent.bus.close()
    assert sent.statements == [{READY}, {READY}]


async def test_listeners_of_the_same_process_hear_every_hint_at_once(sent: Sent) -> None:
    heard: list[Hint] = []
    sent.bus.subscribe(heard.append)
    sent.bus.tell_paced(READY)
    sent.bus.tell_paced(READY)
    assert heard == [READY, READY]


async def test_a_process_tells_and_listens_under_one_name_of_its_own(sent: Sent) -> None:
    sent.bus.hear()
    await sent.tell(1)
    other = Sent()
    await other.tell(1)
    assert len(sent.tellers) == len(other.tellers) == 1
    assert sent.tellers != other.tellers
    assert "" not in sent.tellers
