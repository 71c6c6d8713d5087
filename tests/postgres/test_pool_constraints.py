"""What the database itself refuses of a record in a pool."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import errors, sql

from durable.testing.make import Maker
from storage_postgres import PostgresStorage
from storage_postgres.statements import render


async def test_pool_25_what_runs_cannot_wait_in_the_queue_as_well(
    postgres_storage: PostgresStorage, postgres_control: psycopg.Connection[Any]
) -> None:
    """One row is one execution: its lease belongs to `running`, and `ready` has none."""
    make = Maker()
    await postgres_storage.enqueue([make.row(queue="pool", is_pooled=False)])
    (turn,) = await postgres_storage.claim(
        executor_id="a", queues=["pool"], task_names=[make.row().task_name], limit=1, lease=60
    )
    as_ready = render("update /*schema*/executions set status = 'ready' where id = %s", postgres_storage.schema)
    without_lease = render(
        "update /*schema*/executions set lease_expires_at = null where id = %s", postgres_storage.schema
    )
    as_ended = render("update /*schema*/executions set finished_at = now() where id = %s", postgres_storage.schema)
    for statement in (as_ready, without_lease, as_ended):
        with pytest.raises(errors.CheckViolation, match="executions_consistent"):
            postgres_control.execute(statement, [turn.id])


async def test_what_is_ready_can_be_claimed(
    postgres_storage: PostgresStorage, postgres_control: psycopg.Connection[Any]
) -> None:
    """A row that no claim can take would stop all claims of its queue."""
    (row,) = rows = Maker().rows(1)
    await postgres_storage.enqueue(rows)
    for change in ("finished_at = now()", "attempts = max_attempts", "deliveries = max_deliveries"):
        statement = render("update /*schema*/executions set ", postgres_storage.schema) + sql.SQL(change)
        with pytest.raises(errors.CheckViolation, match="executions_consistent"):
            postgres_control.execute(statement + sql.SQL(" where id = %s"), [row.id])
