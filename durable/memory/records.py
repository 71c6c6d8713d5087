"""Records and the state machine: what a new row becomes, and the columns that follow from each transition."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, Final

from durable.execution import (
    FINISHED,
    RECORD_VERSION,
    CloseStatus,
    Execution,
    Kind,
    NewExecution,
    Phase,
    Status,
)
from durable.transitions import Event, State, apply, first_state

__all__ = ["changed", "first_record", "moved", "resumed", "state_of", "transferred"]

_STATE_FIELDS: Final = tuple(field.name for field in fields(State))


def first_record(row: NewExecution, now: datetime) -> Execution:
    """The record that enqueue stores for a row."""
    state = first_state(row.kind, row.max_deliveries)
    due_at = max(row.run_at if row.run_at is not None else now + timedelta(seconds=row.delay), now)
    sleeps = row.kind is Kind.SLEEPING
    has_deadline = sleeps and row.timeout is not None
    return Execution(
        **{name: value for name, value in row._asdict().items() if name != "run_at"},
        record_version=RECORD_VERSION,
        status=state.status,
        phase=Phase.RUN,
        fence=0,
        settled_fence=0,
        attempts=0,
        deliveries=0,
        iteration=0,
        executor_id=None,
        output=None,
        run_output=None,
        error=None,
        reason=None,
        progress=None,
        needs_cancel=False,
        children_count=0,
        active_children_count=0,
        close_status=CloseStatus.IDLE,
        created_at=now,
        due_at=due_at,
        started_at=now if sleeps else None,
        lease_expires_at=None,
        wait_expires_at=now + timedelta(seconds=row.delay + (row.timeout or 0.0)) if has_deadline else None,
        waiting_for_children_at=None,
        waiting_for_finalize_at=None,
        finished_at=None,
        close_lease_expires_at=None,
        closed_at=None,
        updated_at=now,
        cancel_requested=None,
        is_counted=False,
        message_count=0,
        wake_at_children=None,
    )


def state_of(record: Execution) -> State:
    """The part of a record that the state machine reads and writes."""
    return State(**{name: getattr(record, name) for name in _STATE_FIELDS})


def moved(
    record: Execution, event: Event, now: datetime, *, children: int = 0, delay: float = 0.0, **columns: Any
) -> Execution:
    """The record after `event`; raises TransitionRefused. `columns` are what the event carries beside the state."""
    return transferred(record, apply(state_of(record), event, children=children), now, delay=delay, **columns)


def resumed(record: Execution, now: datetime) -> Execution:
    """A suspended workflow as it is when it may go on: due now, and waiting for nothing."""
    return moved(record, Event.RESUME, now, due_at=now, wake_at_children=None)


def transferred(record: Execution, state: State, now: datetime, *, delay: float = 0.0, **columns: Any) -> Execution:
    """The record in a state that the machine gave, with the times that follow from it.

    `delay` is in seconds until a record that becomes ready is due.
    """
    entered = state.status if state.status is not record.status else None
    times: dict[str, Any] = {"updated_at": now}
    if state.status is not Status.RUNNING:
        times["lease_expires_at"] = None
    if entered is Status.READY:
        times["due_at"] = now + timedelta(seconds=delay)
    elif entered is Status.RUNNING:
        times["started_at"] = now
    elif entered is Status.WAITING_FOR_CHILDREN:
        times["waiting_for_children_at"] = now
    elif entered is Status.WAITING_FOR_FINALIZE:
        times["waiting_for_finalize_at"] = now
    if entered is not None:
        times["finished_at"] = now if entered in FINISHED else None
    times.update(_close_times(record, state.close_status, now))
    values = {name: getattr(state, name) for name in _STATE_FIELDS}
    return record._replace(**{**values, **times, **columns})


def changed(record: Execution, now: datetime, close_status: CloseStatus, **columns: Any) -> Execution:
    """The record in another close status, or with other columns; its status stays."""
    times = _close_times(record, close_status, now)
    return record._replace(close_status=close_status, updated_at=now, **{**times, **columns})


def _close_times(record: Execution, close_status: CloseStatus, now: datetime) -> dict[str, Any]:
    if close_status is record.close_status:
        return {}
    times: dict[str, Any] = {"closed_at": now if close_status is CloseStatus.CLOSED else None}
    if close_status is not CloseStatus.CLOSING:
        times["close_lease_expires_at"] = None
    return times
