"""The verbs of notices as plans: stored beside what they tell of, and given to one holder at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from durable.execution import Execution
from durable.notice import NewNotice, Notice, TakenNotices
from durable.storage import Note
from storage_postgres import rows as to
from storage_postgres.arrays import plain
from storage_postgres.plan import Plan, Query

__all__ = [
    "delivered",
    "discard_notices",
    "emit",
    "note_ends",
    "put_off_delivery",
    "renew_delivery",
    "take_notices",
    "undelivered",
]

_NOTHING = TakenNotices((), 0)


def emit(notices: Sequence[NewNotice]) -> Plan[None]:
    if notices:
        # The order of every insert of notices, so that two of the same ids cannot wait for each other in a ring.
        yield Query("emit", to.notice_columns(sorted(notices, key=lambda notice: (notice.subscriber, notice.id))))


def note_ends(ids: Sequence[str], note: Note | None) -> Plan[None]:
    """Store what `note` says of executions that this transaction has ended.

    A statement of its own: it runs once the rows are locked, so its clock is past that of every end before.
    """
    if note is None or not ids:
        return
    found: list[Execution] = [to.execution(row) for row in (yield Query("get", {"ids": plain(sorted(ids))}))]
    yield from emit(note(sorted(found, key=lambda record: record.id)))


def take_notices(subscriber: str, *, holder: str, limit: int, lease: float) -> Plan[TakenNotices]:
    who = {"subscriber": subscriber, "holder": holder}
    ((has_any, is_ours),) = yield Query("look_for_notices", who)
    if not has_any:
        if is_ours:
            yield Query("let_delivery_go", who)
        return _NOTHING
    held = yield Query("hold_delivery", {**who, "lease": lease})
    if not held:
        return _NOTHING
    found = yield Query("first_notices", {"subscriber": subscriber, "limit": limit})
    return TakenNotices(tuple(Notice._make(row) for row in found), held[0][0])


def renew_delivery(subscriber: str, *, holder: str, lease: float) -> Plan[bool]:
    return bool((yield Query("renew_delivery", {"subscriber": subscriber, "holder": holder, "lease": lease})))


def delivered(subscriber: str, ids: Sequence[str], *, holder: str) -> Plan[None]:
    yield Query("delivered", {"subscriber": subscriber, "id": plain(ids), "holder": holder})


def put_off_delivery(subscriber: str, *, holder: str, delay: float) -> Plan[None]:
    yield Query("put_off_delivery", {"subscriber": subscriber, "holder": holder, "delay": delay})


def undelivered() -> Plan[Mapping[str, int]]:
    found = yield Query("undelivered", {})
    return {str(subscriber): int(count) for subscriber, count in found}


def discard_notices(subscriber: str) -> Plan[int]:
    ((count,),) = yield Query("discard_notices", {"subscriber": subscriber})
    return int(count)
