"""First start: an execution that is stored as running, because an executor of the process that stores it is free."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Protocol

from durable.execution import NOT_ASKED, Claimed, Kind, NewExecution, Phase

__all__ = ["Starter", "can_start", "first_claim"]


class Starter(Protocol):
    """What an executor gives the client of its own process."""

    executor_id: str
    lease: float
    """Seconds."""

    def reserve(self, row: NewExecution) -> float | None:
        """Keep a slot for it, and give the monotonic time now; None: it must wait its turn like any other."""
        ...

    def arrived(self, claimed: Claimed | None, reserved_at: float) -> None:
        """It was stored and is to be started; None: it was not, and the slot is free again. Called once for each."""
        ...


def can_start(row: NewExecution, *, queues: Collection[str], task_names: Collection[str]) -> bool:
    """True for what is due at once, bound by no limit but that of the executor, and none of its last deliveries."""
    return (
        row.kind is not Kind.SLEEPING
        and row.queue in queues
        and row.task_name in task_names
        and not row.delay
        and row.run_at is None
        and not row.is_pooled
        and row.parent_id is None
        and row.max_deliveries > 1
    )


def first_claim(row: NewExecution, created_at: datetime | None) -> Claimed:
    """What the claim of an execution gives that nobody had before; `created_at` of a workflow."""
    return Claimed(
        id=row.id,
        fence=1,
        kind=row.kind,
        task_name=row.task_name,
        task_version=row.task_version,
        phase=Phase.RUN,
        input=row.input,
        attempts=1,
        deliveries=1,
        iteration=0,
        max_attempts=row.max_attempts,
        timeout=row.timeout,
        retry=row.retry,
        run_output=None,
        error=None,
        root_id=row.root_id,
        parent_id=None,
        child_index=None,
        is_finalize=False,
        depth=0,
        queue=row.queue,
        priority=row.priority,
        age=0.0,
        on_complete=row.on_complete,
        created_at=created_at or NOT_ASKED,
    )
