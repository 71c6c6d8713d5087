"""A pool that gives the connection used last to whoever comes next, without a way through its queue."""

from __future__ import annotations

from time import monotonic
from typing import Final

from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from storage_postgres.prepared import Own

__all__ = ["Keeping"]

_KEPT_FOR: Final = 1.0
"""Seconds until a connection goes through the pool again, which replaces those that have been open for long."""


class Keeping:
    """The pool gives its connections in turn, so each statement of a lone caller would meet another session of the
    server, and checking one out and in takes as long as a tenth of the statement."""

    def __init__(self, pool: AsyncConnectionPool[Own]) -> None:
        self.pool = pool
        self._kept: Own | None = None
        self._until = 0.0
        self._asking = 0
        """Those that wait for the pool: they come before whoever would take the kept one."""
        self._is_closed = False

    def take(self) -> Own | None:
        """The connection that was used last, if it is free. Give it back by `keep`, or else by `pool.putconn`."""
        connection, self._kept = self._kept, None
        return connection

    async def get(self) -> Own:
        """Another one. Raises what the pool raises."""
        self._asking += 1
        try:
            connection = await self.pool.getconn()
        finally:
            self._asking -= 1
        self._until = monotonic() + _KEPT_FOR
        return connection

    def keep(self, connection: Own) -> bool:
        """Keep it for the next; False where it must go to the pool: others wait, it is not at rest, or time is up."""
        if (
            self._asking
            or self._kept is not None
            or self._is_closed
            or connection.pgconn.transaction_status != TransactionStatus.IDLE
            or monotonic() > self._until
        ):
            return False
        self._kept = connection
        return True

    async def open(self) -> None:
        """Raises PoolTimeout where no connection can be made."""
        await self.pool.open(wait=True, timeout=10.0)

    async def close(self) -> None:
        self._is_closed = True
        connection = self.take()
        if connection is not None:
            await self.pool.putconn(connection)
        await self.pool.close(timeout=0.5)
