"""Which code has written which entry of a history, and whether it must come to the same again."""

from __future__ import annotations

import json
from collections.abc import Sequence

from durable.workflow.entries import EntryKind
from durable.workflow_rows import Entry

__all__ = ["Codes"]


class Codes:
    """Of one workflow in memory."""

    def __init__(self, code: str) -> None:
        """`code` is the fingerprint of the body that runs."""
        self.code = code
        self.is_only_one = True
        """No other code than this has written the history."""
        self._changes: list[Entry] = []
        """Those that were delivered, one for each change of the code."""
        self._copied_until = 0
        """In a fork whose open approvals were asked for anew: the seq of the last entry that was copied."""

    def expect(self, stored: Sequence[Entry]) -> None:
        """What the whole history tells of it, known before the body runs."""
        self.is_only_one = all(entry.key == self.code for entry in stored if entry.kind == EntryKind.CODE)
        self._copied_until = max((_copied_until(entry) for entry in stored), default=0)

    def deliver(self, entry: Entry) -> None:
        self._changes.append(entry)

    @property
    def is_new(self) -> bool:
        """The history does not know yet that this code runs it."""
        return not self._changes or self._changes[-1].key != self.code

    def must_match(self, entry: Entry) -> bool:
        """This code wrote it, from the same data: under other code the arguments may have been others.

        Where approvals were asked for anew, their tokens are others, and so may be what was made from them.
        """
        writer = next((change.key for change in reversed(self._changes) if change.seq < entry.seq), None)
        return writer == self.code and entry.seq > self._copied_until


def _copied_until(entry: Entry) -> int:
    if entry.detail is None or not entry.key.startswith("approval:"):
        return 0
    return int(json.loads(entry.detail).get("copied", 0))
