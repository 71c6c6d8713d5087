"""What ends executions as it finds them never waits for a parent, and never loses sight of a child without one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from uuid import uuid4

import pytest

from durable.execution import Claimed, Kind, NewExecution, Status
from durable.storage import Storage
from durable.testing import Maker
from durable.transitions import spawn
from storage_postgres.statements import render
from tests.support.locks import PATIENCE
from tests.support.subject import PostgresSubject

LEASE: Final = 15.0
DEADLINE: Final = 30.0
KEEP: Final = (
    "insert into /*schema*/wakeups (task_name, sleeping_id, output, created_at)"
    " select 'sleep', name, '1', pg_catalog.now() from unnest(array['child', 'stranger']) as name"
)


class Family:
    """A parent, a child that the verb under test will end, and a stranger of the same kind without a parent."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._make = Maker()
        self.parent = self.child = self.stranger = ""

    async def _claim(self, *names: str) -> list[Claimed]:
        return await self._storage.claim(
            executor_id="executor-a", queues=["default"], task_names=names, limit=10, lease=LEASE
        )

    async def _spawn(self, child: Callable[[Claimed], NewExecution], stranger: NewExecution) -> None:
        await self._storage.enqueue([self._make.row(kind=Kind.PARENT, task_name="parent"), stranger])
        (parent,) = await self._claim("parent")
        born = child(parent)
        await self._storage.settle([spawn(parent, None, (born,))])
        self.parent, self.child, self.stranger = parent.id, born.id, stranger.id

    async def of_poisoned(self) -> None:
        """Both run, and have used up their deliveries when their leases run out."""
        options: dict[str, Any] = {"task_name": "child", "max_deliveries": 1}
        await self._spawn(lambda parent: self._make.child(parent, **options), self._make.row(**options))
        turns = await self._claim("child")
        assert len(await self._storage.count_starts([(turn.id, turn.fence) for turn in turns])) == 2

    async def of_sleepers(self) -> None:
        options: dict[str, Any] = {"task_name": "sleep", "kind": Kind.SLEEPING, "timeout": DEADLINE}
        await self._spawn(
            lambda parent: self._make.child(parent, sleeping_id="child", **options),
            self._make.row(sleeping_id="stranger", **options),
        )


async def recover(subject: PostgresSubject) -> Sequence[str]:
    return [taken.id for taken in await subject.handles[0].recover(limit=10)]


async def expire(subject: PostgresSubject) -> frozenset[str]:
    return (await subject.handles[0].expire_waits(limit=10)).accepted


async def apply_wakeups(subject: PostgresSubject) -> frozenset[str]:
    return (await subject.handles[0].apply_wakeups(limit=10)).accepted


async def keep_wakeups(subject: PostgresSubject) -> None:
    """Two wake-ups that nobody has applied, as after a crash between the two."""
    await subject.control.execute(render(KEEP, subject.schema))


Ender = Callable[[PostgresSubject], Awaitable[Sequence[str] | frozenset[str]]]


@pytest.fixture(params=[recover, expire, apply_wakeups], ids=lambda ender: ender.__name__)
def ender(request: pytest.FixtureRequest) -> Ender:
    return request.param  # type: ignore[no-any-return]


async def prepare(subject: PostgresSubject, ender: Ender) -> Family:
    """A family whose child and stranger the verb would end now."""
    family = Family(subject.handles[0])
    await (family.of_poisoned() if ender is recover else family.of_sleepers())
    if ender is apply_wakeups:
        await keep_wakeups(subject)
    else:
        await subject.advance(DEADLINE + 1)
    return family


async def status_of(storage: Storage, id_: str) -> Status:
    (record,) = await storage.get([id_])
    assert record is not None
    return record.status


async def test_a_child_whose_parent_is_locked_is_left_for_the_next_call(
    ender: Ender, postgres_subject: PostgresSubject
) -> None:
    storage = postgres_subject.handles[1]
    family = await prepare(postgres_subject, ender)

    async with asyncio.timeout(PATIENCE), postgres_subject.hold([family.parent]):
        assert set(await ender(postgres_subject)) == {family.stranger}
    assert await status_of(storage, family.parent) is Status.WAITING_FOR_CHILDREN

    assert set(await ender(postgres_subject)) == {family.child}
    assert await status_of(storage, family.parent) is Status.READY
    assert await storage.defects(limit=10) == []


async def test_a_child_whose_parent_is_gone_is_ended_all_the_same(
    ender: Ender, postgres_subject: PostgresSubject
) -> None:
    family = await prepare(postgres_subject, ender)
    await postgres_subject.tamper(family.child, parent_id=str(uuid4()))

    assert set(await ender(postgres_subject)) == {family.child, family.stranger}


async def test_a_wake_up_by_name_waits_for_the_parent(postgres_subject: PostgresSubject) -> None:
    """It ends one execution and tells one parent, so it cannot be part of a ring, and its caller wants the answer."""
    family = Family(postgres_subject.handles[0])
    await family.of_sleepers()

    async with postgres_subject.hold([family.parent]) as held:
        waking = asyncio.ensure_future(postgres_subject.handles[0].wake("sleep", "child", output="1", error=None))
        await held.contended()

    assert (await waking).status is Status.COMPLETED
    assert await status_of(postgres_subject.handles[1], family.parent) is Status.READY
