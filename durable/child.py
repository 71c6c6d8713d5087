"""A child as a parent's function describes it: validated where it is made, stored when the parent's turn ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from durable.digests import digest
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
    called: Any = field(default=None, compare=False, repr=False)
    """Its arguments and options as they were given: `(args, kwargs, options)`."""

    def digest(self) -> str:
        """Of its arguments and options, by which a workflow sees whether a replay starts the same child."""
        if self.called is None:
            return ""
        args, kwargs, options = self.called
        return digest(args, kwargs) if not options else digest((args, kwargs, options))


def place(
    child: NewExecution, *, execution_id: str, parent_id: str, root_id: str, index: int, depth: int, is_finalize: bool
) -> NewExecution:
    """The record of a child in its tree."""
    return child._replace(
        id=execution_id, root_id=root_id, parent_id=parent_id, child_index=index, depth=depth, is_finalize=is_finalize
    )
