"""What one write of a record in memory means to the counts of its pool; the trigger `count_pooled` counts the same."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from durable.execution import Execution, Phase, Status
from durable.pool_rows import PoolTally

__all__ = ["PoolCount", "count_of", "is_first_attempt", "start_lag"]

_FAILED: Final = frozenset({Status.FAILED, Status.TIMED_OUT, Status.FINALIZE_FAILED})


class PoolCount(NamedTuple):
    """What ended at one moment, or in one minute."""

    at: datetime
    is_summed: bool
    tally: PoolTally


def count_of(before: Execution | None, after: Execution) -> PoolCount | None:
    """None where neither an attempt nor the execution ended; one that was given back has not."""
    if before is None or not after.is_pooled or before.is_finished:
        return None
    was_running = before.status is Status.RUNNING
    if not after.is_finished and (not was_running or after.status is Status.RUNNING or _is_given_back(before, after)):
        return None
    is_first = was_running and is_first_attempt(before)
    is_retry = was_running and after.status is Status.READY and after.attempts == before.attempts
    has_failed = after.status in _FAILED
    lag = start_lag(before) if is_first else 0.0
    tally = PoolTally(
        pool=after.queue,
        task_name=after.task_name,
        completed=int(after.status is Status.COMPLETED),
        failed=int(has_failed),
        cancelled=int(after.status is Status.CANCELLED),
        attempts=int(was_running and after.status is not Status.CANCELLED),
        failures=int(is_retry or (was_running and has_failed)),
        retries=int(is_retry),
        starts=int(is_first),
        start_lag=lag,
        longest_start_lag=lag,
    )
    return PoolCount(after.updated_at, False, tally)


def _is_given_back(before: Execution, after: Execution) -> bool:
    """A release, or a lease that ran out; the next turn of a loop begins with no attempts too."""
    return (
        after.status is Status.READY
        and after.attempts < before.attempts
        and after.iteration == before.iteration
        and after.phase is before.phase
    )


def is_first_attempt(record: Execution) -> bool:
    """Whether what runs is the first start of the handler that was not given back."""
    return record.phase is Phase.RUN and record.attempts == 1 and record.iteration == 0


def start_lag(record: Execution) -> float:
    """Seconds from due to started."""
    return 0.0 if record.started_at is None else max((record.started_at - record.due_at).total_seconds(), 0.0)
