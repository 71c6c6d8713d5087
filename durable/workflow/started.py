"""What a body gets of an execution that it has started for itself: the id, or that it could not be."""

from __future__ import annotations

import json

from durable.errors import SleepingIdConflict
from durable.workflow.entries import Command, Start
from durable.workflow_rows import Entry

__all__ = ["started_id"]


def started_id(entry: Entry, command: Command) -> str:
    """Raises SleepingIdConflict where the storage has refused it, whose sleeping id was another's."""
    if entry.error is not None:
        assert isinstance(command, Start)
        raise SleepingIdConflict(command.new.task_name, command.new.sleeping_id or "")
    return str(json.loads(entry.detail or "{}")["id"])
