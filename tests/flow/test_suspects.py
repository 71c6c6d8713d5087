"""Suspects in an executor: counted when they start, one at a time, and in nobody's way."""

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import pytest

from durable import Durable, Handle, Status
from durable.rooms import suspects
from durable.storage import Storage

from .place import LONG_AGO, PATIENCE, Place, running, soon, until


class Gated:
    """An operation that does something before it is carried out."""

    def __init__(self, operation: Any, before: Callable[[], Any]) -> None:
        self._operation = operation
        self._before = before

    def __await__(self) -> Generator[Any, None, Any]:
        return self._run().__await__()

    async def _run(self) -> Any:
        await self._before()
        return await self._operation


def before_starts(storage: Storage, monkeypatch: pytest.MonkeyPatch, before: Callable[[], Any]) -> None:
    count_starts = storage.count_starts
    monkeypatch.setattr(storage, "count_starts", lambda held: Gated(count_starts(held), before))


class Stage:
    """Executions that stop in their handler until they are let go, one at a time or all."""

    def __init__(self, app: Durable) -> None:
        self.app = app
        self.inside: set[int] = set()
        self.most = 0
        self.entered = asyncio.Semaphore(0)
        self.gate = asyncio.Event()

        @app.task
        async def work(n: int) -> int:
            self.inside.add(n)
            self.most = max(self.most, len(self.inside))
            self.entered.release()
            await self.gate.wait()
            self.inside.discard(n)
            return n

        self.work = work

    async def suspects(self, place: Place, count: int) -> list[Handle[int]]:
        """Lost twice, and due."""
        handles = await self.work.enqueue_many(range(count), delay=60.0)
        for handle in handles:
            place.tamper(handle.execution_id, deliveries=2)
        for handle in handles:
            place.tamper(handle.execution_id, due_at=LONG_AGO)
        return handles


async def test_one_suspect_starts_and_the_others_are_given_back_unharmed(app: Durable, place: Place) -> None:
    stage = Stage(app)
    async with app:
        handles = await stage.suspects(place, 3)
        async with app.executor(poll_interval="50ms", lease="10m"):
            await soon(stage.entered.acquire())
            (running_one,) = stage.inside
            others = [handle for n, handle in enumerate(handles) if n != running_one]
            for handle in others:
                record = await until(app, handle.execution_id, lambda record: record.reason == "suspect")
                assert (record.status, record.attempts, record.deliveries) == (Status.READY, 0, 2)
            record = await app.execution(handles[running_one].execution_id)
            assert (record.status, record.deliveries, record.reason) == (Status.RUNNING, 3, None)
            stage.gate.set()
            assert [await handle.result(PATIENCE) for handle in handles] == [0, 1, 2]


async def test_what_is_no_suspect_starts_beside_one(app: Durable, place: Place) -> None:
    stage = Stage(app)

    @app.task
    async def other(n: int) -> int:
        return n

    async with app:
        suspected = await stage.suspects(place, 1)
        async with app.executor(poll_interval="50ms", lease="10m"):
            await soon(stage.entered.acquire())
            assert [await handle.result(PATIENCE) for handle in await other.enqueue_many(range(9))] == list(range(9))
            assert not (await app.status(suspected[0].execution_id)).is_finished
            stage.gate.set()
            assert await suspected[0].result(PATIENCE) == 0


async def test_a_suspect_that_runs_for_long_keeps_no_other_waiting(
    app: Durable, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspects, "_LONGEST_ALONE", 0.0)
    stage = Stage(app)
    async with app:
        handles = await stage.suspects(place, 2)
        async with app.executor(poll_interval="50ms", lease="10m"):
            for _ in handles:
                await soon(stage.entered.acquire())
            assert stage.most == 2
            stage.gate.set()
            assert [await handle.result(PATIENCE) for handle in handles] == [0, 1]


async def test_those_with_one_delivery_that_were_never_lost_start_together(app: Durable) -> None:
    stage = Stage(app)
    async with running(app):
        once = stage.work.with_options(max_deliveries=1)
        handles = [await once.enqueue(n) for n in range(4)]
        for _ in handles:
            await soon(stage.entered.acquire())
        records = [await app.execution(handle.execution_id) for handle in handles]
        assert [(record.deliveries, record.reason) for record in records] == [(1, None)] * 4
        stage.gate.set()
        assert [await handle.result(PATIENCE) for handle in handles] == [0, 1, 2, 3]


async def test_what_was_not_counted_when_its_executor_went_away_has_lost_no_delivery(
    app: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, asked = Stage(app), asyncio.Event()

    async def wait() -> None:
        asked.set()
        await asyncio.Event().wait()

    before_starts(app.storage, monkeypatch, wait)
    async with app:
        handle = await stage.work.with_options(max_deliveries=1).enqueue(0)
        async with app.executor(poll_interval="50ms", lease="1s", grace=0):
            await soon(asked.wait())
        monkeypatch.undo()
        assert not stage.inside
        async with app.executor(poll_interval="50ms", upkeep_interval="50ms"):
            stage.gate.set()
            assert await handle.result(PATIENCE) == 0


async def test_a_suspect_that_was_lost_before_it_started_gives_its_slot_back(
    app: Durable, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, losses = Stage(app), 0
    stage.gate.set()

    async def lose_once() -> None:
        nonlocal losses
        losses += 1
        if losses == 1:
            place.tamper(handle.execution_id, lease_expires_at=LONG_AGO)
            await app.storage.recover(limit=9)

    async with app:
        handle = await stage.work.with_options(max_deliveries=1).enqueue(0)
        before_starts(app.storage, monkeypatch, lose_once)
        async with app.executor(poll_interval="50ms", lease="10m", concurrency=1) as executor:
            assert await handle.result(PATIENCE) == 0
            await soon(executor.quiet())
            assert (losses, executor.running) == (2, 0)
            assert await (await stage.work.enqueue(1)).result(PATIENCE) == 1
