"""What a body says without waiting for an answer: publishes, emits, answers. Said once, however often it is replayed.

The history has no entry for each. It has the count of all that was stored by some moment, so that a replay keeps quiet
until then; and the digest of the next command covers what was said before it, so that other values are noticed.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from durable.digests import digest
from durable.errors import SAME_VALUES, StepMismatch
from durable.workflow.entries import EntryKind
from durable.workflow_rows import Entry

__all__ = ["Spoken"]


class _Mark(NamedTuple):
    """So much was said when the entry of a seq had been given to the body, and all of it was stored."""

    seq: int
    after: int
    total: int
    is_by_this_code: bool
    is_own: bool
    """False in a copied history: the pieces were copied with it, the values were not."""


class Spoken:
    """Of one workflow in memory."""

    count = 0
    """How often the body has said something."""
    stored = 0
    """How much of that this execution has stored."""
    _copied = 0
    """How much of that, as far as it was pieces, was copied from another."""
    _own_ahead = 0
    piece_count = 0
    """Pieces, those of steps included, that were stored since an entry last told how many."""
    has_noted = False
    """There is something that the digest of the next command is to cover."""

    def __init__(self, own: str) -> None:
        """`own` names this run of this execution."""
        self._own = own
        self._ahead: deque[_Mark] = deque()
        self._since: list[str] = []

    # --- the body's side ------------------------------------------------------------------------------------

    def say(self, *, is_piece: bool = False) -> bool:
        """Count one thing; False: it is stored already, and not to go out again."""
        self.count += 1
        if is_piece:
            return not self._ahead and self.count > max(self.stored, self._copied)
        return not self._own_ahead and self.count > self.stored

    def note(self, *what: object) -> None:
        """Something that the digest of the next command is to cover."""
        self._since.append(digest(what))
        self.has_noted = True

    def take_digest(self) -> str:
        """Of what was noted since the last time, which must be something."""
        since, self._since, self.has_noted = self._since, [], False
        return since[0] if len(since) == 1 else digest(tuple(since))

    # --- the history's side ---------------------------------------------------------------------------------

    def expect(self, stored: Iterable[Entry], code: str) -> None:
        """What the whole history tells of it, known before the body runs."""
        writer = ""
        for entry in stored:
            if entry.kind == EntryKind.CODE:
                writer = entry.key
            elif entry.kind == EntryKind.SAID:
                self._ahead.append(self._mark(entry, is_by_this_code=writer == code))
        self._own_ahead = sum(mark.is_own for mark in self._ahead)

    def pass_entry(self, seq: int) -> None:
        """The body has been given the entry of that seq, and has run as far as it could.

        Other code may have said more or less until then: what this one says from here on is new all the same. Raises
        StepMismatch where the same code has.
        """
        while self._ahead and self._ahead[0].after <= seq:
            mark = self._ahead.popleft()
            if self.count != mark.total and mark.is_by_this_code:
                raise StepMismatch(
                    f"{mark.total} published, streamed or answered values before its entry {mark.seq}",
                    f"{self.count}",
                    advice=SAME_VALUES,
                )
            self.count = mark.total
            self._own_ahead -= mark.is_own
            self._take(mark)

    def deliver(self, entry: Entry) -> None:
        """An entry that tells how much is stored by now."""
        self._take(self._mark(entry, is_by_this_code=True))

    def _take(self, mark: _Mark) -> None:
        if mark.is_own:
            self.stored = max(self.stored, mark.total)
        else:
            self._copied = max(self._copied, mark.total)

    def _mark(self, entry: Entry, *, is_by_this_code: bool) -> _Mark:
        detail = json.loads(entry.detail or "{}")
        # Entries between the last that the body had been given and this one may have been written with what it said.
        after = int(detail.get("after", entry.seq - 1))
        return _Mark(entry.seq, after, int(entry.key), is_by_this_code, detail.get("of", self._own) == self._own)

    def detail(self, heard: int, pieces: int) -> str:
        """Of the entry for what is stored now: after the body has been given the entry `heard`, with so many pieces."""
        counted = {"pieces": pieces} if pieces else {}
        return json.dumps({"after": heard, "of": self._own, **counted})
