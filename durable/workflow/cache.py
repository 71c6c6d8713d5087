"""Workflows that wait, kept in memory in case they go on soon: then nothing is read and nothing replayed."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from durable.workflow.replay import Replay

__all__ = ["ReplayCache"]


@dataclass(slots=True)
class _Kept:
    fence: int
    replay: Replay
    is_stored: bool = False


class ReplayCache:
    """At most so many; those that wait longest are let go first, and replayed when they are needed."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, execution_id: str, fence: int, replay: Replay) -> None:
        """After a turn of that fence; nobody gets it before its end is confirmed."""
        self.take(execution_id, -1)
        self._kept[execution_id] = _Kept(fence, replay)
        if len(self._kept) > self._most:
            _, oldest = self._kept.popitem(last=False)
            oldest.replay.close()

    def confirm(self, execution_id: str, fence: int) -> None:
        """The end of that turn is stored, and so is all that the replay has gone through."""
        kept = self._kept.get(execution_id)
        if kept is not None and kept.fence == fence:
            kept.is_stored = True

    def take(self, execution_id: str, fence: int) -> Replay | None:
        """For a turn of that fence; None where nobody was kept, another turn came between, or its end was refused."""
        kept = self._kept.pop(execution_id, None)
        if kept is None:
            return None
        # The end of a turn raises the fence by one, and so does the next claim. So does a recovery of a turn whose end
        # was refused, and then the replay knows of what is not stored.
        if kept.is_stored and kept.fence + 2 == fence:
            return kept.replay
        kept.replay.close()
        return None

    def clear(self) -> None:
        while self._kept:
            _, kept = self._kept.popitem()
            kept.replay.close()
