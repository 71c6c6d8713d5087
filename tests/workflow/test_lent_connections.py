"""What a step's transaction sets on its connection is gone before the next one begins."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader

from durable import Durable, OnComplete, TaskContext, WorkflowContext
from durable.testing import app_under_test
from storage_postgres import connections
from storage_postgres.testing.virtual import VirtualPostgres


@pytest.fixture(autouse=True)
def _one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every transaction has the same connection."""
    monkeypatch.setattr(connections, "_MOST_TRANSACTIONS", 1)


async def _look(connection: Any) -> list[str]:
    """All that the functions below change, as one of our own would find it."""
    cursor = await connection.execute(
        "select current_setting('default_transaction_read_only'), current_setting('search_path'), "
        "to_regclass('pg_temp.mine') is null, 7::int8, pg_backend_pid(), "
        "(select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())"
    )
    row = await cursor.fetchone()
    return [type(row).__name__, *map(repr, row)]


async def _rows(connection: Any) -> None:
    connection.row_factory = dict_row
    connection.adapters.register_loader("int8", TextLoader)


async def _settings(connection: Any) -> None:
    await connection.execute("set session characteristics as transaction read only")
    await connection.execute("set search_path to nowhere")


async def _objects(connection: Any) -> None:
    await connection.execute("create temporary table mine (id integer)")
    await connection.execute("select pg_advisory_lock(7)")


@pytest.mark.parametrize("change", [_rows, _settings, _objects])
async def test_the_next_step_has_a_connection_as_it_was_opened(
    app: Durable, durable_postgres: VirtualPostgres, change: Any
) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext, is_changing: bool) -> list[str]:
        if is_changing:
            await ctx.transaction(change)
            return []
        return await ctx.transaction(_look)

    async with app_under_test(app, storage=durable_postgres) as kit:
        seen: list[list[str]] = []
        for is_changing in (False, True, False):
            handle = await flow.enqueue(is_changing)
            await kit.drain()
            seen.append(await handle.result(timeout=0))
    # The pid among it: it is the same connection, and not a new one.
    assert seen[0] == seen[2]
    assert seen[0][0] == "tuple"


async def test_so_has_the_next_callback(app: Durable, durable_postgres: VirtualPostgres) -> None:
    seen: list[list[str]] = []

    @app.task
    async def done(context: TaskContext, end: object) -> None:
        seen.append(await _look(context.connection))
        await _settings(context.connection)
        await _rows(context.connection)

    @app.task
    async def work() -> None: ...

    async with app_under_test(app, storage=durable_postgres) as kit:
        for _ in range(2):
            await work.enqueue(on_complete=OnComplete(done, mode="transaction"))
            await kit.drain()
    assert len(seen) == 2
    assert seen[0] == seen[1]


async def test_statements_of_ours_stay_prepared(app: Durable, durable_postgres: VirtualPostgres) -> None:
    """Where all are let go of on the server, psycopg goes on to use them, unless it hears of it by chance."""

    async def look(connection: Any, number: int) -> int:
        cursor = await connection.execute("select %s::integer", [number], prepare=number > 1)
        (found,) = await cursor.fetchone()
        return int(found)

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[int]:
        return [await ctx.transaction(look, number) for number in range(12)]

    async with app_under_test(app, storage=durable_postgres) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.result(timeout=0) == list(range(12))
