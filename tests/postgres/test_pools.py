"""Pools on Postgres: exact under many connections, held up by no caller's transaction, safe from a clock set back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest

from durable.testing.contract.pool_scene import POOL, PoolScene
from durable.testing.contract.scene import LEASE, LIMIT, TASK, Scene
from durable.transitions import complete
from storage_postgres import PostgresStorage, verbs
from storage_postgres.statements import load, render
from tests.support.plans import explain
from tests.support.subject import PostgresSubject, open_storage

CLAIMERS = 16
_POOL = """
insert into /*schema*/pools (name, max_parallelism, max_per_key, keep_order, is_paused, updated_at)
values ('emails', 50, 1, true, false, now())
"""
_ROWS = """
insert into /*schema*/executions (
    id, root_id, kind, task_name, queue, input, max_attempts, max_deliveries, status, created_at, due_at, updated_at,
    is_pooled, serial_key
)
select i, i, 'task', 'task', 'emails', '1', 1, 5, 'ready', now(), now() + n.later, now(), true, n.key
from (
    select gen_random_uuid() as i, interval '1 day' as later, 'later ' || g as key from generate_series(1, 20000) as g
    union all
    select gen_random_uuid(), interval '0', 'long' from generate_series(1, 5000)
    union all
    select gen_random_uuid(), interval '0', 'due ' || g from generate_series(1, 10) as g
) as n
"""
_END_ALL = """
update /*schema*/executions
set status = 'completed', finished_at = now(), lease_expires_at = null, fence = fence + 1, updated_at = now()
where status = 'running'
"""


@pytest.fixture
def pools(postgres_subject: PostgresSubject) -> PoolScene:
    return PoolScene(Scene(postgres_subject))


@pytest.fixture
async def claimers(postgres_dsn: str, postgres_subject: PostgresSubject) -> AsyncIterator[list[PostgresStorage]]:
    """Storages with a connection each, all on the subject's schema."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                open_storage(PostgresStorage(postgres_dsn, schema=postgres_subject.schema, min_size=1, max_size=1))
            )
            for _ in range(CLAIMERS)
        ]


