"""A schema's clock that stands still, as the contract of a storage needs it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import psycopg

from durable.testing import VirtualClock
from storage_postgres import testing
from storage_postgres.statements import render

__all__ = ["advance", "now", "stop_clock"]

_ADVANCE: Final = "update /*schema*/test_clock set at = at + %s * interval '1 second'"


def stop_clock(connection: psycopg.Connection[Any], schema: str) -> None:
    """Let the schema's clock stand at the moment at which every virtual clock starts."""
    testing.stop_clock(connection, schema, VirtualClock().now())


async def advance(connection: psycopg.AsyncConnection[Any], schema: str, seconds: float) -> None:
    await connection.execute(render(_ADVANCE, schema), [seconds])


async def now(connection: psycopg.AsyncConnection[Any], schema: str) -> datetime:
    cursor = await connection.execute(render("select at from /*schema*/test_clock", schema))
    row = await cursor.fetchone()
    assert row is not None
    return row[0]  # type: ignore[no-any-return]
