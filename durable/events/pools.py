"""What a minute of a pool came to, as a fact."""

from __future__ import annotations

from durable.events.event import EventName
from durable.events.facts import Fact
from durable.pool_report import pool_report
from durable.pool_rows import DueReport

__all__ = ["fact_of_pool"]

_KIND = "pool"


def fact_of_pool(due: DueReport) -> Fact:
    """The numbers of the whole pool; the name of the pool stands in place of a task's."""
    report = pool_report(due.pool, due.seconds, due.tallies)
    data = {"seconds": round(due.seconds, 3), **report.numbers()}
    return Fact(EventName.POOL_REPORT, f"{_KIND}:{due.pool}", _KIND, due.pool, data)
