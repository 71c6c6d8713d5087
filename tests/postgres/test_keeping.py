"""A lone caller has the connection it had before; nobody waits for one that lies about, and none outlives the pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from storage_postgres import keeping
from storage_postgres.keeping import Keeping
from storage_postgres.prepared import Own
from tests.support.turns import until


@pytest_asyncio.fixture
async def pool(postgres_dsn: str) -> AsyncIterator[Keeping]:
    made = AsyncConnectionPool(
        postgres_dsn, connection_class=Own, kwargs={"autocommit": True}, open=False, min_size=2, max_size=2, timeout=0.5
    )
    keeping_pool = Keeping(made)
    await keeping_pool.open()
    yield keeping_pool
    await keeping_pool.close()


async def take(pool: Keeping) -> Own:
    return pool.take() or await pool.get()


async def give_back(pool: Keeping, connection: Own) -> bool:
    is_kept = pool.keep(connection)
    if not is_kept:
        await pool.pool.putconn(connection)
    return is_kept


async def test_a_lone_caller_has_the_same_connection_again(pool: Keeping) -> None:
    first = await take(pool)
    assert await give_back(pool, first)

    assert await take(pool) is first
    assert await give_back(pool, first)
    assert pool.pool.get_stats()["requests_num"] == 1


async def test_two_at_once_have_two_of_which_one_is_kept(pool: Keeping) -> None:
    first, second = await take(pool), await take(pool)
    assert first is not second

    assert [await give_back(pool, first), await give_back(pool, second)] == [True, False]


async def test_who_waits_for_the_pool_comes_before_who_has_not_come_yet(pool: Keeping) -> None:
    first, second = await take(pool), await take(pool)
    third = asyncio.create_task(take(pool))
    await until(lambda: pool.pool.get_stats()["requests_waiting"] == 1)

    assert not await give_back(pool, first)
    assert await third is first
    for connection in (first, second):
        await give_back(pool, connection)


async def test_after_a_while_a_connection_goes_through_the_pool(pool: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_KEPT_FOR", -1.0)
    assert not await give_back(pool, await take(pool))

    await give_back(pool, await take(pool))
    assert pool.pool.get_stats()["requests_num"] == 2


async def test_one_that_is_in_a_transaction_goes_to_the_pool_which_ends_that(pool: Keeping) -> None:
    connection = await take(pool)
    await connection.execute("begin")

    assert not await give_back(pool, connection)
    assert connection.pgconn.transaction_status == TransactionStatus.IDLE


async def test_one_that_was_lost_is_not_given_again(pool: Keeping) -> None:
    connection = await take(pool)
    await connection.close()

    assert not await give_back(pool, connection)
    following = [await take(pool), await take(pool)]
    assert [other.closed for other in following] == [False, False]
    for other in following:
        await give_back(pool, other)


async def test_who_could_not_get_one_keeps_none_from_being_kept(pool: Keeping) -> None:
    first, second = await take(pool), await take(pool)
    with pytest.raises(PoolTimeout):
        await pool.get()

    assert [await give_back(pool, first), await give_back(pool, second)] == [True, False]


async def test_a_pool_that_is_closed_closes_the_one_kept_and_the_one_that_comes_back(pool: Keeping) -> None:
    first, second = await take(pool), await take(pool)
    await give_back(pool, first)
    await pool.close()

    assert first.closed
    assert not await give_back(pool, second)
    assert second.closed
