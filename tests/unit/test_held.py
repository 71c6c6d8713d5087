"""What waits for held rows: let go of when they are free, and also where nobody can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from durable.memory import MemoryStorage
from durable.memory.operation import MemoryOperation
from durable.memory.store import Store
from durable.rooms.held import HeldRows
from tests.unit.hand_clock import HandClock

PATIENCE = 30.0


class _Storage(MemoryStorage):
    """Tells of the rows that it is told to tell of; each look takes the next answer."""

    answers: list[frozenset[str] | Exception]

    def held_rows(self, ids: Sequence[str]) -> MemoryOperation[frozenset[str]]:
        answer = self.answers.pop(0)

        def tell(_: Any) -> frozenset[str]:
            if isinstance(answer, Exception):
                raise answer
            return answer.intersection(ids)

        return self._do(tell)


def rows(*answers: frozenset[str] | Exception) -> HeldRows:
    storage = _Storage(store=Store(lambda: datetime.now(UTC)))
    storage.answers = list(answers)
    return HeldRows(storage=storage, clock=HandClock())


async def test_each_is_let_go_of_when_its_rows_are_free() -> None:
    held = rows(frozenset("ab"), frozenset("b"), frozenset())
    assert await held.look("abc")
    assert (held.among("ac"), held.among("c")) == (frozenset("a"), frozenset())
    first, second = held.free(frozenset("a")), held.free(frozenset("b"))
    async with asyncio.timeout(PATIENCE):
        await first
        assert not second.done()
        await second
    assert held.among("ab") == frozenset()


async def test_nothing_is_held_where_a_look_finds_nothing() -> None:
    assert not await rows(frozenset()).look("abc")


async def test_who_waits_goes_on_where_nobody_can_tell(caplog: pytest.LogCaptureFixture) -> None:
    held = rows(frozenset("a"), PermissionError("no such right"))
    assert await held.look("a")
    async with asyncio.timeout(PATIENCE):
        await held.free(frozenset("a"))
    assert "could not be looked at" in caplog.text
    assert held.among("a") == frozenset()


async def test_a_look_that_fails_finds_nothing(caplog: pytest.LogCaptureFixture) -> None:
    held = rows(PermissionError("no such right"))
    assert not await held.look("a")
    assert "could not be looked at" in caplog.text


async def test_what_is_found_held_during_a_look_at_others_stays_held() -> None:
    held = rows(frozenset("a"), frozenset(), frozenset("b"), frozenset())
    assert await held.look("a")
    first = held.free(frozenset("a"))
    looks = held._ask

    async def look_while_another_looks(ids: Iterable[str]) -> frozenset[str]:
        found = await looks(ids)
        held._ask = looks  # type: ignore[method-assign]
        assert await held.look("b")
        return found

    held._ask = look_while_another_looks  # type: ignore[method-assign]
    async with asyncio.timeout(PATIENCE):
        await first
        assert held.among("ab") == frozenset("b")
        await held.free(frozenset("b"))
    assert held.among("ab") == frozenset()


async def test_nobody_waits_once_it_is_stopped() -> None:
    held = rows(frozenset("a"))
    assert await held.look("a")
    before = held.free(frozenset("a"))
    held.stop()
    assert before.cancelled()
    assert held.free(frozenset("a")).cancelled()
