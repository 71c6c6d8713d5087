"""What a turn of a workflow has to write and has not written: it goes out with the next checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field

from durable.execution import Claimed, NewExecution
from durable.workflow.watching import may_be_refused
from durable.workflow_rows import Checkpoint, NewEntry, NewMessage

__all__ = ["Draft"]


@dataclass(slots=True)
class Draft:
    """The fields are those of a checkpoint."""

    is_progress: bool
    entries: list[NewEntry] = field(default_factory=list[NewEntry])
    children: list[NewExecution] = field(default_factory=list[NewExecution])
    starts: list[NewExecution] = field(default_factory=list[NewExecution])
    messages: list[NewMessage] = field(default_factory=list[NewMessage])
    cancels: list[str] = field(default_factory=list[str])
    superseded: list[int] = field(default_factory=list[int])

    @property
    def is_risky(self) -> bool:
        """Some may be refused, of which the body is to hear; the end of a turn has no way to tell it."""
        if not (self.children or self.starts):
            return False  # as most of the time
        return any(map(may_be_refused, (*self.children, *self.starts)))

    def take(self, claimed: Claimed, values: tuple[tuple[str, str], ...], chunks: tuple[str, ...]) -> Checkpoint:
        """All of it, with what the body has said."""
        checkpoint = Checkpoint(
            claimed.id,
            claimed.fence,
            tuple(self.entries),
            tuple(self.children),
            values,
            chunks,
            tuple(self.messages),
            tuple(self.cancels),
            self.is_progress,
            tuple(self.starts),
            tuple(self.superseded),
        )
        self.entries, self.children, self.starts = [], [], []
        self.messages, self.cancels, self.superseded = [], [], []
        return checkpoint
