"""A child as a parent's function describes it: validated where it is made, stored when the parent's turn ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from durable.execution import NewExecution

__all__ = ["DEEPEST_TREE", "MOST_CHILDREN", "Child", "place"]

MOST_CHILDREN: Final = 10_000
"""That a parent starts, or that are open in a workflow at once."""
DEEPEST_TREE: Final = 100
"""Levels below the root."""

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Child(Generic[R_co]):
    """One execution to start under a parent. Its ids are given when the parent's turn ends."""

    new: NewExecution
    load: Any = None
    """A Callable[[str], Any] that reads the stored result; None where it is not known. Annotated as Any because a
    schema is made of what a task returns, `Spawn` of children too, and functions have none."""
    given: frozenset[str] = frozenset()
    """The names of the options that its maker gave."""
    digest: str = ""
    """Of its arguments, by which a workflow sees whether a replay starts the same child."""


def place(
    child: NewExecution, *, execution_id: str, parent_id: str, root_id: str, index: int, depth: int, is_finalize: bool
) -> NewExecution:
    """The record of a child in its tree."""
    return child._replace(
        id=execution_id, root_id=root_id, parent_id=parent_id, child_index=index, depth=depth, is_finalize=is_finalize
    )
