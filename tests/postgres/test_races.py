"""Lock order: statements that meet on the same trees wait for each other, and never in a ring.

Each of them locks all that it will write in one pass, deepest first, then by id. In each of the first tests a third
transaction holds one row, so that the first statement stops half way; the second then takes what the first still
needs, if it locks in another order. Postgres would end one of the two with a deadlock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any, Final, NamedTuple

import pytest
import pytest_asyncio

from durable.execution import Claimed, Kind
from durable.testing import Maker
from durable.transitions import complete, spawn
from storage_postgres import PostgresStorage
from storage_postgres.operation import PostgresOperation
from tests.support.locks import until_waiting
from tests.support.subject import PostgresSubject, open_storage

LEASE: Final = 15.0


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
            self.make.child(root, 0, task_name="leaf", max_deliveries=1),
            self.make.child(root, 1, task_name="twin", max_deliveries=1),
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


async def test_two_enqueues_of_the_same_keys_in_opposite_orders(postgres_subject: PostgresSubject) -> None:
    """Each waits for what the other inserts; the one in the middle is an insert that never commits."""
    one, two, three = postgres_subject.handles
    low, middle, high = (Maker(series=number).row(idempotency_key=f"key {number}") for number in (1, 2, 3))

    async with postgres_subject.rolled_back() as connection:
        await three.enqueue([middle]).await_on(connection)
        running = [asyncio.ensure_future(one.enqueue([low, middle, high]))]
        await until_waiting(postgres_subject.control, 1)
        running.append(asyncio.ensure_future(two.enqueue([high._replace(id=id_of(9)), low._replace(id=id_of(8))])))
        await until_waiting(postgres_subject.control, 2)
    first, second = await asyncio.gather(*running)

    assert [result.is_new for result in first] == [True, True, True]
    assert [result.id for result in second] == [high.id, low.id]


def id_of(series: int) -> str:
    return Maker(series=series).id()


class Storm:
    """Verbs at random on the same trees from several connections, for a number of rounds."""

    def __init__(self, storage: PostgresStorage, random: Random) -> None:
        self._storage = storage
        self._random = random
        self._left: list[Claimed] = []
        self._ids: list[str] = []

    async def run(self, trees: Sequence[Tree], rounds: int) -> None:
        self._left = [turn for tree in trees for turn in (tree.leaf, tree.twin, tree.deep_leaf)]
        self._ids = [tree.root for tree in trees] + [tree.middle for tree in trees] + [turn.id for turn in self._left]
        self._random.shuffle(self._left)
        actions = [*[self._settle] * 3, *[self._cancel] * 3, *[self._close] * 2, self._renew, self._recover]
        async with asyncio.TaskGroup() as group:
            for action in actions:
                group.create_task(self._repeat(action, rounds))

    async def _repeat(self, action: Callable[[], Awaitable[None]], rounds: int) -> None:
        for _ in range(rounds):
            await action()

    async def _settle(self) -> None:
        batch, self._left = self._left[:8], self._left[8:]
        await self._storage.settle([complete(turn, "1") for turn in batch])

    async def _cancel(self) -> None:
        await self._storage.cancel(self._random.sample(self._ids, 8), reason="cancelled")

    async def _close(self) -> None:
        ids = await self._storage.claim_closes(limit=20, lease=LEASE)
        await self._storage.close_trees(ids, reason="parent_cancelled")

    async def _renew(self) -> None:
        held = self._random.sample(self._left, min(30, len(self._left)))
        await self._storage.renew([(turn.id, turn.fence) for turn in held], lease=LEASE)

    async def _recover(self) -> None:
        await self._storage.recover(limit=3)


@pytest.mark.parametrize("seed", range(4))
async def test_a_storm_of_settles_cancels_closes_and_recoveries_of_the_same_trees(
    seed: int, postgres_subject: PostgresSubject, forest: Forest, postgres_dsn: str
) -> None:
    """Any deadlock would fail the verb that Postgres chose to end."""
    trees = await forest.grow(100)
    await postgres_subject.advance(LEASE + 1)

    async with open_storage(
        PostgresStorage(postgres_dsn, schema=postgres_subject.schema, min_size=1, max_size=10)
    ) as storage:
        await Storm(storage, Random(seed)).run(trees, rounds=14)

    assert await postgres_subject.handles[0].defects(limit=100) == []
