"""Notices in memory: stored with what they tell of, given to one holder at a time, deleted when delivered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from durable.execution import Execution
from durable.memory.store import DeliveryRight, Transaction
from durable.notice import NewNotice, Notice, TakenNotices
from durable.storage import Note

__all__ = [
    "delivered",
    "discard_notices",
    "emit",
    "note_ends",
    "put_off_delivery",
    "put_off_moments",
    "renew_delivery",
    "take_notices",
    "undelivered",
]

_NOTHING: Final = TakenNotices((), 0)


def emit(tx: Transaction, notices: Sequence[NewNotice]) -> None:
    for new in notices:
        if tx.notices.get((new.subscriber, new.id)) is None:
            shared = {name: getattr(new, name) for name in Notice._fields if name != "at"}
            # A database gives back text, and no members of an enum.
            notice = Notice(**shared, at=tx.now)._replace(name=str(new.name), kind=str(new.kind))
            tx.notices.put((new.subscriber, new.id), notice)


def note_ends(tx: Transaction, note: Note | None, records: Iterable[Execution]) -> None:
    """Store what `note` says of executions that were ended, in the order of their ids."""
    found = {record.id: record for record in records}
    if note is not None and found:
        emit(tx, note([found[id_] for id_ in sorted(found)]))


def take_notices(tx: Transaction, subscriber: str, *, holder: str, limit: int, lease: float) -> TakenNotices:
    waiting = sorted(((notice.at, notice.id), notice) for (name, _), notice in tx.notices.items() if name == subscriber)
    right = tx.deliveries.get(subscriber) or DeliveryRight(None, tx.now, tx.now, 0)
    is_held = right.holder is not None and right.lease_expires_at > tx.now
    if not waiting:
        if right.holder == holder:
            tx.deliveries.put(subscriber, right._replace(holder=None))
        return _NOTHING
    if (is_held and right.holder != holder) or right.due_at > tx.now:
        return _NOTHING
    tx.deliveries.put(subscriber, right._replace(holder=holder, lease_expires_at=tx.now + timedelta(seconds=lease)))
    return TakenNotices(tuple(notice for _, notice in waiting[: max(limit, 0)]), right.failure_count)


def renew_delivery(tx: Transaction, subscriber: str, *, holder: str, lease: float) -> bool:
    right = tx.deliveries.get(subscriber)
    if right is None or right.holder != holder:
        return False
    tx.deliveries.put(subscriber, right._replace(lease_expires_at=tx.now + timedelta(seconds=lease)))
    return True


def delivered(tx: Transaction, subscriber: str, ids: Sequence[str], *, holder: str) -> None:
    for id_ in ids:
        tx.notices.remove((subscriber, id_))
    right = tx.deliveries.get(subscriber)
    if right is not None and right.holder == holder:
        tx.deliveries.put(subscriber, right._replace(failure_count=0))


def put_off_delivery(tx: Transaction, subscriber: str, *, holder: str, delay: float) -> None:
    right = tx.deliveries.get(subscriber)
    if right is not None and right.holder == holder:
        due_at = tx.now + timedelta(seconds=delay)
        after = right._replace(holder=None, due_at=due_at, failure_count=right.failure_count + 1)
        tx.deliveries.put(subscriber, after)


def put_off_moments(tx: Transaction) -> list[datetime]:
    """When deliveries that failed are to be tried again, of subscribers for whom something waits."""
    waiting = {subscriber for (subscriber, _), _ in tx.notices.items()}
    return [right.due_at for name, right in tx.deliveries.items() if name in waiting and right.due_at > tx.now]


def undelivered(tx: Transaction) -> Mapping[str, int]:
    return Counter(subscriber for (subscriber, _), _ in tx.notices.items())


def discard_notices(tx: Transaction, subscriber: str) -> int:
    keys = [key for key, _ in tx.notices.items() if key[0] == subscriber]
    for key in keys:
        tx.notices.remove(key)
    tx.deliveries.remove(subscriber)
    return len(keys)
