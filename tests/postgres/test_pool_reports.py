"""Reports of pools on Postgres: no scan of what has ended, nothing held up by an open end, and counts without locks."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import psycopg
import pytest

from durable.pool_rows import PoolTally
from durable.testing.contract.pool_scene import POOL, PoolScene
from durable.testing.contract.scene import LIMIT, TASK, Scene
from durable.transitions import complete
from storage_postgres import pool_verbs, verbs
from storage_postgres.arrays import texts
from storage_postgres.plan import Query
from storage_postgres.statements import render
from tests.support.plans import explain
from tests.support.subject import PostgresSubject

ENDED: Final = 80_000
OTHERS: Final = 15_000
WAITING: Final = 4_000
RUNNING: Final = 100
_POOLS: Final = """
insert into /*schema*/pools (name, max_parallelism, max_per_key, keep_order, is_paused, updated_at)
select name, 50, 1, true, false, now() from unnest(array['emails', 'other']) as name
"""
_ROWS: Final = f"""
insert into /*schema*/executions (
    id, root_id, kind, task_name, queue, input, max_attempts, max_deliveries, status, attempts, created_at, due_at,
    started_at, lease_expires_at, finished_at, close_status, updated_at, is_pooled, serial_key
)
select i, i, 'task', 'task', n.queue, '1', 1, 5, n.status, (n.status <> 'ready')::integer, now(), now() + n.later,
    now(), case when n.status = 'running' then now() end, case when n.status = 'completed' then now() end,
    case when n.status = 'completed' then 'closed' else 'idle' end, now(), true, n.key
from (
    select gen_random_uuid() as i, 'emails' as queue, 'completed' as status, interval '0' as later, null as key
    from generate_series(1, {ENDED})
    union all
    select gen_random_uuid(), 'other', 'ready', interval '0', null from generate_series(1, {OTHERS})
    union all
    select gen_random_uuid(), 'emails', 'ready', (g % 2) * interval '1 hour', case when g % 4 < 2 then 'key ' || g end
    from generate_series(1, {WAITING}) as g
    union all
    select gen_random_uuid(), 'emails', 'running', interval '0', null from generate_series(1, {RUNNING})
) as n
"""
_COUNTS: Final = """
insert into /*schema*/pool_counts
select 'emails', 'task', now() - g * interval '1 minute', 10, 0, 0, 10, 0, 0, 10, 1, 1
from generate_series(1, 20000) as g
"""
STATISTICS: Final = {
    "as it is": ("insert", "analyze"),
    "empty": ("analyze", "insert"),
    "none": ("insert",),
}


@pytest.fixture(params=STATISTICS)
def crowded(request: pytest.FixtureRequest, postgres_control: psycopg.Connection[Any], migrated_schema: str) -> str:
    """Much that ended, a pool full of work, and a backlog of its own."""
    tables = "/*schema*/executions, /*schema*/pool_counts"
    for table in tables.split(", "):
        postgres_control.execute(render(f"alter table {table} set (autovacuum_enabled = off)", migrated_schema))
    statements = {"insert": [_POOLS, _ROWS, _COUNTS], "analyze": [f"analyze {tables}"]}
    for step in STATISTICS[request.param]:
        for statement in statements[step]:
            postgres_control.execute(render(statement, migrated_schema))
    return migrated_schema


@pytest.mark.parametrize("mode", ["auto", "force_custom_plan", "force_generic_plan"])
def test_a_report_reads_what_is_unfinished_and_nothing_of_what_has_ended(
    mode: str, crowded: str, postgres_dsn: str
) -> None:
    query = next(pool_verbs.pool_tallies([POOL], over=3600.0))
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        found = explain(connection, crowded, query, {"plan_cache_mode": mode})

    assert found.sequential_scans == []
    assert found.rows_examined <= WAITING
    # 4,100 rows, at most one page each and those of the indexes; the table has 3,000 pages, read once by a scan.
    assert found.buffers <= WAITING + RUNNING + 400


@pytest.mark.parametrize("mode", ["auto", "force_generic_plan"])
def test_a_look_at_a_pool_without_work_reads_next_to_nothing(mode: str, crowded: str, postgres_dsn: str) -> None:
    query = next(pool_verbs.pool_tallies(["idle"], over=86_400.0))
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        found = explain(connection, crowded, query, {"plan_cache_mode": mode})

    assert found.sequential_scans == []
    assert found.buffers <= 50


@pytest.mark.parametrize("mode", ["auto", "force_generic_plan"])
def test_summing_up_reads_single_counts_and_not_the_sums(mode: str, crowded: str, postgres_dsn: str) -> None:
    query = Query("sum_pool_counts", {"pools": texts([POOL]), "limit": 100, "kept": 1e9})
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        found = explain(connection, crowded, query, {"plan_cache_mode": mode})

    assert found.buffers <= 50


async def test_an_open_transaction_with_an_end_holds_up_no_report_and_is_in_the_next(
    postgres_subject: PostgresSubject,
) -> None:
    pools = PoolScene(Scene(postgres_subject))
    await pools.open()
    await pools.enqueue(2)
    one, other = await pools.turns()
    await pools.scene.complete_all([one])
    async with postgres_subject.rolled_back() as connection, asyncio.timeout(LIMIT):
        await pools.storage.settle([complete(other, "1")]).await_on(connection)
        await postgres_subject.advance(60.0)
        assert await pools.storage.report_pools([POOL]) == [POOL]
        assert [tally.completed for tally in await pools.storage.pool_tallies(over=3600.0)] == [1]

    await pools.scene.complete_all([other])
    await postgres_subject.advance(60.0)
    assert await pools.storage.report_pools([POOL]) == [POOL]
    expected = PoolTally(POOL, TASK, completed=2, attempts=2, starts=2)
    assert await pools.storage.pool_tallies(over=3600.0) == [expected]


def test_a_report_is_one_statement() -> None:
    plan = pool_verbs.pool_tallies([POOL], over=3600.0)
    next(plan)
    with pytest.raises(StopIteration):
        plan.send([])


def test_an_idle_upkeep_asks_for_reports_with_its_other_duties() -> None:
    assert next(verbs.duties()).name == "duties"
