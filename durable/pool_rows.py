"""The rows of pools, and what the verbs of pools exchange."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from durable.execution import Claimed
from durable.notice import NewNotice

__all__ = ["LONGEST_WINDOW", "DueReport", "PoolConfig", "PoolNote", "PoolTally", "PooledClaim", "merged"]

LONGEST_WINDOW: Final = 86_400.0
"""Seconds for which what a pool has done is kept."""


class PoolConfig(NamedTuple):
    """The limits of one pool, over all executors. Columns of the table of pools, in order."""

    name: str
    max_parallelism: int | None
    """Executions that run at once; 0 starts none, None means no limit."""
    max_per_key: int | None
    """Executions of one serial key that run at once; None means no limit."""
    keep_order: bool
    """What waits for its next attempt keeps its place in its key: it counts as running there."""
    rate_tokens: int | None
    """Starts in any time as long as rate_period, at most; None means no limit."""
    rate_period: float | None
    """Seconds."""
    is_paused: bool
    """Starts nothing; the limits stand for when it goes on."""


class PooledClaim(NamedTuple):
    """What a claim from pools gave."""

    claimed: list[Claimed]
    wait: float | None
    """Seconds after which a claim may find more. None: what is held back waits for running work to end."""


class PoolTally(NamedTuple):
    """What one task has in one pool: how much waits and runs now, and what ended in some time. Columns, in order."""

    pool: str
    task_name: str
    backlog: int = 0
    """Ready and due."""
    scheduled: int = 0
    """Ready, and due later."""
    running: int = 0
    completed: int = 0
    failed: int = 0
    """Executions that ended as failed, timed_out or finalize_failed."""
    cancelled: int = 0
    attempts: int = 0
    """Attempts that ended by themselves: neither given back nor cancelled."""
    failures: int = 0
    retries: int = 0
    """Failures after which the execution became ready again."""
    starts: int = 0
    """First attempts, which are those that start_lag is of."""
    start_lag: float = 0.0
    """Seconds from due to started, of all first attempts together."""
    longest_start_lag: float = 0.0


def merged(tallies: Iterable[PoolTally]) -> list[PoolTally]:
    """One tally for each pool and task, in that order."""
    found: dict[tuple[str, str], PoolTally] = {}
    for tally in tallies:
        key = (tally.pool, tally.task_name)
        before = found.get(key)
        found[key] = tally if before is None else _sum(before, tally)
    return [found[key] for key in sorted(found)]


def _sum(one: PoolTally, other: PoolTally) -> PoolTally:
    sums = [before + more for before, more in zip(one[2:-1], other[2:-1], strict=True)]
    return PoolTally._make((*one[:2], *sums, max(one.longest_start_lag, other.longest_start_lag)))


class DueReport(NamedTuple):
    """A pool whose minute is over, and what ended in it since it was reported before."""

    pool: str
    seconds: float
    """Since the report before."""
    tallies: tuple[PoolTally, ...]
    """By task; one of what stands in the pool only where somebody is told."""


PoolNote = Callable[[Sequence[DueReport]], Sequence[NewNotice]]
"""Gives the notices of reports that are due; called inside the verb's transaction."""
