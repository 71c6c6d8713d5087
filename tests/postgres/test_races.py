"""Lock order: statements that meet on the same trees wait for each other, and never in a ring.

All of them lock leaves by id, then parents by depth, deepest first, then by id. In each test a third transaction holds
one row, so that the first statement stops half way; the second then takes what the first still needs, if it locks in
another order. Postgres would end one of the two with a deadlock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import psycopg
import pytest
import pytest_asyncio

from durable.execution import Claimed, Kind
from durable.testing import Maker
from durable.transitions import complete, spawn
from storage_postgres import PostgresStorage
from storage_postgres.operation import PostgresOperation
from tests.support.locks import until_waiting
from tests.support.subject import PostgresSubject

LEASE = 15.0


class Tree(NamedTuple):
    """root → (leaf, twin, middle → deep leaf); all leaves run."""

    root: str
    leaf: Claimed
    twin: Claimed
    middle: str
    deep_leaf: Claimed


class Forest:
    """Trees of two levels, grown by the verbs."""

    def __init__(self, storage: PostgresStorage) -> None:
        self._storage = storage
        self.make = Maker()

    async def claim(self, name: str) -> list[Claimed]:
        return await self._storage.claim(
            executor_id="executor-a", queues=["default"], task_names=[name], limit=1_000, lease=LEASE
        )

    async def leaves(self, count: int) -> list[Claimed]:
        """Running executions without a parent."""
        await self._storage.enqueue(self.make.rows(count, task_name="alone"))
        return await self.claim("alone")

    async def grow(self, count: int) -> list[Tree]:
        await self._storage.enqueue(self.make.rows(count, task_name="root", kind=Kind.PARENT))
        roots = await self.claim("root")
        below = {root.id: self._below(root) for root in roots}
        await self._storage.settle([spawn(root, None, below[root.id]) for root in roots])
        middles = await self.claim("middle")
        await self._storage.settle(
            [spawn(middle, None, self.make.children(middle, 1, task_name="deep leaf")) for middle in middles]
        )
        leaf, twin, deep = [
            {turn.parent_id: turn for turn in await self.claim(name)} for name in ("leaf", "twin", "deep leaf")
        ]
        return [
            Tree(middle.parent_id, leaf[middle.parent_id], twin[middle.parent_id], middle.id, deep[middle.id])
            for middle in middles
            if middle.parent_id is not None
        ]

    def _below(self, root: Claimed) -> tuple[Any, ...]:
        return (
            self.make.child(root, 0, task_name="leaf"),
            self.make.child(root, 1, task_name="twin"),
            self.make.child(root, 2, task_name="middle", kind=Kind.PARENT),
        )


@pytest_asyncio.fixture
async def forest(postgres_subject: PostgresSubject) -> Forest:
    return Forest(postgres_subject.handles[0])


async def meet(
    subject: PostgresSubject, held_id: str, first: PostgresOperation[Any], second: PostgresOperation[Any]
) -> None:
    """Start `first`, which stops at the held row; then `second`; let the row go once both wait."""
    async with subject.hold([held_id]):
        running = [asyncio.ensure_future(first)]
        await until_waiting(subject.control, 1)
        running.append(asyncio.ensure_future(second))
        await until_waiting(subject.control, 2)
    await asyncio.gather(*running)

    assert await subject.handles[2].defects(limit=100) == []


async def test_a_cancel_and_a_settle_of_the_same_leaves(postgres_subject: PostgresSubject, forest: Forest) -> None:
    one, two, _ = postgres_subject.handles
    (alone,) = await forest.leaves(1)
    tree, other = await forest.grow(2)
    assert alone.id < tree.leaf.id < other.leaf.id

    cancel = one.cancel([tree.leaf.id, other.leaf.id, alone.id], reason="cancelled")
    settle = two.settle([complete(alone, "1"), complete(tree.leaf, "1")])

    await meet(postgres_subject, other.leaf.id, cancel, settle)


async def test_a_settle_below_and_a_cancel_in_the_middle_of_a_tree(
    postgres_subject: PostgresSubject, forest: Forest
) -> None:
    one, two, _ = postgres_subject.handles
    tree, other = await forest.grow(2)
    assert tree.root < other.root < tree.middle

    settle = one.settle([complete(turn, "1") for turn in (tree.leaf, other.leaf, tree.deep_leaf)])
    cancel = two.cancel([tree.middle], reason="cancelled")

    await meet(postgres_subject, other.root, settle, cancel)


async def test_a_settle_of_several_trees_and_a_cancel_across_them(
    postgres_subject: PostgresSubject, forest: Forest
) -> None:
    one, two, _ = postgres_subject.handles
    first, between, last = await forest.grow(3)
    assert first.root < between.root < last.root

    settle = one.settle([complete(tree.twin, "1") for tree in (first, between, last)])
    cancel = two.cancel([first.leaf.id, last.root], reason="cancelled")

    await meet(postgres_subject, between.root, settle, cancel)
