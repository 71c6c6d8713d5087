"""Rows that another transaction holds: which verbs pass them over, which wait and for how long, and who is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from durable.errors import RowsHeld
from durable.execution import Claimed, Kind, Status
from durable.testing.make import Maker
from durable.transitions import complete, spawn
from storage_postgres import PostgresStorage
from storage_postgres.statements import render

PATIENCE = 5.0
AT_ONCE = 0.001
"""Seconds: nobody could free a row so fast."""


@pytest.fixture
async def turns(postgres_storage: PostgresStorage) -> list[Claimed]:
    make = Maker()
    rows = make.rows(2)
    await postgres_storage.enqueue(rows)
    return await postgres_storage.claim(
        executor_id="a", queues=[rows[0].queue], task_names=[rows[0].task_name], limit=2, lease=60
    )


@pytest.fixture
def other(postgres_control: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_control.info.dsn, password=postgres_control.info.password) as connection:
        yield connection


def hold(connection: psycopg.Connection[Any], storage: PostgresStorage, id_: str) -> None:
    statement = "select id from /*schema*/executions where id = %s for no key update"
    connection.execute(render(statement, storage.schema), [id_])


async def test_leases_of_the_others_are_renewed(
    postgres_storage: PostgresStorage, turns: list[Claimed], other: psycopg.Connection[Any]
) -> None:
    held, free = turns
    pairs = [(turn.id, turn.fence) for turn in turns]
    hold(other, postgres_storage, held.id)
    assert await postgres_storage.renew(pairs, lease=60) == {free.id}
    assert await postgres_storage.leased(pairs) == {held.id, free.id}
    assert await postgres_storage.heartbeat([(*pair, "1") for pair in pairs]) == {free.id}
    other.rollback()
    assert await postgres_storage.renew(pairs, lease=60) == {held.id, free.id}


async def test_it_is_told_which_are_held(
    postgres_storage: PostgresStorage, turns: list[Claimed], other: psycopg.Connection[Any]
) -> None:
    held, free = turns
    hold(other, postgres_storage, held.id)
    assert await postgres_storage.held_rows([held.id, free.id]) == {held.id}
    other.rollback()
    assert await postgres_storage.held_rows([held.id, free.id]) == frozenset()


async def test_ends_wait_no_longer_than_they_are_to_and_none_is_written(
    postgres_storage: PostgresStorage, turns: list[Claimed], other: psycopg.Connection[Any]
) -> None:
    hold(other, postgres_storage, turns[0].id)
    ends = [complete(turn, "1") for turn in turns]
    with pytest.raises(RowsHeld):
        await postgres_storage.settle(ends, lock_timeout=AT_ONCE)
    records = await postgres_storage.get([turn.id for turn in turns])
    assert [record and record.status for record in records] == [Status.RUNNING, Status.RUNNING]
    other.rollback()
    assert (await postgres_storage.settle(ends, lock_timeout=AT_ONCE)).accepted == {turn.id for turn in turns}


async def test_the_bound_is_that_of_the_one_call(
    postgres_storage: PostgresStorage, turns: list[Claimed], postgres_control: psycopg.Connection[Any]
) -> None:
    del turns
    (before,) = await postgres_storage.enqueue([Maker().row()], lock_timeout=AT_ONCE)
    assert before.is_new
    async with postgres_storage.transaction() as connection:
        found = await (await connection.execute("show lock_timeout")).fetchone()
    assert found == ("10s",)


async def test_a_row_that_a_foreign_key_refers_to_is_not_held(
    postgres_storage: PostgresStorage, other: psycopg.Connection[Any]
) -> None:
    make = Maker()
    row = make.row(kind=Kind.PARENT, task_name="parent")
    await postgres_storage.enqueue([row])
    claim: dict[str, Any] = {"executor_id": "a", "queues": [row.queue], "limit": 9, "lease": 60}
    statement = render("select id from /*schema*/executions for key share", postgres_storage.schema)
    other.execute(statement)
    (parent,) = await postgres_storage.claim(task_names=["parent"], **claim)
    born = make.children(parent, 2, task_name="child")
    await postgres_storage.settle([spawn(parent, None, born)], lock_timeout=AT_ONCE)
    other.execute(statement)
    first, _ = await postgres_storage.claim(task_names=["child"], **claim)
    settled = await postgres_storage.settle([complete(first, "1")], lock_timeout=AT_ONCE)
    assert settled.accepted == {first.id}
    await asyncio.wait_for(postgres_storage.cancel([parent.id], reason="why"), PATIENCE)
    (record,) = await postgres_storage.get([parent.id])
    assert record is not None
    assert record.status is Status.CANCELLED


async def test_a_held_row_is_no_reason_to_revive_the_server(
    postgres_storage: PostgresStorage,
    turns: list[Claimed],
    other: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    revived: list[int] = []
    monkeypatch.setattr(postgres_storage.connections._source, "revive", lambda: revived.append(1))
    hold(other, postgres_storage, turns[0].id)
    with pytest.raises(RowsHeld):
        await postgres_storage.settle([complete(turns[0], "1")], lock_timeout=AT_ONCE)
    assert revived == []
