"""Cancel: stop the handlers of executions that were cancelled under this executor's hands."""

from __future__ import annotations

from collections.abc import Callable

from durable.attempts import Attempt, Holdings
from durable.rooms.loop import Waker
from durable.storage import Hint, Storage

__all__ = ["CancelRoom"]

_BATCH = 500


class CancelRoom:
    """Looks for cancellations when told, and at each poll while anything is held."""

    def __init__(
        self,
        *,
        executor_id: str,
        storage: Storage,
        holdings: Holdings,
        waker: Waker,
        on_cancelled: Callable[[Attempt], None],
    ) -> None:
        self._executor_id = executor_id
        self._storage = storage
        self._holdings = holdings
        self._waker = waker
        self._on_cancelled = on_cancelled

    def on_hint(self, hint: Hint) -> None:
        if hint.topic in ("cancelled", "reconnected"):
            self._waker.ring()

    async def step(self) -> None:
        if not len(self._holdings):
            return
        while True:
            ids = await self._storage.pick_up_cancelled(executor_id=self._executor_id, limit=_BATCH)
            for execution_id in ids:
                for attempt in self._holdings.of(execution_id):
                    self._on_cancelled(attempt)
            if len(ids) < _BATCH:
                return
