"""The report of a pool: what waits and runs in it, what ended in a window, and the rates that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypedDict

from durable.pool_rows import PoolTally

__all__ = ["PoolReport", "WorkReport", "pool_report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkReport:
    """Of one task in a pool. What stands now is exact; what ended in the window is so to the minute."""

    backlog: int
    """Executions that are due and wait for a place, or for their turn in their key."""
    scheduled: int
    """Executions that are due later, those that wait for their next attempt among them."""
    running: int
    completed: int
    """Executions that ended in the window, with a result."""
    failed: int
    """Those that ended without one: failed, timed_out or finalize_failed."""
    cancelled: int
    attempts: int
    """Attempts that ended in the window; not those that were cancelled, or given back by a shutdown or a crash."""
    failures: int
    """Attempts that failed, the last ones of what failed for good among them."""
    retries: int
    """Failures after which the execution was to be tried again."""
    start_lag_mean: float
    """Seconds from due to started, of the first attempts that ended in the window or that began in it and run now; 0.0
    where there are none."""
    start_lag_max: float

    @property
    def ended(self) -> int:
        """Executions that ended in the window, however they did."""
        return self.completed + self.failed + self.cancelled

    @property
    def failure_rate(self) -> float:
        """Of the attempts, the part that failed: 0.0 to 1.0, and 0.0 where there were none."""
        return self.failures / self.attempts if self.attempts else 0.0

    @property
    def permanent_failure_rate(self) -> float:
        """Of the executions that ended, the part that failed for good: 0.0 to 1.0, and 0.0 where none ended."""
        return self.failed / self.ended if self.ended else 0.0

    def numbers(self) -> dict[str, int | float]:
        """All of these by name, the rates to four digits and seconds to three."""
        return {
            "backlog": self.backlog,
            "scheduled": self.scheduled,
            "running": self.running,
            "completed": self.completed,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "attempts": self.attempts,
            "failures": self.failures,
            "retries": self.retries,
            "failure_rate": round(self.failure_rate, 4),
            "permanent_failure_rate": round(self.permanent_failure_rate, 4),
            "start_lag_mean": round(self.start_lag_mean, 3),
            "start_lag_max": round(self.start_lag_max, 3),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReport(WorkReport):
    """The same of a whole pool, and of each task that has anything in it."""

    pool: str
    over: float
    """Seconds; the window reaches so far back from now."""
    tasks: Mapping[str, WorkReport]
    """By the name of the task."""


class _Numbers(TypedDict):
    backlog: int
    scheduled: int
    running: int
    completed: int
    failed: int
    cancelled: int
    attempts: int
    failures: int
    retries: int
    start_lag_mean: float
    start_lag_max: float


def _numbers(tallies: Sequence[PoolTally]) -> _Numbers:
    starts = sum(tally.starts for tally in tallies)
    return _Numbers(
        backlog=sum(tally.backlog for tally in tallies),
        scheduled=sum(tally.scheduled for tally in tallies),
        running=sum(tally.running for tally in tallies),
        completed=sum(tally.completed for tally in tallies),
        failed=sum(tally.failed for tally in tallies),
        cancelled=sum(tally.cancelled for tally in tallies),
        attempts=sum(tally.attempts for tally in tallies),
        failures=sum(tally.failures for tally in tallies),
        retries=sum(tally.retries for tally in tallies),
        start_lag_mean=sum(tally.start_lag for tally in tallies) / starts if starts else 0.0,
        start_lag_max=max((tally.longest_start_lag for tally in tallies), default=0.0),
    )


def pool_report(pool: str, over: float, tallies: Sequence[PoolTally]) -> PoolReport:
    """The report that the tallies of a pool give; those of other pools are left out."""
    mine = [tally for tally in tallies if tally.pool == pool]
    names = sorted({tally.task_name for tally in mine})
    tasks = {name: WorkReport(**_numbers([tally for tally in mine if tally.task_name == name])) for name in names}
    return PoolReport(pool=pool, over=over, tasks=MappingProxyType(tasks), **_numbers(mine))
