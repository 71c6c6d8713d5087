"""What single entries of a history tell."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Final

from durable.workflow.entries import EntryKind
from durable.workflow_rows import Entry

__all__ = ["UNDOING", "is_end_of_work", "moment_of"]

UNDOING: Final = "rollback:"
"""Begins the keys of steps that undo something."""
_AT: Final = '{"at": "'
_ENDS: Final = frozenset({EntryKind.CANCEL, EntryKind.FAILED})


def moment_of(entry: Entry) -> datetime:
    """When it happened, as the turn that wrote it knew; not when it was written. Steps and their attempts have none."""
    detail = entry.detail or "{}"
    if detail.startswith(_AT):  # as of each that begins a history
        return datetime.fromisoformat(detail[len(_AT) : detail.index('"', len(_AT))])
    return datetime.fromisoformat(json.loads(detail)["at"])


def is_end_of_work(entry: Entry) -> bool:
    """The body was told to stop, or what it had done was being undone."""
    return entry.kind in _ENDS or entry.key.startswith(UNDOING)
