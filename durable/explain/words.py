"""The words for lengths, points of time, errors, and the status of an execution with what is derived from it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from durable.errors import ErrorInfo
from durable.execution import CloseStatus, Execution, Kind, Status
from durable.stored_errors import load_error

__all__ = ["SEALED_MARK", "error_of", "moment", "span", "state_of"]

SEALED_MARK: Final = "~"
"""What a payload starts with that only the app's own payload codec can read."""

_STEPS: Final = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s"))


def span(seconds: float) -> str:
    """A length of time in the two units that say most: "350 ms", "2.4 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"."""
    length = abs(seconds)
    if length < 0.9995:
        return f"{length * 1000:.0f} ms"
    if length < 9.95:
        return f"{length:.1f}".removesuffix(".0") + " s"
    whole = round(length)
    for unit, name, part, part_name in _STEPS:
        if whole >= unit:
            rest = whole % unit // part
            return f"{whole // unit} {name} {rest} {part_name}" if rest else f"{whole // unit} {name}"
    return f"{whole} s"


def moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def error_of(execution: Execution) -> ErrorInfo | None:
    """The last error of a record, as far as it can be read without the app."""
    if execution.error is not None and execution.error.startswith(SEALED_MARK):
        return ErrorInfo("sealed", "stored through the app's payload codec")
    return load_error(execution.error)


def state_of(execution: Execution, now: datetime) -> str:
    """The status with what follows from it at `now`: "ready (in 30 s)", "retrying (attempt 3 of 5, in 2 s)"."""
    name = "retrying" if _is_retrying(execution) else str(execution.status)
    details = _details(execution, now)
    return f"{name} ({', '.join(details)})" if details else name


def _is_retrying(execution: Execution) -> bool:
    return execution.status is Status.READY and execution.error is not None and execution.attempts > 0


def _details(execution: Execution, now: datetime) -> list[str]:
    match execution.status:
        case Status.READY:
            return _ready_details(execution, now)
        case Status.RUNNING:
            ends = ["not to be run again"] if execution.cancel_requested is not None else []
            lease = _left(execution.lease_expires_at, now, "lease {} left", "lease ran out {} ago")
            return [*_turn(execution), *lease, *ends]
        case Status.WAITING:
            return _left(execution.wait_expires_at, now, "{} left", "deadline passed {} ago")
        case Status.WAITING_FOR_CHILDREN:
            return [f"{execution.active_children_count} left"]
        case Status.WAITING_FOR_FINALIZE:
            return []
        case _:
            poisoned = ["poisoned"] if execution.reason == "poisoned" else []
            closing = [] if execution.close_status is CloseStatus.CLOSED else ["closing"]
            return poisoned + closing


def _ready_details(execution: Execution, now: datetime) -> list[str]:
    details = _turn(execution)
    if _is_retrying(execution):
        details.append(f"attempt {execution.attempts + 1} of {execution.max_attempts}")
    if execution.due_at > now:
        details.append(f"in {span((execution.due_at - now).total_seconds())}")
    return details


def _turn(execution: Execution) -> list[str]:
    """Which turn of several; the iterations of a sequence are its children."""
    has_turns = execution.kind in (Kind.LOOP, Kind.TASK) and execution.iteration > 0
    return [f"turn {execution.iteration + 1}"] if has_turns else []


def _left(until: datetime | None, now: datetime, ahead: str, past: str) -> list[str]:
    if until is None:
        return []
    left = (until - now).total_seconds()
    return [(ahead if left > 0 else past).format(span(left))]
