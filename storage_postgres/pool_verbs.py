"""The verbs of pools' reports as plans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from durable.pool_rows import LONGEST_WINDOW, DueReport, PoolNote, PoolTally, merged
from storage_postgres.arrays import texts
from storage_postgres.outbox import emit
from storage_postgres.plan import Plan, Query

__all__ = ["pool_tallies", "report_pools"]

_MOST_ENDS: Final = 500_000
"""Ends in one pool that one report sums up: what a busy pool leaves in a minute, and more."""


def pool_tallies(pools: Sequence[str] | None, *, over: float) -> Plan[list[PoolTally]]:
    found = yield Query("pool_tallies", {"pools": None if pools is None else texts(pools), "over": over})
    return _tallies(found)


def report_pools(pools: Sequence[str], *, note: PoolNote | None) -> Plan[list[str]]:
    taken = yield Query("take_pool_reports", {"pools": texts(sorted(set(pools)))})
    if not taken:
        return []
    seconds = {str(pool): float(ago) for pool, ago in sorted(taken)}
    names = texts(seconds)
    tallies = _tallies((yield Query("sum_pool_counts", {"pools": names, "limit": _MOST_ENDS, "kept": LONGEST_WINDOW})))
    if note is not None:
        # After the sums, which leave nothing in a window without length: what stands in the pools alone.
        tallies = merged([*tallies, *(yield from pool_tallies(list(seconds), over=0.0))])
        yield from emit(note([DueReport(pool, ago, _of(pool, tallies)) for pool, ago in seconds.items()]))
    return list(seconds)


def _tallies(rows: Sequence[tuple[Any, ...]]) -> list[PoolTally]:
    return merged(PoolTally._make(row) for row in rows)


def _of(pool: str, tallies: Sequence[PoolTally]) -> tuple[PoolTally, ...]:
    return tuple(tally for tally in tallies if tally.pool == pool)
