"""The settle room goes on, and loses no end, whatever fails around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from durable.attempts import Attempt, Holdings
from durable.errors import RowsHeld, StorageError, StorageUnavailable
from durable.execution import Settled, Settlement
from durable.execution_log import ExecutionLog
from durable.memory import MemoryStorage
from durable.memory.operation import MemoryOperation
from durable.memory.store import Store
from durable.rooms import settle
from durable.rooms.held import HeldRows
from durable.rooms.settle import SettleRoom
from durable.testing.make import Maker
from durable.transitions import complete
from tests.unit.hand_clock import HandClock

PATIENCE = 30.0


class _Storage(MemoryStorage):
    """Fails as it is told to: each of `troubles` is for one try to settle; None lets it pass."""

    troubles: list[Callable[[Sequence[Settlement]], Exception | None]]
    is_lookable = True
    held: frozenset[str] = frozenset()

    def settle(self, settlements: Sequence[Settlement], **options: Any) -> MemoryOperation[Settled]:
        if self.held.intersection(item.id for item in settlements):
            return self._do(_raising(RowsHeld("held")))
        trouble = self.troubles.pop(0)(settlements) if self.troubles else None
        return super().settle(settlements, **options) if trouble is None else self._do(_raising(trouble))

    def held_rows(self, ids: Sequence[str]) -> MemoryOperation[frozenset[str]]:
        if not self.is_lookable:
            return self._do(_raising(StorageError("the look was refused")))
        return self._do(lambda _: self.held.intersection(ids))


def _raising(error: Exception) -> Callable[[Any], Any]:
    def work(_: Any) -> None:
        raise error

    return work


def _meet_held(_: Sequence[Settlement]) -> Exception:
    return RowsHeld("held")


class _Room:
    """A settle room that runs, and the ends that it has to write."""

    def __init__(self, *troubles: Callable[[Sequence[Settlement]], Exception | None]) -> None:
        self.storage = _Storage(store=Store(lambda: datetime.now(UTC)))
        self.storage.troubles = list(troubles)
        self.accepted: list[str] = []
        self.apart: list[int] = []
        self.holdings = Holdings()
        self.held = HeldRows(storage=self.storage, clock=HandClock())
        self.room = SettleRoom(
            storage=self.storage, held=self.held, holdings=self.holdings, on_settled=self._on_settled,
            log=ExecutionLog(lambda _: 20), on_freed=lambda _: None,
            on_apart=lambda: self.apart.append(self.room.apart),
        )  # fmt: skip
        self._make = Maker()

    def _on_settled(self, settlements: list[Settlement], settled: Settled, refused: int) -> None:
        self.accepted += [settlement.id for settlement in settlements]

    async def ends(self, count: int) -> list[tuple[Attempt, Settlement]]:
        rows = self._make.rows(count)
        await self.storage.enqueue(rows)
        turns = await self.storage.claim(
            executor_id="a", queues=[rows[0].queue], task_names=[rows[0].task_name], limit=count, lease=60
        )
        attempts = [Attempt(turn, 0.0, 60.0) for turn in turns]
        for attempt in attempts:
            self.holdings.add(attempt)
        return [(attempt, complete(attempt.claimed, "1")) for attempt in attempts]

    async def write(self, ends: Sequence[tuple[Attempt, Settlement]]) -> None:
        for end in ends:
            self.room.put(*end)
        writing = asyncio.create_task(self.room.run())
        async with asyncio.timeout(PATIENCE):
            await self.room.flushed()
        assert not writing.done()
        writing.cancel()


async def test_it_goes_on_where_nobody_can_tell_what_is_held() -> None:
    stand = _Room(*[_meet_held] * 4)
    stand.storage.is_lookable = False
    ends = await stand.ends(2)
    await stand.write(ends)
    assert sorted(stand.accepted) == sorted(settlement.id for _, settlement in ends)
    assert len(stand.holdings) == 0


async def test_it_goes_on_after_an_error_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    stand = _Room(lambda _: StorageError("not storable"))
    first, second = await stand.ends(2)

    def fail(_: Settlement) -> Settlement:
        raise ValueError("of whoever adds to an end")

    first[0].close = fail
    await stand.write([first])
    await stand.write([second])
    assert stand.accepted == [second[1].id]
    assert "left to their leases" in caplog.text
    assert len(stand.holdings) == 0


async def test_what_was_written_before_the_rest_met_held_rows_is_not_refused() -> None:
    stand = _Room()
    first, second = ends = await stand.ends(2)

    def write_one_and_lose_the_answer(_: Sequence[Settlement]) -> Exception:
        MemoryStorage.settle(stand.storage, [first[1]]).run()
        return StorageUnavailable("the answer was lost")

    stand.storage.troubles = [write_one_and_lose_the_answer, lambda _: RowsHeld("held")]
    await stand.write(ends)
    assert stand.accepted == [first[1].id, second[1].id]
    assert stand.room.refused_count == 0


async def test_an_end_that_fails_for_what_it_writes_waits_for_held_rows_like_any_other() -> None:
    def refuse(_: Sequence[Settlement]) -> Exception:
        return StorageError("not storable")

    stand = _Room(refuse, lambda _: RowsHeld("held"))
    (end,) = ends = await stand.ends(1)
    await stand.write(ends)
    (record,) = await stand.storage.get([end[1].id])
    assert record is not None
    assert (record.status, stand.accepted) == ("failed", [end[1].id])


async def test_many_ends_that_wait_for_others_are_told_of_and_count_up_to_a_bound(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "_MOST_APART", 3)
    stand = _Room()
    ends = await stand.ends(5)
    stand.storage.held = frozenset(settlement.id for _, settlement in ends)
    looks = stand.storage.held_rows

    def free_later(ids: Sequence[str]) -> MemoryOperation[frozenset[str]]:
        found = looks(ids)
        if stand.apart:
            stand.storage.held = frozenset()
        return found

    monkeypatch.setattr(stand.storage, "held_rows", free_later)
    await stand.write(ends)
    assert stand.apart == [1, 2, 3, 3, 3]
    assert len([record for record in caplog.records if "wait for open transactions" in record.message]) == 1
    assert (len(stand.accepted), stand.room.apart) == (5, 0)
