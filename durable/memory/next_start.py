"""The wait until a claim in memory finds something that comes due."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from durable.execution import RECORD_VERSION, Status
from durable.looks import NextStart
from durable.memory.store import Transaction

__all__ = ["next_start"]


def next_start(
    tx: Transaction,
    *,
    queues: Sequence[str],
    pools: Sequence[str],
    task_names: Sequence[str],
    after: datetime | None,
    within: float,
) -> NextStart:
    open_pools = {pool.name for pool in tx.pools.values() if not pool.is_paused and pool.max_parallelism != 0}
    served = {(queue, False) for queue in queues} | {(name, True) for name in open_pools.intersection(pools)}
    moments = [
        record.due_at
        for record in tx.executions.find("open", True)
        if record.status is Status.READY
        and (record.queue, record.is_pooled) in served
        and record.task_name in task_names
        and record.record_version <= RECORD_VERSION
        and record.due_at <= tx.now + timedelta(seconds=within)
        and (after is None or record.due_at > min(after, tx.now))
    ]
    return NextStart(tx.now, max((min(moments) - tx.now).total_seconds(), 0.0) if moments else None)
