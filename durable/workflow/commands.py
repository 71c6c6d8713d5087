"""The commands that a body has given: which have no answer yet, and what is to be done about each."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from durable.child import MOST_CHILDREN
from durable.errors import ChildLimitExceeded
from durable.workflow.entries import Command, RunStep, most_children_of, most_entries_of
from durable.workflow.fanout import MapChildren
from durable.workflow.pending import Pending

__all__ = ["Commands"]


class Commands:
    """Of one workflow in memory."""

    def __init__(self) -> None:
        self.owed = 0
        """Entries still to come for what the body waits for."""
        self.has_maps = False
        """The body has had a map."""
        self._pending: dict[str, Pending] = {}
        self._occurrences: dict[str, int] = {}
        self._open_children = 0
        self._dropped_maps: dict[str, Pending] = {}
        """Maps that the body has given up; a wave of theirs may have been on its way."""
        self._fresh: list[Pending] = []
        self._released: list[Pending] = []
        self._abandoned: list[str] = []

    # --- the body's side ------------------------------------------------------------------------------------

    def add(self, name: str, command: Command, digest: str, future: asyncio.Future[Any]) -> Pending:
        """The next command of that name. Raises ChildLimitExceeded."""
        owed = 1
        if not isinstance(command, RunStep):
            self._count_children(command)
            owed = most_entries_of(command)
        occurrence = self._occurrences[name] = self._occurrences.get(name, 0) + 1
        key = f"{name}#{occurrence}"
        pending = self._pending[key] = Pending(key, command, future, digest, owed)
        self.owed += owed
        return pending

    def _count_children(self, command: Command) -> None:
        children = most_children_of(command)
        if children and self._open_children + children > MOST_CHILDREN:
            raise ChildLimitExceeded(
                f"has {self._open_children} open children and wants {children} more", MOST_CHILDREN
            )
        self._open_children += children
        self.has_maps = self.has_maps or isinstance(command, MapChildren)

    def wait(self, pending: Pending) -> None:
        """It is open, and somebody is to carry it out, unless its answer is here already."""
        if pending.future.done():
            self._forget(pending)
            return
        self._fresh.append(pending)
        pending.on_done = partial(self._settle, pending)
        pending.future.add_done_callback(pending.on_done)

    def answered(self, pending: Pending) -> None:
        """As the callback of its future would, which takes several times as long; called before it is resolved."""
        if pending.on_done is not None:
            pending.future.remove_done_callback(pending.on_done)
            pending.on_done = None
            self._forget(pending)

    def _settle(self, pending: Pending, _: asyncio.Future[Any]) -> None:
        """It is answered, or nobody waits for it any more."""
        pending.on_done = None
        self._forget(pending)
        if pending.future.cancelled():
            self._released.append(pending)
            if pending.child_id is not None:
                self._abandoned.append(pending.child_id)
            if _is_map(pending):
                self._dropped_maps[pending.key] = pending

    def _forget(self, pending: Pending) -> None:
        self._pending.pop(pending.key, None)
        self.owed -= pending.owed
        if not isinstance(pending.command, RunStep):
            self._open_children -= most_children_of(pending.command)

    # --- the side of its answers ----------------------------------------------------------------------------

    def get(self, key: str) -> Pending | None:
        """Of those that have no answer."""
        return self._pending.get(key)

    @property
    def are_let_go(self) -> bool:
        """Some were, since they were last taken."""
        return bool(self._released or self._abandoned)

    def was_given(self, key: str) -> bool:
        name, _, occurrence = key.rpartition("#")
        return int(occurrence) <= self._occurrences.get(name, 0)

    def pay(self, pending: Pending) -> None:
        """The first of the two entries that its answer takes is there."""
        pending.owed -= 1
        self.owed -= 1

    def abandon(self, child_id: str) -> None:
        """A child that began after the body had given it up."""
        self._abandoned.append(child_id)

    def began_late(self, key: str, detail: str | None) -> None:
        """A wave of a map that the body had given up."""
        dropped = self._dropped_maps.get(key)
        if dropped is not None and isinstance(dropped.command, MapChildren):
            dropped.command.start(detail)
            self._released.append(dropped)

    # --- the side of whoever carries them out ---------------------------------------------------------------

    @property
    def open(self) -> list[Pending]:
        """What the body waits for, in the order in which it asked."""
        return [pending for pending in self._pending.values() if not pending.future.done()]

    def take_fresh(self) -> list[Pending]:
        """Commands that nobody has been given yet, and that are not answered."""
        if not self._fresh:
            return []
        fresh, self._fresh = [p for p in self._fresh if not (p.is_taken or p.future.done())], []
        for pending in fresh:
            pending.is_taken = True
        return fresh

    def take_released(self) -> list[Pending]:
        """Commands that somebody was given, now or before a replay, and whose answer nobody waits for any more."""
        if not self._released:
            return []
        released, self._released = [p for p in self._released if p.is_taken or _is_map(p)], []
        return released

    def take_abandoned(self) -> list[str]:
        """The ids of children that the body has let go of, in a replay those of all times."""
        if not self._abandoned:
            return []
        abandoned, self._abandoned = self._abandoned, []
        return abandoned


def _is_map(pending: Pending) -> bool:
    """Perhaps a crash came before its children were cancelled; a second time does no harm."""
    return isinstance(pending.command, MapChildren)
