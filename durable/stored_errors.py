"""The stored form of an error, and the errors that durable itself gives to an execution."""

from __future__ import annotations

import json
from typing import Any, Final

from durable.errors import ErrorInfo

__all__ = ["EXPIRED", "LOST", "ORPHAN", "POISONED", "cancelled", "load_error", "store_error"]


def store_error(error: ErrorInfo) -> str:
    """An error as the JSON text of a record; keys that say nothing are left out."""
    fields: dict[str, Any] = {"type": error.type, "message": error.message}
    if not error.is_retryable:
        fields["is_retryable"] = False
    if error.traceback:
        fields["traceback"] = error.traceback
    return json.dumps(fields, ensure_ascii=False)


def load_error(text: str | None) -> ErrorInfo | None:
    """The error of a record. Text that is not what `store_error` wrote becomes an error of type `unreadable`."""
    if text is None:
        return None
    try:
        fields = json.loads(text)
        return ErrorInfo(
            str(fields["type"]), str(fields["message"]), bool(fields.get("is_retryable", True)), fields.get("traceback")
        )
    except (ValueError, TypeError, KeyError):
        return ErrorInfo("unreadable", "the stored error cannot be read", is_retryable=False)


LOST: Final = store_error(ErrorInfo("lease_expired", "its executor let the lease run out; it is run again"))
POISONED: Final = store_error(
    ErrorInfo("poisoned", "every delivery ended with a lost lease; it may be killing its process", is_retryable=False)
)
EXPIRED: Final = store_error(ErrorInfo("timed_out", "nothing woke it before its deadline", is_retryable=False))
ORPHAN: Final = store_error(ErrorInfo("cancelled", "its parent is gone", is_retryable=False))


def cancelled(reason: str) -> str:
    """The error of an execution that was cancelled, with who or what did it."""
    return store_error(ErrorInfo("cancelled", reason, is_retryable=False))
