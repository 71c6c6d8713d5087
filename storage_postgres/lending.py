"""Connections that user code works on, and how they come back to the state in which they were opened."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, Final

import psycopg
from psycopg.rows import tuple_row

from storage_postgres.loaders import register_loaders

__all__ = ["PREPARE_AFTER", "LentConnection"]

PREPARE_AFTER: Final = 5
"""Runs of a statement after which psycopg prepares it, on a direct connection."""
_MOST_PREPARED: Final = 100
"""As psycopg has it from the start."""


class LentConnection(psycopg.AsyncConnection[Any]):
    """Of the pool for user code, whose notice handlers run in its own context, as psycopg's waiting keeps it."""

    async def restore(self, *, is_pooled: bool) -> None:
        """Undo what a user's function may have set on it. Behind a pooler the session is not ours to reset.

        Raises psycopg.Error where the server does not take it.
        """
        self.row_factory = tuple_row
        self.cursor_factory = psycopg.AsyncCursor
        self.server_cursor_factory = psycopg.AsyncServerCursor
        self.prepare_threshold = None if is_pooled else PREPARE_AFTER
        self.prepared_max = _MOST_PREPARED
        self._adapters = None  # made anew from the global ones; psycopg has no other way back
        register_loaders(self)
        self._notice_handlers.clear()
        self._notify_handlers.clear()
        if not is_pooled:
            await self.execute(_forget_session(), prepare=False)


@cache
def _forget_session() -> bytes:
    return (files("storage_postgres") / "sql" / "session" / "forget.sql").read_bytes()
