"""Which entries a command can have, and whether one was written for a command of the same arguments."""

from __future__ import annotations

import json
from typing import Any, Final

from durable.errors import SAME_ARGUMENTS, StepMismatch
from durable.workflow.entries import Command, EntryKind, Mark, RunStep, Send, Sleep, Start, StartChild, WaitMessage
from durable.workflow.fanout import MapChildren
from durable.workflow_rows import Entry

__all__ = ["answers", "arguments_differ", "digest_detail", "has_its_arguments", "noun", "with_digest"]

_ANSWERS: Final[dict[type[Any], frozenset[EntryKind]]] = {
    RunStep: frozenset({EntryKind.STEP, EntryKind.ATTEMPT}),
    Sleep: frozenset({EntryKind.SLEEPING, EntryKind.SLEPT}),
    WaitMessage: frozenset({EntryKind.SLEEPING, EntryKind.SLEPT, EntryKind.SIGNAL}),
    StartChild: frozenset({EntryKind.CHILD, EntryKind.CHILD_END}),
    MapChildren: frozenset({EntryKind.WAVE, EntryKind.PAGE, EntryKind.MAPPED}),
    Start: frozenset({EntryKind.STARTED}),
    Mark: frozenset({EntryKind.MARK}),
    Send: frozenset({EntryKind.MARK}),
}
_NOUNS: Final[dict[type[Any], str]] = {
    RunStep: "step",
    Sleep: "sleep",
    WaitMessage: "wait",
    StartChild: "child",
    MapChildren: "map",
    Start: "start",
    Mark: "mark",
    Send: "message",
}
_WITH_DIGEST: Final = frozenset({EntryKind.STEP, EntryKind.ATTEMPT, EntryKind.CHILD, EntryKind.STARTED, EntryKind.MARK})


def noun(command: Command) -> str:
    return _NOUNS[type(command)]


def answers(entry: Entry, command: Command) -> bool:
    """An entry of that kind can be one of that command."""
    return entry.kind in _ANSWERS[type(command)]


def with_digest(digest: str) -> str | None:
    """The detail of an entry that tells nothing but the digest of the arguments."""
    return f'{{"args": "{digest}"}}' if digest else None


def digest_detail(digest: str) -> dict[str, Any]:
    """What the detail of an entry says of the arguments."""
    return {"args": digest} if digest else {}


def has_its_arguments(entry: Entry, command: Command) -> bool:
    """Nothing in the entry says that it was written for other arguments, or items, than the command's."""
    match entry.kind:
        case EntryKind.WAVE if isinstance(command, MapChildren):
            return command.has_wave(entry.detail)
        case EntryKind.MAPPED if isinstance(command, MapChildren):
            return command.has_total(entry.output, entry.detail)
        case _:
            return _has_digest(entry, command)


def _has_digest(entry: Entry, command: Command) -> bool:
    if isinstance(command, (RunStep, StartChild, Start, Send)) and entry.kind in _WITH_DIGEST:
        digest = command.digest
        return entry.detail == with_digest(digest) or json.loads(entry.detail or "{}").get("args", "") == digest
    return True


def arguments_differ(key: str, command: Command) -> StepMismatch:
    what = f"{noun(command)} {key!r}"
    return StepMismatch(
        f"{what} with other arguments", f"{what} with arguments that differ from it", advice=SAME_ARGUMENTS
    )
