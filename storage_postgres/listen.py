"""LISTEN on a connection of its own: hints in, reconnects by itself, proves now and then that it still hears."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg
from psycopg import pq, sql

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


def payloads_of(hints: Sequence[Hint], teller: str) -> list[str]:
    return sorted({f"{teller}:{hint.topic}:{hint.queue}" for hint in hints})


async def hints_of(connections: Connections, channel: str, teller: str) -> AsyncIterator[Hint]:
    """Hints for ever but those of the teller; `reconnected` after each gap. The first connection counts as one."""
    pause = 0.5
    while True:
        try:
            async for hint in _listen_once(connections, channel, teller):
                pause = 0.5
                yield hint
        except (psycopg.Error, StorageUnavailable, OSError) as error:
            if not is_transient(error):
                raise
            _log.warning("the listener lost its connection, polling goes on: %s", type(error).__name__)
        await asyncio.sleep(pause)
        pause = min(pause * 2, 5.0)


async def _readable(connection: psycopg.AsyncConnection[Any], seconds: float) -> bool:
    """Wait until the server has sent something; False if it did not. psycopg's own wait wakes ten times a second."""
    loop = asyncio.get_running_loop()
    sent = asyncio.Event()
    loop.add_reader(connection.fileno(), sent.set)
    try:
        async with asyncio.timeout(seconds):
            await sent.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(connection.fileno())
    return True


def _read(pgconn: pq.abc.PGconn) -> None:
    """Give what has arrived to the connection's handler, as psycopg does when it reads the answer of a statement."""
    pgconn.consume_input()
    while notify := pgconn.notifies():
        if pgconn.notify_handler is not None:
            pgconn.notify_handler(notify)


async def _listen_once(connections: Connections, channel: str, teller: str) -> AsyncIterator[Hint]:
    connection: psycopg.AsyncConnection[Any] = await connections.connect_async()
    try:
        heard: deque[str] = deque()
        connection.add_notify_handler(lambda notify: heard.append(notify.payload))
        await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
        yield Hint("reconnected", "")
        while True:
            if not await _readable(connection, _PROBE_AFTER):
                async with asyncio.timeout(_PROBE_AFTER):
                    await connection.execute("select 1")
            _read(connection.pgconn)
            while heard:
                told_by, _, hint = heard.popleft().partition(":")
                topic, is_hint, queue = hint.partition(":")
                if is_hint and (not teller or told_by != teller):  # else it is none of ours, whoever told it
                    yield Hint(topic, queue)
    except TimeoutError:
        _log.warning("the listener's connection does not answer; it is replaced")
    finally:
        await connection.close()
