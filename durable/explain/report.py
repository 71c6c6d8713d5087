"""The report on one execution: its status with what follows from the record, for programs and for people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from durable.execution import FINISHED, Execution, Status
from durable.explain.words import state_of

__all__ = ["StatusReport", "report"]


@dataclass(frozen=True, slots=True)
class StatusReport:
    """How an execution stands. Nothing of it is stored twice; `text` is derived from the record and the time."""

    execution_id: str
    status: Status | None
    """None: there is no such execution; it never was, or retention has taken it."""
    text: str
    """In words: "ready (in 30 s)", "retrying (attempt 3 of 5, in 2 s)", "completed", "not found"."""
    task_name: str | None = None
    previous_attempts: int = 0
    """Attempts of this turn that are over; the one that runs is not among them."""
    max_attempts: int = 0
    iteration: int = 0
    """Turns that a loop, or a task that continues, has taken before this one."""
    next_due_at: datetime | None = None
    """When it may run next; None unless it is ready."""
    is_cancel_requested: bool = False
    """It runs, and will not be run again."""

    @property
    def is_found(self) -> bool:
        return self.status is not None

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED


def report(execution_id: str, execution: Execution | None, now: datetime) -> StatusReport:
    if execution is None:
        return StatusReport(execution_id, None, "not found")
    is_over = execution.status is not Status.RUNNING
    return StatusReport(
        execution.id,
        execution.status,
        state_of(execution, now),
        execution.task_name,
        previous_attempts=execution.attempts if is_over else execution.attempts - 1,
        max_attempts=execution.max_attempts,
        iteration=execution.iteration,
        next_due_at=execution.due_at if execution.status is Status.READY else None,
        is_cancel_requested=execution.cancel_requested is not None and not execution.is_finished,
    )
