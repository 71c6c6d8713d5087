"""How one run of crash_everywhere has ended, and in what it differs from the run without a crash."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from durable.codec import Codec
from durable.execution import Execution, Status
from durable.storage import Storage
from durable.testing.mortal import Life
from durable.workflow.approval import OpenedApproval
from durable.workflow.said import PublishedValues
from durable.workflow_rows import Entry

__all__ = ["RunEnd", "run_end", "without_ids"]

_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PAGE: Final = 500


def without_ids(text: str) -> str:
    """Ids of executions may be others in each run."""
    return _ID.sub("…", text)


@dataclass(frozen=True, slots=True)
class RunEnd:
    status: Status
    result: Any
    error: str | None
    steps: tuple[str, ...]
    undone: tuple[str, ...]
    answers: tuple[Any, ...]
    values: Mapping[str, Any]
    """What was published last, by key."""
    chunks: tuple[Any, ...]
    """What was streamed, in order."""
    has_streaming_steps: bool
    killed_after: str | None
    """The write; None: it was not killed."""

    def difference(self, expected: RunEnd) -> str:
        """In words; empty where both have ended the same."""
        here, there = self._compared, expected._compared
        parts = [
            f"{name} {value!r}, without a crash {there[name]!r}" for name, value in here.items() if value != there[name]
        ]
        return "; ".join([*parts, *self._streamed_otherwise(expected)])

    @property
    def _compared(self) -> dict[str, Any]:
        return {
            "status": str(self.status), "result": self.result, "error": self.error, "steps": self.steps,
            "compensations": self.undone, "answers": self.answers, "published values": self.values,
        }  # fmt: skip

    def _streamed_otherwise(self, expected: RunEnd) -> list[str]:
        """A body streams each piece once. A step streams again when it runs again, and beside others in any order."""
        if not (self.has_streaming_steps or expected.has_streaming_steps):
            is_same = self.chunks == expected.chunks
            return [] if is_same else [f"streamed {self.chunks!r}, without a crash {expected.chunks!r}"]
        here, there = (Counter(map(repr, chunks)) for chunks in (self.chunks, expected.chunks))
        new, missing = here.keys() - there.keys(), (there - here).keys()
        parts = [f"streamed {', '.join(sorted(new))}, which it does not without a crash"] if new else []
        return parts + ([f"did not stream {', '.join(sorted(missing))} as often as without a crash"] if missing else [])


async def run_end(
    codec: Codec, record: Execution, result: Any, storage: Storage, life: Life, answers: tuple[Any, ...]
) -> RunEnd:
    """Raises AssertionError where the run has left behind what no run may."""
    (history,) = await storage.histories([(record.id, 0, 0)])
    committed = [(entry.key, "failed" if entry.error else "done") for entry in history.entries if entry.kind == "step"]
    keys = [key for key, _ in committed]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise AssertionError(f"steps were committed twice: {', '.join(twice)}")
    defects = await storage.defects(limit=10)
    if defects:
        raise AssertionError(f"records are unsound: {defects}")
    error = None if record.error is None else codec.load_error(record.error)
    tokens = _tokens(codec, history.entries)
    values = PublishedValues(codec, await storage.published_values(record.id))
    return RunEnd(
        record.status,
        result,
        None if error is None else without_ids(f"{error.type}: {error.message}"),
        tuple(sorted(f"{key} ({how})" for key, how in committed)),
        tuple(f"{key} ({how})" for key, how in committed if key.startswith("rollback:")),
        answers,
        {key: _without(tokens, value) for key, value in values.items()},
        tuple(_without(tokens, piece) for piece in await _pieces(codec, storage, record.id)),
        record.id in life.streaming,
        life.killed_after,
    )


async def _pieces(codec: Codec, storage: Storage, execution_id: str) -> list[Any]:
    pieces: list[Any] = []
    after = 0
    while page := await storage.stored_chunks(execution_id, after=after, limit=_PAGE):
        pieces += [codec.value(Any).load(chunk.payload, "chunk") for chunk in page]
        after = page[-1].number
    return pieces


def _tokens(codec: Codec, entries: Sequence[Entry]) -> list[str]:
    """Those of approvals, which no run shares with another."""
    load = codec.value(OpenedApproval).load
    return [
        load(entry.output, entry.key).token
        for entry in entries
        if entry.kind == "step" and entry.key.startswith("approval:") and entry.output is not None
    ]


def _without(tokens: Sequence[str], value: Any) -> Any:
    """The value as JSON has it, with the tokens hidden wherever they stand in a text."""
    match value:
        case str():
            for token in tokens:
                value = value.replace(token, "…")
            return value
        case list():
            return [_without(tokens, each) for each in value]  # pyright: ignore[reportUnknownVariableType] - of JSON
        case dict():
            return {key: _without(tokens, each) for key, each in value.items()}  # pyright: ignore[reportUnknownVariableType] - of JSON
        case _:
            return value
