"""Workflows that wait, kept in memory in case they go on soon: then nothing is read and nothing replayed."""

from __future__ import annotations

from collections import OrderedDict

from durable.workflow.replay import Replay

__all__ = ["ReplayCache"]


class ReplayCache:
    """At most so many; those that wait longest are let go first, and replayed when they are needed."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, tuple[int, Replay]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, execution_id: str, fence: int, replay: Replay) -> None:
        """After a turn of that fence."""
        self.take(execution_id, -1)
        self._kept[execution_id] = fence, replay
        if len(self._kept) > self._most:
            _, (_, oldest) = self._kept.popitem(last=False)
            oldest.close()

    def take(self, execution_id: str, fence: int) -> Replay | None:
        """For a turn of that fence; None where nobody was kept, or another turn came between."""
        kept = self._kept.pop(execution_id, None)
        if kept is None:
            return None
        before, replay = kept
        # The end of a turn raises the fence by one, and so does the next claim.
        if before + 2 == fence:
            return replay
        replay.close()
        return None

    def clear(self) -> None:
        while self._kept:
            _, (_, replay) = self._kept.popitem()
            replay.close()
