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
        self._stored: set[str] = set()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, execution_id: str, fence: int, replay: Replay) -> None:
        """After a turn of that fence, whose end is yet to be written."""
        self.take(execution_id, -1)
        self._kept[execution_id] = fence, replay
        if len(self._kept) > self._most:
            oldest_id, (_, oldest) = self._kept.popitem(last=False)
            self._stored.discard(oldest_id)
            oldest.close()

    def confirm(self, execution_id: str, fence: int) -> None:
        """The end of the turn of that fence is stored: what was kept knows no more than the history does.

        Its fence alone does not tell. Where the end is refused, because the lease had run out, others raise the fence
        by one as well.
        """
        kept = self._kept.get(execution_id)
        if kept is not None and kept[0] == fence:
            self._stored.add(execution_id)

    def take(self, execution_id: str, fence: int) -> Replay | None:
        """For a turn of that fence; None where nobody was kept, another turn came between, or its end was refused."""
        kept = self._kept.pop(execution_id, None)
        if kept is None:
            return None
        before, replay = kept
        is_stored = execution_id in self._stored
        self._stored.discard(execution_id)
        # The end of a turn raises the fence by one, and so does the next claim.
        if is_stored and before + 2 == fence:
            return replay
        replay.close()
        return None

    def clear(self) -> None:
        while self._kept:
            _, (_, replay) = self._kept.popitem()
            replay.close()
        self._stored.clear()
