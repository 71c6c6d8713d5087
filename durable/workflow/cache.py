"""Workflows that wait, kept in memory in case they go on soon: then nothing is read and nothing replayed."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from durable.clock import Clock
from durable.workflow.footprint import footprint
from durable.workflow.replay import Replay

__all__ = ["ReplayCache"]


@dataclass(slots=True)
class _Kept:
    fence: int
    replay: Replay
    size: int
    until: float
    is_stored: bool = False


class ReplayCache:
    """Those that have waited too long are let go, and where memory is short those that wait longest.

    A workflow that was let go is replayed when it is needed.
    """

    def __init__(self, clock: Clock, *, seconds: float, most_bytes: int) -> None:
        """`seconds` are those that one is kept at the least that nothing else drives out; 0 keeps none."""
        self._clock = clock
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        """In the order in which they have begun to wait, and so in that in which they have waited too long."""

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, execution_id: str, fence: int, replay: Replay, *, wakes_in: float | None = None) -> None:
        """After a turn of that fence; nobody gets it before its end is confirmed.

        `wakes_in` are the seconds before which nothing will wake it; None: something may at any time.
        """
        self.take(execution_id, -1)
        size = footprint(replay)
        # One that is as large as all the others may be would drive them out, and go with the next.
        if size > self._most_bytes or (wakes_in is not None and wakes_in > self._seconds):
            replay.close()
            return
        self._kept[execution_id] = _Kept(fence, replay, size, self._clock.monotonic() + self._seconds)
        self._bytes += size
        while self._bytes > self._most_bytes:
            self._drop_oldest()
        self.let_go()

    def let_go(self) -> None:
        """Of those that have waited too long; called again and again, so that it is also where nothing else happens."""
        now = self._clock.monotonic()
        while self._kept and next(iter(self._kept.values())).until <= now:
            self._drop_oldest()

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
        self._bytes -= kept.size
        # The end of a turn raises the fence by one, and so does the next claim. So does a recovery of a turn whose end
        # was refused, and then the replay knows of what is not stored.
        if kept.is_stored and kept.fence + 2 == fence:
            return kept.replay
        kept.replay.close()
        return None

    def clear(self) -> None:
        while self._kept:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, kept = self._kept.popitem(last=False)
        self._bytes -= kept.size
        kept.replay.close()
