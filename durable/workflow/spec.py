"""What a definition of a workflow says beside the options of every definition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["WorkflowSpec"]


@dataclass(slots=True)
class WorkflowSpec:
    """Filled while the workflow is declared."""

    finalize: Callable[[Any], Awaitable[None]] | None = None
    """Runs before the end, whatever that is; None: nothing does."""
    queries: dict[str, Callable[..., Any]] = field(default_factory=dict)
    """Functions over what it has published, by name."""
    updates: dict[str, Callable[..., Any]] = field(default_factory=dict)
    """Requests that it answers, by name."""
