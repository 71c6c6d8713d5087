"""Append events of many callers together, without letting one whose job somebody holds keep the others waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from durable.group_commit import GroupCommit
from durable.job import Appended, JobKey, NewEvent
from durable.patience import Patience
from durable.storage import Storage

__all__ = ["Appends"]

_WHAT = "appending an event"


class _Lane:
    """The events of one key that wait for its job."""

    def __init__(self, group: GroupCommit[NewEvent, Appended]) -> None:
        self.group = group
        self.waiting = 0


class Appends:
    """A lone event goes out at once, in one statement. Those that come meanwhile go out together, and wait for nobody.

    What they would wait for may be a caller's own transaction, which lasts as long as it likes. So an event that meets
    one, or is the first of its key, goes on in the lane of its key, where the later ones of that key follow it.
    """

    def __init__(self, storage: Storage, in_turn: Patience, patiently: Patience) -> None:
        self._storage = storage
        self._in_turn = in_turn
        """For what may wait for somebody's transaction."""
        self._patiently = patiently
        self._grouped: GroupCommit[NewEvent, Appended | None] = GroupCommit(self._write_free, gathers=True)
        self._lanes: dict[JobKey, _Lane] = {}
        self._is_one_alone = False

    async def append(self, event: NewEvent) -> Appended:
        """Durable when it returns. Cancelled while waiting, the event may or may not have been appended."""
        if event.key in self._lanes:
            return await self._in_lane(event)
        if self._is_one_alone:
            return await self._grouped.submit(event) or await self._in_lane(event)
        self._is_one_alone = True
        try:
            return await self._in_lane(event)
        finally:
            self._is_one_alone = False

    async def close(self) -> None:
        """Refuse new events and wait for those accepted."""
        lanes = [lane.group.close() for lane in self._lanes.values()]
        await asyncio.gather(self._grouped.close(), *lanes)

    async def _in_lane(self, event: NewEvent) -> Appended:
        lane = self._lanes.setdefault(event.key, _Lane(GroupCommit(self._write)))
        lane.waiting += 1
        try:
            return await lane.group.submit(event)
        finally:
            lane.waiting -= 1
            if not lane.waiting:
                del self._lanes[event.key]

    async def _write(self, events: Sequence[NewEvent]) -> list[Appended]:
        return await self._in_turn(self._storage.append_events(events), _WHAT)

    async def _write_free(self, events: Sequence[NewEvent]) -> list[Appended | None]:
        return await self._patiently(self._storage.append_free_events(events), _WHAT)
