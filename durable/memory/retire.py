"""Retention in memory: whole trees that have been closed for long, a page of the records at a time."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

from durable.execution import CloseStatus, Execution, Retired
from durable.memory.store import Transaction

__all__ = ["retire"]


def retire(tx: Transaction, *, older_than: float, limit: int, after: str | None) -> Retired:
    before = tx.now - timedelta(seconds=older_than)
    if after is None:
        _forget_wakeups(tx, before, limit)
    records = sorted(record.id for record in tx.executions.values() if after is None or record.id > after)
    page = records[: max(limit, 0)]
    children: dict[str, list[Execution]] = defaultdict(list)
    for record in tx.executions.values():
        if record.parent_id is not None:
            children[record.parent_id].append(record)
    count = children_before = 0
    last_id = page[-1] if page and len(page) == limit else None
    for position, id_ in enumerate(page):
        root = tx.executions.get(id_)
        if root is None or root.parent_id is not None or not _is_over(root, before):
            continue
        if children_before >= limit:
            last_id = page[position - 1]
            break
        children_before += root.children_count
        tree = _tree(root, children)
        if all(_is_over(record, before) for record in tree):
            count += len(tree)
            for record in tree:
                _delete(tx, record)
    return Retired(count, last_id)


def _tree(root: Execution, children: dict[str, list[Execution]]) -> list[Execution]:
    tree = [root]
    for record in tree:
        tree += children[record.id]
    return tree


def _is_over(record: Execution, before: datetime) -> bool:
    return record.close_status is CloseStatus.CLOSED and record.closed_at is not None and record.closed_at <= before


def _delete(tx: Transaction, record: Execution) -> None:
    tx.executions.remove(record.id)
    if record.idempotency_key is not None:
        tx.keys.remove((record.task_name, record.idempotency_key))
    if record.sleeping_id is not None:
        tx.sleepers.remove((record.task_name, record.sleeping_id))


def _forget_wakeups(tx: Transaction, before: datetime, limit: int) -> None:
    old = [key for key, wakeup in tx.wakeups.items() if wakeup.created_at <= before]
    for key in old[: max(limit, 0)]:
        tx.wakeups.remove(key)
