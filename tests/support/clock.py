"""A schema's clock that stands still: `clock_now()` reads a row that the test moves."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import psycopg

from durable.testing import VirtualClock
from storage_postgres.statements import render

__all__ = ["advance", "now", "stop_clock"]

_ADVANCE: Final = "update /*schema*/test_clock set at = at + %s * interval '1 second'"
_START: Final = VirtualClock().now()


def stop_clock(connection: psycopg.Connection[Any], schema: str) -> None:
    """Let the schema's clock stand at the moment at which every virtual clock starts."""
    connection.execute(render("create table /*schema*/test_clock (at timestamptz not null)", schema))
    connection.execute(render("insert into /*schema*/test_clock values (%s)", schema), [_START])
    connection.execute(
        render(
            "create or replace function /*schema*/clock_now() returns timestamptz language sql volatile "
            "begin atomic select at from /*schema*/test_clock; end",
            schema,
        )
    )


async def advance(connection: psycopg.AsyncConnection[Any], schema: str, seconds: float) -> None:
    await connection.execute(render(_ADVANCE, schema), [seconds])


async def now(connection: psycopg.AsyncConnection[Any], schema: str) -> datetime:
    cursor = await connection.execute(render("select at from /*schema*/test_clock", schema))
    row = await cursor.fetchone()
    assert row is not None
    return row[0]  # type: ignore[no-any-return]
