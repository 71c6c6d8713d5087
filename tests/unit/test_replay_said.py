"""What a body says is stored once and never lost, wherever between two of its checkpoints it was replayed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from durable.errors import ErrorInfo, StepMismatch
from durable.workflow.entries import EntryKind, Mark
from durable.workflow.outbox import Outbox
from durable.workflow.replay import Replay
from durable.workflow_rows import Entry

AT = datetime(2026, 1, 1, tzinfo=UTC)


def entry(seq: int, kind: EntryKind, key: str) -> Entry:
    return Entry(seq, str(kind), key, None, None, json.dumps({"at": AT.isoformat()}), AT)


def said(seq: int, count: int, after: int) -> Entry:
    return entry(seq, EntryKind.SAID, str(count))._replace(detail=json.dumps({"after": after}))


def replayed(*entries: Entry, code: str = "x", says: Sequence[str] = ("a", "b", "c")) -> list[str]:
    """What is left to be written by a body that has marks a, b and c, and before each says some of these."""

    async def body(replay: Replay) -> None:
        for name in ("a", "b", "c"):
            for word in says:
                if word.startswith(name) and replay.spoken.say():
                    replay.outbox.chunks.append(word)
            await replay.issue(name, Mark())

    replay = Replay(body, started_at=AT, code=code, load_error=lambda text: ErrorInfo("x", text), outbox=Outbox())
    try:
        replay.start(entries)
        return list(replay.outbox.chunks)
    finally:
        replay.close()


CODE = entry(1, EntryKind.CODE, "x")
A, B = entry(2, EntryKind.MARK, "a#1"), entry(3, EntryKind.MARK, "b#1")


@pytest.mark.parametrize(
    ("history", "left"),
    [
        ([], ["a"]),
        ([CODE, A], ["a", "b"]),
        ([CODE, A, B], ["a", "b", "c"]),
        ([CODE, A, B, said(4, 1, after=1)], ["b", "c"]),
        ([CODE, A, B, said(4, 1, after=0)], ["b", "c"]),
        ([CODE, said(2, 1, after=1), entry(3, EntryKind.MARK, "a#1")], ["b"]),
        ([CODE, A, B, said(4, 2, after=2), said(5, 3, after=3)], []),
    ],
)
def test_what_was_not_stored_goes_out_and_nothing_else(history: list[Any], left: list[str]) -> None:
    assert replayed(*history) == left


STORED = [CODE, A, said(3, 2, after=2)]
"""The body has said a and b, and waits for its mark b."""


@pytest.mark.parametrize("says", [["a", "c"], ["b", "c"], ["c"], ["a", "b", "b2", "c"], ["a", "a2", "a3", "b", "c"]])
def test_other_code_that_had_said_more_or_less_goes_on_from_what_is_stored(says: list[str]) -> None:
    assert replayed(*STORED, code="y", says=says) == []
    after_b = entry(4, EntryKind.MARK, "b#1")
    assert replayed(*STORED, after_b, code="y", says=says) == ["c"]
    # What the second code has stored is counted by it, from there on.
    stored = [*STORED, entry(4, EntryKind.CODE, "y"), entry(5, EntryKind.MARK, "b#1"), said(6, 3, after=5)]
    assert replayed(*stored, code="y", says=says) == []
    third = [*stored, entry(7, EntryKind.MARK, "c#1")]
    assert replayed(*third, code="z", says=[*says, "c2"]) == []


@pytest.mark.parametrize("says", [["a"], ["a", "b", "b2"]])
def test_the_same_code_that_had_said_more_or_less_is_a_mismatch(says: list[str]) -> None:
    with pytest.raises(StepMismatch, match="2 published, streamed or answered values before its entry 3, the code"):
        replayed(*STORED, says=says)
