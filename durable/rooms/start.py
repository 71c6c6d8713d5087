"""Start: takes what this process enqueues straight into a free slot, stored as claimed from the beginning."""

from __future__ import annotations

from durable.execution import Claimed, NewExecution
from durable.first_start import can_start
from durable.rooms.claim import ClaimRoom
from durable.settings import ExecutorSettings

__all__ = ["StartRoom"]


class StartRoom:
    """See durable.first_start.Starter."""

    def __init__(
        self, *, executor_id: str, settings: ExecutorSettings, task_names: frozenset[str], claim: ClaimRoom
    ) -> None:
        self.executor_id = executor_id
        self.lease = settings.lease
        self._queues = frozenset(settings.queues)
        self._task_names = task_names
        self._claim = claim

    def reserve(self, row: NewExecution) -> float | None:
        if not can_start(row, queues=self._queues, task_names=self._task_names):
            return None
        return self._claim.reserve()

    def arrived(self, claimed: Claimed | None, reserved_at: float) -> None:
        self._claim.arrived(claimed, reserved_at)
