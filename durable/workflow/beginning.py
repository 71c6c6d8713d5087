"""When a workflow began, over all the runs that it continues as new with: its timeout counts from then."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from durable.execution import Claimed

__all__ = ["beginning", "deadline", "with_beginning"]

_KEY = "begun_at"


def beginning(claimed: Claimed, run_began: datetime) -> datetime:
    """Of the first run; `run_began` is the moment of this one."""
    stored: dict[str, Any] = {} if claimed.run_output is None else json.loads(claimed.run_output)
    begun_at = datetime.fromisoformat(stored[_KEY]) if _KEY in stored else run_began
    # A fork's history began before it did itself.
    return max(begun_at, claimed.created_at)


def deadline(claimed: Claimed, run_began: datetime) -> datetime | None:
    """None: it has no timeout."""
    if claimed.timeout is None:
        return None
    return beginning(claimed, run_began) + timedelta(seconds=claimed.timeout)


def with_beginning(continued: str, begun_at: datetime) -> str:
    """The input that a run continues as new with, a JSON object, with the moment beside it."""
    return json.dumps({**json.loads(continued), _KEY: begun_at.isoformat()})
