"""How the large tables in memory are looked up: executions by what may start, events by job, timers by owner."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from durable.execution import CloseStatus, Execution, Status
from durable.memory.overlay import Index, Table
from durable.memory.rows import EventKey, InboxEvent
from durable.timer import StoredTimer

__all__ = ["event_table", "execution_table", "timer_table"]


def execution_table() -> Table[str, Execution]:
    """`ready` by (queue, whether a pool, whether a serial key, priority) and due time; `running` by pool; `open`."""
    return Table(
        ready=Index(_ready_group, lambda _, record: (record.due_at, record.id)),
        running=Index(_running_group, lambda id_, _: (id_,)),
        open=Index(_open_group, lambda id_, _: (id_,)),
    )


def _ready_group(_: str, record: Execution) -> Hashable | None:
    if record.status is not Status.READY:
        return None
    return record.queue, record.is_pooled, record.is_pooled and record.serial_key is not None, record.priority


def _running_group(_: str, record: Execution) -> Hashable | None:
    return record.queue if record.is_pooled and record.status is Status.RUNNING else None


def _open_group(_: str, record: Execution) -> Hashable | None:
    """What may still change by itself: unfinished, or waiting to be closed."""
    is_closing = record.close_status in (CloseStatus.READY, CloseStatus.CLOSING)
    return True if is_closing or not record.is_finished else None


def event_table() -> Table[EventKey, InboxEvent]:
    """`of_job` by job and status, in order; `of_id` by job and event id; `status` by status and time of expiry."""
    return Table(
        of_job=Index(lambda key, event: (key[0], event.status), _place),
        of_id=Index(lambda key, event: None if event.event_id is None else (key[0], event.event_id), _place),
        status=Index(lambda _, event: event.status, lambda key, event: (event.expires_at, *key)),
    )


def _place(key: EventKey, _: InboxEvent) -> tuple[Any, ...]:
    return key[1:]


def timer_table() -> Table[str, StoredTimer]:
    """`of_job` by job and whether it failed, and `of_owner` by owner, both in order of time; `named` by its slot."""
    return Table(
        of_job=Index(lambda _, timer: (timer.job_id, timer.is_failed), _time),
        of_owner=Index(lambda _, timer: timer.owner, _time),
        named=Index(lambda _, timer: None if timer.name is None else (timer.owner, timer.name), _time),
    )


def _time(_: str, timer: StoredTimer) -> tuple[Any, ...]:
    return timer.due_at, timer.id
