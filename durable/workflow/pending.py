"""A command of a body that has no answer yet, and how far it has come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from durable.errors import ErrorInfo
from durable.workflow.entries import Command

__all__ = ["Pending"]


@dataclass(slots=True, eq=False)
class Pending:
    """Asked for in one run of the body; made again by each replay."""

    key: str
    command: Command
    future: asyncio.Future[Any]
    digest: str = ""
    """Of its arguments, and of what the body has said since the command before; see `durable.workflow.compare`."""
    owed: int = 0
    """So many entries that its answer takes are still to come, attempts that fail apart."""
    attempts: int = 0
    """Of a step: attempts that have failed."""
    error: ErrorInfo | None = None
    """Of a step: the last of those failures."""
    attempt_seq: int | None = None
    """Of the entry of that failure; it goes when another follows."""
    due_at: datetime | None = None
    """When its timer fires, or its next attempt begins; None: it has none, or none yet."""
    first_at: datetime | None = None
    """Of a step: when its first attempt began."""
    child_id: str | None = None
    is_taken: bool = False
    """Somebody carries it out already."""
    on_done: Callable[[asyncio.Future[Any]], None] | None = None
    """The callback of its future that waits for the body to give it up; None once it has come, or need not."""

    @property
    def is_open(self) -> bool:
        return not self.future.done()