@pytest.mark.parametrize("keys", [0, 5, 60])
async def test_sixteen_claimers_never_exceed_the_limit(
    keys: int, pools: PoolScene, claimers: list[PostgresStorage]
) -> None:
    await pools.open(max_parallelism=6, max_per_key=2)
    ids: list[str] = []
    for number in range(keys or 1):
        ids += await pools.enqueue(300 // (keys or 1), serial_key=f"key {number}" if keys else None)
    done: list[str] = []
    seen: list[tuple[int, int]] = []

    async def work(storage: PostgresStorage) -> None:
        while len(done) < len(ids):
            found = await storage.claim_pooled(
                executor_id="racer", pools=[POOL], task_names=[TASK], limit=4, lease=LEASE
            )
            running = await pools.running_keys()
            seen.append((len(running), max((running.count(key) for key in running if key is not None), default=0)))
            await storage.settle([complete(turn, "1") for turn in found.claimed])
            done.extend(turn.id for turn in found.claimed)

    async with asyncio.timeout(LIMIT):
        await asyncio.gather(*(work(storage) for storage in claimers))

    assert sorted(done) == sorted(ids)
    assert max(running for running, _ in seen) <= 6
    assert max(in_key for _, in_key in seen) <= 2
    assert await pools.claim() == ([], None)


async def test_an_open_transaction_of_a_caller_holds_up_neither_enqueues_nor_claims_of_its_key(
    pools: PoolScene, postgres_subject: PostgresSubject
) -> None:
    await pools.open()
    row = pools.scene.make.row(queue=POOL, is_pooled=True, serial_key="a")
    async with postgres_subject.rolled_back() as connection, asyncio.timeout(LIMIT):
        await pools.storage.enqueue([row]).await_on(connection)
        ids = await pools.enqueue(2, serial_key="a")
        assert await pools.drain() == ids

    assert await pools.claim() == ([], None)


@pytest.mark.parametrize("max_per_key", [1, 3])
async def test_a_held_row_is_passed_by_none_of_its_key(
    max_per_key: int, pools: PoolScene, postgres_subject: PostgresSubject
) -> None:
    await pools.open(max_per_key=max_per_key)
    ids = await pools.enqueue(4, serial_key="a")
    others = await pools.enqueue(2, serial_key="b")
    hold = render("select 1 from /*schema*/executions where id = %s for update", postgres_subject.schema)
    async with postgres_subject.rolled_back() as connection, asyncio.timeout(LIMIT):
        await connection.execute(hold, [ids[0]])
        assert await pools.drain() == others
        assert await pools.claim() == ([], None)

    assert await pools.drain() == ids


async def test_keys_without_a_limit_pass_a_held_row(pools: PoolScene, postgres_subject: PostgresSubject) -> None:
    await pools.open(max_per_key=None)
    ids = await pools.enqueue(3, serial_key="a")
    hold = render("select 1 from /*schema*/executions where id = %s for update", postgres_subject.schema)
    async with postgres_subject.rolled_back() as connection, asyncio.timeout(LIMIT):
        await connection.execute(hold, [ids[0]])
        assert await pools.drain() == ids[1:]

    assert await pools.drain() == ids[:1]


async def test_a_claim_skips_a_pool_that_another_transaction_holds_and_says_when_to_come_again(
    pools: PoolScene, postgres_subject: PostgresSubject
) -> None:
    await pools.open()
    ids = await pools.enqueue(2)
    async with postgres_subject.rolled_back() as connection, asyncio.timeout(LIMIT):
        await connection.execute(render("select 1 from /*schema*/pools for update", postgres_subject.schema))
        found = await pools.claim()

    assert found.claimed == []
    assert found.wait is not None
    assert 0 < found.wait < 1
    assert await pools.ids() == ids


async def test_a_clock_that_was_set_back_loses_no_key(pools: PoolScene, postgres_subject: PostgresSubject) -> None:
    await pools.open(max_parallelism=1)
    (blocker,) = await pools.enqueue()
    future = await pools.enqueue(2, serial_key="a", delay=10.0)
    future += await pools.enqueue(2, serial_key="b", delay=10.0)
    await postgres_subject.advance(10.0)
    assert await pools.ids() == [blocker]
    await pools.configure(max_parallelism=2)
    (turn,) = await pools.turns()

    await postgres_subject.advance(-5.0)
    await pools.scene.complete_all([turn])
    assert await pools.ids() == []
    await postgres_subject.advance(5.0)

    await pools.configure(max_parallelism=None)
    assert sorted([turn.id, *await pools.drain()]) == sorted(future)


async def test_nothing_is_left_of_keys_whose_work_has_ended(
    pools: PoolScene, postgres_subject: PostgresSubject
) -> None:
    await pools.open(max_parallelism=7)
    for number in range(30):
        await pools.enqueue(number % 3 + 1, serial_key=f"key {number}")
    await pools.drain()

    for table in ("pool_lanes", "pool_marks"):
        found = await postgres_subject.control.execute(
            render(f"select * from /*schema*/{table}", postgres_subject.schema)
        )
        assert await found.fetchall() == []


async def test_pools_are_not_claimed_in_a_transaction_that_keeps_its_snapshot(
    pools: PoolScene, postgres_subject: PostgresSubject
) -> None:
    await pools.open(max_parallelism=1)
    await pools.enqueue()
    claim = pools.storage.claim_pooled(executor_id="x", pools=[POOL], task_names=[TASK], limit=1, lease=LEASE)
    async with postgres_subject.rolled_back() as connection:
        await connection.execute("set transaction isolation level repeatable read")
        with pytest.raises(Exception, match="read committed"):
            await claim.await_on(connection)


@pytest.fixture
def crowded(postgres_control: psycopg.Connection[Any], migrated_schema: str) -> str:
    """A pool in which much waits and little is due: 20,000 keys for later, and 5,000 of one key."""
    for statement in (_POOL, _ROWS, "analyze /*schema*/executions, /*schema*/pool_marks, /*schema*/pool_lanes"):
        postgres_control.execute(render(statement, migrated_schema))
    return migrated_schema


@pytest.mark.parametrize("settings", [{}, {"plan_cache_mode": "force_custom_plan"}])
def test_a_claim_looks_at_what_is_due_and_at_no_more(settings: dict[str, str], crowded: str, postgres_dsn: str) -> None:
    plan = verbs.claim_pooled(executor_id="x", pools=[POOL], task_names=[TASK], limit=50, lease=15)
    query = next(plan)
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        # The first claim takes up the marks of everything due, once.
        first = connection.execute(render(load()[query.name], crowded), query.params).fetchall()
        connection.execute(render(_END_ALL, crowded))
        found = explain(connection, crowded, query, settings)

    assert len(first) == 11
    # The one that follows in the long key, and the eleven keys that ended.
    assert found.buffers <= 400
