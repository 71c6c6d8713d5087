"""Enqueues of one client: what closing waits for, and what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar, cast

import pytest

from durable import NotOpen
from durable.enqueues import Enqueues
from durable.execution import Enqueued, NewExecution
from durable.testing.make import Maker
from tests.jobs.crew import turned

T = TypeVar("T")


class Store:
    """Stores rows when its door is open; says nothing of it to anybody."""

    note = None

    def __init__(self) -> None:
        self.door = asyncio.Event()
        self.stored: list[str] = []

    async def enqueue(self, rows: Sequence[NewExecution], **_: Any) -> list[Enqueued]:
        await self.door.wait()
        self.stored += [row.id for row in rows]
        return [Enqueued(row.id, is_new=True, is_conflict=False) for row in rows]

    def is_transient(self, _: BaseException) -> bool:
        return False


async def at_once(operation: Awaitable[T], _: str) -> T:
    return await operation


@pytest.mark.parametrize("key", [None, "key"], ids=["without a key", "with a key"])
@pytest.mark.parametrize("count", [1, 3], ids=["alone", "with others"])
async def test_closing_waits_for_what_was_accepted_and_refuses_the_rest(key: str | None, count: int) -> None:
    store = Store()
    enqueues = Enqueues(cast("Any", store), at_once, at_once, cast("Any", store), lambda _: None, lambda _: None, [])
    make = Maker()
    rows = [make.row(idempotency_key=key and f"{key} {n}", idempotency_hash=key) for n in range(count)]
    storing = [asyncio.create_task(enqueues.enqueue(row)) for row in rows]
    await turned()
    closing = asyncio.create_task(enqueues.close())
    for _ in range(5):
        await turned()
    assert not closing.done()
    with pytest.raises(NotOpen):
        await enqueues.enqueue(make.row(idempotency_key=key, idempotency_hash=key))
    store.door.set()
    await closing
    assert sorted(store.stored) == [row.id for row in rows]
    assert [task.result().id for task in storing] == [row.id for row in rows]
    await enqueues.close()
