"""Executions as programs read them: JSON objects with the stored names, and payloads only on demand."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from durable.execution import Execution
from durable.explain import error_of, state_of

__all__ = ["payloads_of", "record_of"]

_PAYLOADS: Final = ("input", "output", "run_output", "progress", "error")
_LEFT_OUT: Final = {*_PAYLOADS, "retry", "idempotency_hash", "settled_fence", "is_counted"}


def record_of(execution: Execution, now: datetime) -> dict[str, Any]:
    """Every field that is no payload; `state` is the status with what is derived from it, `error` is without trace."""
    fields = {name: value for name, value in execution._asdict().items() if name not in _LEFT_OUT}
    error = error_of(execution)
    fields["state"] = state_of(execution, now)
    fields["error"] = None if error is None else {"type": error.type, "message": error.message}
    return fields


def payloads_of(execution: Execution) -> dict[str, Any]:
    """The payloads that are there, as JSON values; one that only the app's payload codec can read stays text."""
    stored = {name: getattr(execution, name) for name in _PAYLOADS}
    return {name: _value(text) for name, text in stored.items() if text is not None}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
