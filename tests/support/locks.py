"""Waits until statements wait for locks."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import psycopg

__all__ = ["PATIENCE", "until_waiting"]

PATIENCE: Final = 30.0
"""Seconds until statements that never wait for a lock are taken for a broken test."""

_WAITING: Final = (
    "select count(*) from pg_catalog.pg_stat_activity"
    " where datname = pg_catalog.current_database() and wait_event_type = 'Lock'"
)


async def until_waiting(connection: psycopg.AsyncConnection[Any], count: int) -> None:
    """Return as soon as that many backends of this database wait for a lock."""
    async with asyncio.timeout(PATIENCE):
        while True:
            row = await (await connection.execute(_WAITING)).fetchone()
            if row and row[0] >= count:
                return
