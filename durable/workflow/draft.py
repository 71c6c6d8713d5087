"""What a turn of a workflow has to write and has not written: it goes out with the next checkpoint."""

from __future__ import annotations

import json
from typing import Any

from durable.execution import Claimed, NewExecution
from durable.workflow.watching import may_be_refused
from durable.workflow_rows import Checkpoint, NewEntry, NewMessage

__all__ = ["Draft"]


class Draft:
    """Its lists are the fields of a checkpoint; `new` are entries that the body has not been given yet."""

    __slots__ = (
        "cancels",
        "children",
        "entries",
        "is_progress",
        "messages",
        "new",
        "seq",
        "starts",
        "superseded",
    )

    def __init__(self, seq: int, *, is_progress: bool) -> None:
        """`seq` is that of the last entry of the history."""
        self.seq = seq
        self.is_progress = is_progress
        self.new: list[NewEntry] = []
        self.entries: list[NewEntry] = []
        self.children: list[NewExecution] = []
        self.starts: list[NewExecution] = []
        self.messages: list[NewMessage] = []
        self.cancels: list[str] = []
        self.superseded: list[int] = []

    @property
    def is_risky(self) -> bool:
        """Some may be refused, of which the body is to hear; the end of a turn has no way to tell it."""
        if not (self.children or self.starts):
            return False  # as most of the time
        return any(map(may_be_refused, (*self.children, *self.starts)))

    def add(
        self,
        kind: str,
        key: str,
        output: str | None = None,
        error: str | None = None,
        detail: dict[str, Any] | str | None = None,
    ) -> None:
        """Number an entry, which is to be written and then given to the body."""
        self.seq += 1
        stored = json.dumps(detail) if isinstance(detail, dict) else detail
        self.new.append(NewEntry(self.seq, str(kind), key, output, error, stored))

    def take_new(self) -> list[NewEntry]:
        """What the body is to be given, in its order; it is written with all else."""
        new, self.new = self.new, []
        self.entries += new
        return new

    def take(self, claimed: Claimed, values: tuple[tuple[str, str], ...], chunks: tuple[str, ...]) -> Checkpoint:
        """All of it, with what the body has said."""
        entries, self.entries = tuple(self.entries), []
        if not (self.children or self.starts or self.messages or self.cancels or self.superseded):
            # As almost every one.
            return Checkpoint(claimed.id, claimed.fence, entries, (), values, chunks, (), (), self.is_progress)
        checkpoint = Checkpoint(
            claimed.id,
            claimed.fence,
            entries,
            tuple(self.children),
            values,
            chunks,
            tuple(self.messages),
            tuple(self.cancels),
            self.is_progress,
            tuple(self.starts),
            tuple(self.superseded),
        )
        self.children, self.starts, self.messages, self.cancels, self.superseded = [], [], [], [], []
        return checkpoint
