"""Which execution the current task or thread runs, so that no handler waits for what waits for it."""

from __future__ import annotations

from collections.abc import Collection
from contextvars import ContextVar
from typing import Final

from durable.errors import ConfigurationError
from durable.execution import Claimed

__all__ = ["enter", "refuse_own_end"]

_running: Final[ContextVar[Claimed | None]] = ContextVar("durable_running", default=None)


def enter(claimed: Claimed) -> None:
    """Say what this task runs from now on; tasks and threads that it starts inherit it."""
    _running.set(claimed)


def refuse_own_end(execution_ids: Collection[str]) -> None:
    """Raise ConfigurationError if one of these cannot end before the handler that asks returns."""
    claimed = _running.get()
    if claimed is None:
        return
    for name, id_ in (("itself", claimed.id), ("its parent", claimed.parent_id), ("the root", claimed.root_id)):
        if id_ in execution_ids:
            raise ConfigurationError(
                f"execution {claimed.id} (task {claimed.task_name}) waits for {name} to end, "
                "which cannot be before it returns"
            )
