"""What a fork takes from the workflow that it is made of."""

from __future__ import annotations

from typing import NamedTuple

from durable.approval_rows import NewApproval

__all__ = ["Fork", "Replaced"]


class Replaced(NamedTuple):
    """An entry that is copied with another output and detail."""

    seq: int
    output: str | None
    """None: as it is."""
    detail: str


class Fork(NamedTuple):
    before_seq: int | None = None
    """The history is copied up to and without this entry; None: all of it."""
    replaced: tuple[Replaced, ...] = ()
    left_out: tuple[int, ...] = ()
    """The seqs of entries that are not copied."""
    approvals: tuple[NewApproval, ...] = ()
    """Opened for the fork, with which they become visible."""
