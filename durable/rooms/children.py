"""Children: read the ends of the children of claimed turns, in batches that fill while a read is in flight."""

from __future__ import annotations

from collections.abc import Sequence

from durable.execution import ChildOutcome
from durable.group_commit import GroupCommit
from durable.rooms.loop import patiently
from durable.storage import Storage

__all__ = ["ChildrenRoom"]

_MOST_PARENTS = 100
"""In one read: a parent may have thousands of children, and the answer is in memory whole."""


class ChildrenRoom:
    """Turns that are claimed together ask in the same moment: one read serves them all."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._asked: GroupCommit[str, list[ChildOutcome]] = GroupCommit(self._ask, most=_MOST_PARENTS, gathers=True)

    async def children_of(self, parent_id: str) -> list[ChildOutcome]:
        """All children of an execution in order, those that finalize included."""
        return await self._asked.submit(parent_id)

    async def stop(self) -> None:
        """Ask no more."""
        await self._asked.cancel()

    async def _ask(self, parent_ids: Sequence[str]) -> list[list[ChildOutcome]]:
        async def read() -> list[ChildOutcome]:
            return await self._storage.children(parent_ids)

        # A storage that is away must not fail a turn: its attempts are for what its handler does.
        found: dict[str, list[ChildOutcome]] = {parent_id: [] for parent_id in parent_ids}
        for child in await patiently(self._storage, read, "reading the ends of children"):
            found[child.parent_id].append(child)
        return [found[parent_id] for parent_id in parent_ids]
