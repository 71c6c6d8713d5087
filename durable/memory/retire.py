"""Retention in memory: whole trees that have been closed for long, a page of the records at a time."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

from durable.execution import CloseStatus, Execution, Kind, Retired
from durable.memory.jobs_inbox import drop_events, events_of
from durable.memory.store import EventStatus, Transaction
from durable.memory.timer_rows import timers_of

_BEFORE_ALL_IDS = "00000000-0000-0000-0000-000000000000"

__all__ = ["retire"]


def retire(tx: Transaction, *, older_than: float, limit: int, after: str | None) -> Retired:
    before = tx.now - timedelta(seconds=older_than)
    if after is None:
        _forget_wakeups(tx, before, limit)
    jobs = _forget_jobs(tx, before, limit)
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
        if root is None or root.parent_id is not None or not _is_over(root, before) or _is_named(tx, root):
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
    if last_id is None and jobs == limit:
        # As many jobs as a page takes: there may be more of them, even if there are no more records.
        last_id = after or _BEFORE_ALL_IDS
    return Retired(count, last_id, jobs)


def _is_named(tx: Transaction, root: Execution) -> bool:
    """A turn whose job waits for its end, or keeps events that died in it."""
    if root.kind is not Kind.TURN:
        return False
    job = tx.jobs.get(root.root_id)
    dead = tx.events.find("of_job", (root.root_id, EventStatus.DEAD))
    return (job is not None and job.turn_id == root.id) or any(event.turn_id == root.id for event in dead)


def _tree(root: Execution, children: dict[str, list[Execution]]) -> list[Execution]:
    tree = [root]
    for record in tree:
        tree += children[record.id]
    return tree


def _is_over(record: Execution, before: datetime) -> bool:
    return record.close_status is CloseStatus.CLOSED and record.closed_at is not None and record.closed_at <= before


def _delete(tx: Transaction, record: Execution) -> None:
    tx.executions.remove(record.id)
    for table in (tx.history, tx.messages, tx.published, tx.chunks, tx.approvals):
        table.remove(record.id)
    if record.idempotency_key is not None:
        tx.keys.remove((record.task_name, record.idempotency_key))
    if record.sleeping_id is not None:
        tx.sleepers.remove((record.task_name, record.sleeping_id))


def _forget_jobs(tx: Transaction, before: datetime, limit: int) -> int:
    ended = sorted(
        (job.ended_at, job.id, job.job_key)
        for job in tx.jobs.values()
        if job.ended_at is not None and job.ended_at <= before
    )[: max(limit, 0)]
    for _, id_, key in ended:
        tx.jobs.remove(id_)
        tx.job_ids.remove(key)
        drop_events(tx, id_, events_of(tx, id_))
        for timer in timers_of(tx, id_):
            tx.timers.remove(timer.id)
    return len(ended)


def _forget_wakeups(tx: Transaction, before: datetime, limit: int) -> None:
    old = [key for key, wakeup in tx.wakeups.items() if wakeup.created_at <= before]
    for key in old[: max(limit, 0)]:
        tx.wakeups.remove(key)
