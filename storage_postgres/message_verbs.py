"""The verb of messages as a plan."""

from __future__ import annotations

from collections.abc import Sequence

from durable.workflow_rows import NewMessage, Sent
from storage_postgres import workflow_rows as to
from storage_postgres.arrays import plain
from storage_postgres.plan import Plan, Query

__all__ = ["append_messages", "hold", "send_messages"]


def send_messages(rows: Sequence[NewMessage]) -> Plan[list[Sent]]:
    """One statement, unless a message has an id: whether that is there is asked when its receiver is held."""
    if any(row.message_id is not None for row in rows):
        yield from hold([row.execution_id for row in rows])
    return (yield from append_messages(rows))


def append_messages(rows: Sequence[NewMessage]) -> Plan[list[Sent]]:
    """The same, once the receivers of messages with ids are held."""
    if not rows:
        return []
    found = yield Query("send_messages", to.message_columns(rows))
    return [to.sent(row, outcome) for row, outcome in zip(rows, found, strict=True)]


def hold(ids: Sequence[str], *, ending: Sequence[str] = ()) -> Plan[None]:
    """Lock executions, and the parents of those that may end, for the statements that follow in the transaction."""
    rows = {"ids": plain(sorted({*ids, *ending})), "children": plain(sorted(ending)), "lock_timeout": None}
    yield Query("hold_executions", rows)
