"""Reports of pools in memory: what stands in them, what ended in a window, and the minute that is over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from durable.execution import Execution, Status
from durable.memory.outbox import emit
from durable.memory.pool_counts import PoolCount, is_first_attempt, start_lag
from durable.memory.store import Transaction
from durable.pool_rows import LONGEST_WINDOW, DueReport, PoolNote, PoolTally, merged

__all__ = ["pool_tallies", "report_pools", "reports_are_due"]


def pool_tallies(tx: Transaction, *, pools: Sequence[str] | None, over: float) -> list[PoolTally]:
    asked = frozenset([pool.name for pool in tx.pools.values()] if pools is None else pools)
    since = tx.now - timedelta(seconds=over)
    standing = [
        _standing(record, tx.now, since)
        for record in tx.executions.values()
        if record.is_pooled and record.queue in asked and record.status in (Status.READY, Status.RUNNING)
    ]
    ended = [count.tally for count in tx.pool_counts.values() if count.tally.pool in asked and count.at > since]
    return merged(standing + ended)


def _standing(record: Execution, now: datetime, since: datetime) -> PoolTally:
    empty = PoolTally(record.queue, record.task_name)
    if record.status is Status.READY:
        return empty._replace(backlog=1) if record.due_at <= now else empty._replace(scheduled=1)
    if not is_first_attempt(record) or record.started_at is None or record.started_at <= since:
        return empty._replace(running=1)
    lag = start_lag(record)
    return empty._replace(running=1, starts=1, start_lag=lag, longest_start_lag=lag)


def reports_are_due(tx: Transaction) -> bool:
    return any(reported_at < _minute(tx.now) for reported_at in tx.pool_reports.values())


def report_pools(tx: Transaction, *, pools: Sequence[str], note: PoolNote | None) -> list[str]:
    due: list[DueReport] = []
    for pool in sorted(set(pools)):
        reported_at = tx.pool_reports.get(pool)
        if reported_at is not None and reported_at < _minute(tx.now):
            tx.pool_reports.put(pool, tx.now)
            standing = [] if note is None else pool_tallies(tx, pools=[pool], over=0.0)
            seconds = (tx.now - reported_at).total_seconds()
            due.append(DueReport(pool, seconds, tuple(merged([*_summed(tx, pool), *standing]))))
    if note is not None and due:
        emit(tx, note(due))
    return [report.pool for report in due]


def _summed(tx: Transaction, pool: str) -> list[PoolTally]:
    """Put the single counts of a pool together, and forget old sums; gives what was put together."""
    groups: defaultdict[tuple[str, datetime], list[PoolCount]] = defaultdict(list)
    for key, count in list(tx.pool_counts.items()):
        if count.tally.pool != pool:
            continue
        if not count.is_summed:
            groups[count.tally.task_name, _minute(count.at)].append(count)
            tx.pool_counts.remove(key)
        elif count.at <= tx.now - timedelta(seconds=LONGEST_WINDOW):
            tx.pool_counts.remove(key)
    for counts in groups.values():
        (tally,) = merged(count.tally for count in counts)
        tx.put_count(PoolCount(max(count.at for count in counts), True, tally))
    return merged(count.tally for counts in groups.values() for count in counts)


def _minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)
