"""The small rows of looking: what a list is asked for, what executors say, what upkeep and `doctor` find."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from durable.execution import Status

__all__ = ["Defect", "Duties", "ExecutionFilter", "ExecutorRow", "NextStart"]


class ExecutionFilter(NamedTuple):
    """Which executions a list shows; None leaves a field open."""

    statuses: tuple[Status, ...] | None = None
    task_name: str | None = None
    queue: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    roots_only: bool = False


class ExecutorRow(NamedTuple):
    """What an executor last said of itself. For people and `explain`; recovery never needs it."""

    id: str
    queues: tuple[str, ...]
    task_names: tuple[str, ...]
    running: int
    concurrency: int
    started_at: datetime
    seen_at: datetime


class Duties(NamedTuple):
    """Which kinds of upkeep have something to do just now."""

    recover: bool
    expire_waits: bool
    apply_wakeups: bool
    close: bool
    recover_closes: bool
    forget_events: bool
    report_pools: bool


class NextStart(NamedTuple):
    """What a look for work finds, without claiming."""

    now: datetime
    """The storage's clock at the look; the next look may begin there, if a claim comes between the two."""
    wait: float | None
    """Seconds until a claim finds something; 0.0: it does now. None: nothing comes due in the time looked at."""


class Defect(NamedTuple):
    """A record that breaks an invariant, as `doctor` finds it."""

    id: str
    kind: str
    """`count`: the active children do not add up; `orphan`: the parent is gone; `stranded`: it waits for children
    and has none; `unclosed`: finished, and outside the close pipeline; `contradiction`: its columns contradict each
    other; `spoiled`: a payload is no longer JSON."""
    detail: str
    is_mendable: bool
