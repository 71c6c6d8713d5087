"""What a body says is stored once and never lost, wherever between two of its checkpoints it was replayed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from durable.errors import ErrorInfo
from durable.workflow.entries import EntryKind, Mark
from durable.workflow.outbox import Outbox
from durable.workflow.replay import Replay
from durable.workflow_rows import Entry

AT = datetime(2026, 1, 1, tzinfo=UTC)


def entry(seq: int, kind: EntryKind, key: str) -> Entry:
    return Entry(seq, str(kind), key, None, None, json.dumps({"at": AT.isoformat()}), AT)


def replayed(*entries: Entry) -> list[str]:
    """What is left to be written by a body that says something before each of its marks, and after them."""

    async def body(replay: Replay) -> None:
        for name in ("a", "b", "c"):
            if replay.say():
                replay.outbox.chunks.append(name)
            await replay.issue(name, Mark())

    replay = Replay(body, started_at=AT, code="x", load_error=lambda text: ErrorInfo("x", text), outbox=Outbox())
    replay.start(entries)
    chunks = list(replay.outbox.chunks)
    replay.close()
    return chunks


CODE = entry(1, EntryKind.CODE, "x")
A, B = entry(2, EntryKind.MARK, "a#1"), entry(3, EntryKind.MARK, "b#1")


@pytest.mark.parametrize(
    ("history", "left"),
    [
        ([], ["a"]),
        ([CODE, A], ["a", "b"]),
        ([CODE, A, B], ["a", "b", "c"]),
        ([CODE, A, B, entry(4, EntryKind.SAID, "1")], ["b", "c"]),
        ([CODE, entry(2, EntryKind.SAID, "1"), entry(3, EntryKind.MARK, "a#1")], ["b"]),
        ([CODE, A, B, entry(4, EntryKind.SAID, "2"), entry(5, EntryKind.SAID, "3")], []),
    ],
)
def test_what_was_not_stored_goes_out_and_nothing_else(history: list[Any], left: list[str]) -> None:
    assert replayed(*history) == left
