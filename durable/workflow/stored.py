"""A workflow's history as a thing of its own: read from a storage, written to JSON, and read from there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from durable.errors import ConfigurationError
from durable.execution import Claimed, Execution, Kind, Phase, Status
from durable.script import Script, ask
from durable.workflow_rows import Entry, Message, MessageKind

__all__ = ["StoredHistory", "dump_history", "load_history", "read_histories"]

_FORMAT: Final = 1
_KEPT: Final = (
    "id", "root_id", "parent_id", "depth", "task_name", "task_version", "queue", "priority", "input", "run_output",
    "iteration", "timeout", "message_count", "children_count", "active_children_count",
)  # fmt: skip


class StoredHistory(NamedTuple):
    """What a workflow can be replayed from, without the storage that it was read from."""

    claimed: Claimed
    """As its next turn would have it."""
    status: Status
    entries: tuple[Entry, ...]
    messages: tuple[Message, ...]


def read_histories(records: Sequence[Execution]) -> Script[list[StoredHistory]]:
    """The histories of workflows, in their order."""
    found = yield from ask(lambda storage: storage.histories([(record.id, 0, 0) for record in records]))
    return [
        StoredHistory(
            _claimed({name: getattr(record, name) for name in _KEPT}, record.created_at),
            record.status,
            tuple(history.entries),
            tuple(history.messages),
        )
        for record, history in zip(records, found, strict=True)
    ]


def _claimed(kept: dict[str, Any], created_at: datetime) -> Claimed:
    return Claimed(
        **kept, fence=0, kind=Kind.WORKFLOW, phase=Phase.RUN, attempts=1, deliveries=1, max_attempts=1, retry=None,
        error=None, child_index=None, is_finalize=False, age=0.0, created_at=created_at,
    )  # fmt: skip


def dump_history(stored: StoredHistory) -> dict[str, Any]:
    """As an object of JSON. Payloads are as they are stored: what a payload codec has sealed, only it can read."""
    return {
        "format": _FORMAT,
        "status": str(stored.status),
        "created_at": stored.claimed.created_at.isoformat(),
        "execution": {name: getattr(stored.claimed, name) for name in _KEPT},
        "entries": [_with_text(entry._asdict()) for entry in stored.entries],
        "messages": [_with_text(message._asdict()) for message in stored.messages],
    }


def load_history(text: str) -> StoredHistory:
    """Raises ConfigurationError for what dump_history has not written."""
    try:
        given = json.loads(text)
        if given["format"] != _FORMAT:
            raise ConfigurationError(f"a history of format {given['format']}; this version reads format {_FORMAT}")
        return StoredHistory(
            _claimed({name: given["execution"][name] for name in _KEPT}, datetime.fromisoformat(given["created_at"])),
            Status(given["status"]),
            tuple(Entry(**_with_moment(entry)) for entry in given["entries"]),
            tuple(_message(message) for message in given["messages"]),
        )
    except ConfigurationError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"no exported history of a workflow: {type(error).__name__}: {error}") from None


def _message(row: dict[str, Any]) -> Message:
    return Message(**_with_moment(row))._replace(kind=MessageKind(row["kind"]))


def _with_text(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "at": row["at"].isoformat()}


def _with_moment(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "at": datetime.fromisoformat(row["at"])}
