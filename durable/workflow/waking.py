"""Which children a body waits for, and when enough of them have ended for it to go on."""

from __future__ import annotations

from collections.abc import Iterable

from durable.workflow.entries import Group, StartChild
from durable.workflow.fanout import MapChildren
from durable.workflow.pending import Pending

__all__ = ["open_children", "wake_at_children"]


def open_children(pendings: Iterable[Pending]) -> int:
    return sum(
        pending.command.open_count if isinstance(pending.command, MapChildren) else pending.child_id is not None
        for pending in pendings
    )


def wake_at_children(pendings: Iterable[Pending], active: int) -> int | None:
    """So few active ones that the body may go on: a group of them that it needs together has ended, at the most.

    `active` are all that it has now. None: it waits for no children.
    """
    sizes: dict[Group, int] = {}
    needed: list[int] = []
    for pending in pendings:
        command = pending.command
        if isinstance(command, StartChild):
            sizes[command.group] = sizes.get(command.group, 0) + 1
        elif isinstance(command, MapChildren) and command.open_count:
            needed.append(command.ends_needed)
    needed += sizes.values()
    return active - min(needed) if needed else None
