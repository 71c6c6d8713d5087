"""LISTEN on a connection of its own: hints in, reconnects by itself, proves now and then that it still hears."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg
from psycopg import sql

from durable.errors import StorageUnavailable
from durable.storage import Hint
from storage_postgres.connections import Connections
from storage_postgres.failures import is_transient

__all__ = ["channel_of", "hints_of", "payloads_of"]

_log = logging.getLogger("durable.postgres")
_PROBE_AFTER = 15.0
"""Seconds of silence after which the listener asks the server whether it still listens."""


def channel_of(schema: str) -> str:
    """A channel per schema that stays within an identifier's 63 bytes whatever the schema is called."""
    return f"durable_{zlib.crc32(schema.encode()):08x}"


def payloads_of(hints: Sequence[Hint]) -> list[str]:
    return sorted({f"{hint.topic}:{hint.queue}" for hint in hints})


async def hints_of(connections: Connections, channel: str) -> AsyncIterator[Hint]:
    """Hints for ever; `reconnected` after each gap. The first connection counts as one."""
    pause = 0.5
    while True:
        try:
            async for hint in _listen_once(connections, channel):
                pause = 0.5
                yield hint
        except (psycopg.Error, StorageUnavailable, OSError) as error:
            if not is_transient(error):
                raise
            _log.warning("the listener lost its connection, polling goes on: %s", type(error).__name__)
        await asyncio.sleep(pause)
        pause = min(pause * 2, 5.0)


async def _listen_once(connections: Connections, channel: str) -> AsyncIterator[Hint]:
    connection: psycopg.AsyncConnection[Any] = await connections.connect_async()
    try:
        await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
        yield Hint("reconnected", "")
        while True:
            async for notify in connection.notifies(timeout=_PROBE_AFTER):
                topic, _, queue = notify.payload.partition(":")
                yield Hint(topic, queue)
            async with asyncio.timeout(_PROBE_AFTER):
                await connection.execute("select 1")
    except TimeoutError:
        _log.warning("the listener's connection does not answer; it is replaced")
    finally:
        await connection.close()
