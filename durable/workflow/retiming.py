"""Timers that ran where a workflow is forked: they have in the fork what was left of them there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from durable.execution import Execution
from durable.fork_rows import Replaced
from durable.script import Script, ask
from durable.workflow.compare import stored_digest
from durable.workflow.entries import EntryKind
from durable.workflow_rows import Entry

__all__ = ["moved_timers"]


def moved_timers(entries: Sequence[Entry], source: Execution, *, is_whole: bool) -> Script[tuple[Replaced, ...]]:
    """The entries of timers as the fork is to have them; `entries` are those that are copied.

    What has a moment, and not a length, stays as it is. `is_whole`: all entries are copied, so that the fork goes on
    from where its source stands, or has ended.
    """
    running = list(_running(entries))
    if not running or (is_whole and source.finished_at is None):
        return ()
    stood_at = _stood_at(entries, source) if source.finished_at is None or not is_whole else source.finished_at
    passed = (yield from ask(lambda storage: storage.now())) - stood_at
    return tuple(_moved(entry, detail, passed) for entry, detail in running)


def _running(entries: Sequence[Entry]) -> Iterator[tuple[Entry, dict[str, Any]]]:
    """Those with a length."""
    over = {entry.key for entry in entries if entry.kind in (EntryKind.SIGNAL, EntryKind.SLEPT)}
    for entry in entries:
        if entry.kind == EntryKind.SLEEPING and entry.key not in over and _has_length(entry):
            yield entry, json.loads(entry.detail or "{}")


def _has_length(entry: Entry) -> bool:
    """Its arguments are seconds, and not a moment."""
    try:
        return float(stored_digest(entry.detail)[0]) >= 0
    except ValueError:
        return False


def _stood_at(entries: Sequence[Entry], source: Execution) -> datetime:
    """The moment of the last thing that had happened, as the body of the source knew it."""
    moments = [source.created_at]
    for entry in entries:
        at = json.loads(entry.detail or "{}").get("at")
        if at is not None:
            moments.append(datetime.fromisoformat(at))
        elif entry.kind == EntryKind.STEP:
            moments.append(entry.at)
    return max(moments)


def _moved(entry: Entry, detail: dict[str, Any], passed: timedelta) -> Replaced:
    until = datetime.fromisoformat(detail["until"]) + passed
    return Replaced(entry.seq, None, json.dumps({**detail, "until": until.isoformat()}))
