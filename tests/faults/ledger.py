"""Ledgers: one file per process, one JSON line per event, written so that kill -9 tears at most the last line."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Event", "Ledger", "Reader"]


class Event(NamedTuple):
    """One line of a ledger."""

    kind: str
    """`ready`, `start`, `end`, `stopped`, `write`: see `app` and `recording`, which write them."""
    execution_id: str
    fence: int
    at: int
    """Nanoseconds of the machine's monotonic clock, which all processes share."""
    pid: int
    fields: dict[str, Any]


class Ledger:
    """The file that this process appends to."""

    def __init__(self, folder: Path) -> None:
        path = folder / f"{os.getpid()}.jsonl"
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, kind: str, execution_id: str = "", fence: int = 0, **fields: Any) -> None:
        line = {"kind": kind, "id": execution_id, "fence": fence, "at": time.monotonic_ns(), **fields}
        # One write call: from any thread, lines never mix.
        os.write(self._fd, json.dumps(line).encode() + b"\n")


class Reader:
    """All ledgers of a folder, read as they grow; a line that is not finished is left for the next look."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}
        self.events: list[Event] = []

    def read(self) -> list[Event]:
        """What has come since the last call; it is part of `events` from now on."""
        new = [event for path in sorted(self._folder.glob("*.jsonl")) for event in self._read_file(path)]
        self.events += new
        return new

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    def _read_file(self, path: Path) -> Iterator[Event]:
        offset = self._offsets.get(path, 0)
        with path.open("rb") as file:
            file.seek(offset)
            whole = file.read().rpartition(b"\n")[0]
        if not whole:
            return
        self._offsets[path] = offset + len(whole) + 1
        for line in whole.split(b"\n"):
            fields = json.loads(line)
            yield Event(
                fields.pop("kind"), fields.pop("id"), fields.pop("fence"), fields.pop("at"), int(path.stem), fields
            )
