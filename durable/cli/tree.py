"""Read an execution and what stands below it, level by level, up to a number of executions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from durable.execution import SUCCEEDED, ChildOutcome, Execution, Phase
from durable.handle import only
from durable.ids import parse_id
from durable.storage import Storage

__all__ = ["Node", "Tree", "read_tree"]


@dataclass(slots=True)
class Node:
    execution: Execution
    children: list[Node] = field(default_factory=list["Node"])
    left_out_count: int = 0
    """Direct children that are not among `children`."""


@dataclass(frozen=True, slots=True)
class Tree:
    root: Node
    now: datetime
    """By the storage's clock, after the reading."""


def read_tree(storage: Storage, execution_id: str, *, limit: int) -> Tree:
    """At most `limit` executions, those next to the top first, and what did not complete before what did.

    Each level is two queries; records that change meanwhile are shown as they were when read. Raises
    ExecutionNotFound.
    """
    root = Node(only(storage.get([parse_id(execution_id)]).run(), execution_id))
    level, room = [root], limit - 1
    while level:
        level = _read_children(storage, level, room)
        room -= len(level)
    return Tree(root, storage.now().run())


def _read_children(storage: Storage, level: list[Node], room: int) -> list[Node]:
    """Hang the children of a level's nodes below them, at most `room` of all; gives the new level."""
    parents = {node.execution.id: node for node in level if _may_have_children(node.execution)}
    if not parents:
        return []
    ends = storage.children(list(parents)).run()
    chosen = {end.id for end in sorted(ends, key=_rank)[: max(room, 0)]}
    records = storage.get([end.id for end in ends if end.id in chosen]).run()
    by_id = {record.id: Node(record) for record in records if record is not None}
    for end in ends:
        parent = parents[end.parent_id]
        if end.id in by_id:
            parent.children.append(by_id[end.id])
        else:
            parent.left_out_count += 1
    return list(by_id.values())


def _rank(end: ChildOutcome) -> tuple[bool, int]:
    return end.status in SUCCEEDED, end.child_index


def _may_have_children(execution: Execution) -> bool:
    return execution.children_count > 0 or execution.active_children_count > 0 or execution.phase is not Phase.RUN
