"""A step in a transaction: what it must not do to it, and what it may."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
import pytest

from durable import Durable, Retry, StepFailed, WorkflowContext, constant
from durable.testing import app_under_test
from storage_postgres.testing.virtual import VirtualPostgres


@pytest.mark.parametrize("is_failing", [False, True])
@pytest.mark.parametrize("statements", [["commit"], ["rollback"], ["commit", "begin"], ["commit and chain"]])
async def test_a_step_that_ends_its_transaction_fails_for_good(
    app: Durable, durable_postgres: VirtualPostgres, statements: list[str], is_failing: bool
) -> None:
    runs = 0

    async def write(connection: Any) -> str:
        nonlocal runs
        runs += 1
        await connection.execute("create temporary table mine (id integer) on commit drop")
        for statement in statements:
            await connection.execute(statement)
        if is_failing and "begin" not in statements and "commit and chain" not in statements:
            raise ValueError("no")
        return "written"

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        try:
            return await ctx.with_options(retry=Retry(3, constant("1s"))).transaction(write)
        except StepFailed as failed:
            return failed.error.type

    async with app_under_test(app, storage=durable_postgres) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("1m")
        assert await handle.result(timeout=0) == "TransactionEnded"
        (history,) = await kit.app.storage.histories([(handle.execution_id, 0, 0)])
        assert [entry.key for entry in history.entries if entry.kind == "step"] == ["write#1"]
    assert runs == 1


async def test_a_step_may_roll_back_a_part_and_fail_and_try_again(
    app: Durable, durable_postgres: VirtualPostgres
) -> None:
    runs = 0

    async def write(connection: Any) -> int:
        nonlocal runs
        runs += 1
        await connection.execute("create temporary table mine (id integer) on commit drop")
        await connection.execute("insert into mine values (1)")
        with suppress(psycopg.errors.DivisionByZero):
            async with connection.transaction():
                await connection.execute("insert into mine values (2), (1 / 0)")
        if runs == 1:
            raise ValueError("no")
        cursor = await connection.execute("select count(*) from mine")
        (count,) = await cursor.fetchone()
        return int(count)

    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        return await ctx.with_options(retry=Retry(3, constant("1s"), jitter=0)).transaction(write)

    async with app_under_test(app, storage=durable_postgres) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("1m")
        assert (await handle.result(timeout=0), runs) == (1, 2)


@pytest.mark.parametrize("ends_by", ["a lost connection", "a failed statement"])
async def test_a_step_that_passes_over_the_end_of_its_transaction_has_failed_an_attempt(
    app: Durable, durable_postgres: VirtualPostgres, ends_by: str
) -> None:
    runs = 0

    async def write(connection: Any) -> str:
        nonlocal runs
        runs += 1
        broken = "select pg_terminate_backend(pg_backend_pid())" if ends_by == "a lost connection" else "select 1 / 0"
        with suppress(psycopg.Error):
            await connection.execute(broken)
        return "written"

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        try:
            return await ctx.with_options(retry=Retry(2, constant("1s"), jitter=0)).transaction(write)
        except StepFailed as failed:
            return failed.error.type

    async with app_under_test(app, storage=durable_postgres) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("1m")
        expected = {"a lost connection": "OperationalError", "a failed statement": "InFailedSqlTransaction"}
        assert (await handle.result(timeout=0), runs) == (expected[ends_by], 2)
