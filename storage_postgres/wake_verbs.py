"""The verbs of sleeping tasks as plans: wake-ups, and waits that are over."""

from __future__ import annotations

from typing import Final

from durable.execution import Execution, Settled, WakeResult
from durable.storage import Note
from storage_postgres import rows as to
from storage_postgres.outbox import note_ends
from storage_postgres.plan import Plan, Query

__all__ = ["apply_wakeups", "expire_waits", "get_sleeping", "wake"]

_TRIES: Final = 5
"""Round trips in which another waker's commit comes; what somebody holds for longer is woken by the next upkeep."""


def wake(
    task_name: str, sleeping_id: str, *, output: str | None, error: str | None, note: Note | None = None
) -> Plan[WakeResult]:
    name = {"task_name": task_name, "sleeping_id": sleeping_id}
    found = yield from get_sleeping(task_name, sleeping_id)
    ready: frozenset[str] = frozenset()
    if found is None or not found.is_finished:
        yield Query("keep_wakeup", {**name, "output": output, "error": error})
        for _ in range(_TRIES):
            # Applying skips what is locked: another waker's end of it may be about to be committed.
            ready, found = yield from _meet(task_name, sleeping_id, note)
            if found is None or found.is_finished:
                break
    return WakeResult(None, None) if found is None else WakeResult(found.id, found.status, ready)


def _meet(task_name: str, sleeping_id: str, note: Note | None) -> Plan[tuple[frozenset[str], Execution | None]]:
    name = {"task_name": task_name, "sleeping_id": sleeping_id}
    ((ids, queues),) = yield Query("apply_wakeups", {**name, "limit": 1})
    yield from note_ends(ids, note)
    return frozenset(queues), (yield from get_sleeping(task_name, sleeping_id))


def apply_wakeups(*, limit: int, note: Note | None = None) -> Plan[Settled]:
    ((ids, queues),) = yield Query("apply_wakeups", {"task_name": None, "sleeping_id": None, "limit": limit})
    yield from note_ends(ids, note)
    return Settled(frozenset(ids), frozenset(queues))


def expire_waits(*, limit: int, error: str, note: Note | None = None) -> Plan[Settled]:
    ((ids, queues),) = yield Query("expire_waits", {"limit": limit, "expired_error": error})
    yield from note_ends(ids, note)
    return Settled(frozenset(ids), frozenset(queues))


def get_sleeping(task_name: str, sleeping_id: str) -> Plan[Execution | None]:
    found = yield Query("get_sleeping", {"task_name": task_name, "sleeping_id": sleeping_id})
    return to.execution(found[0]) if found else None
