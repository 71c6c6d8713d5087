"""Which entries a command can have, and whether one was written for a command of the same arguments.

Entries keep a digest of the command's arguments, and after a `+`, where there is something, one of what the body said
since the command before: it published, streamed, or registered what undoes something.
"""

from __future__ import annotations

import json
from typing import Any, Final

from durable.errors import SAME_ARGUMENTS, SAME_VALUES, StepMismatch
from durable.workflow.entries import Command, EntryKind, Mark, RunStep, Send, Sleep, Start, StartChild, WaitMessage
from durable.workflow.fanout import MapChildren
from durable.workflow.pending import Pending
from durable.workflow.spoken import Spoken
from durable.workflow_rows import Entry

__all__ = [
    "answers",
    "arguments_differ",
    "digest_detail",
    "digest_of",
    "has_its_arguments",
    "noun",
    "stored_digest",
    "with_digest",
]

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
_WITH_DIGEST: Final = frozenset(
    {
        EntryKind.STEP, EntryKind.ATTEMPT, EntryKind.CHILD, EntryKind.STARTED, EntryKind.MARK, EntryKind.SLEEPING,
        EntryKind.SIGNAL,
    }
)  # fmt: skip


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


def digest_of(command: Command, spoken: Spoken) -> str:
    """What its entries are to keep of it. What was said before a command without one is left to the next."""
    if isinstance(command, (MapChildren, Mark)):
        return ""
    return f"{command.digest}+{spoken.take_digest()}" if spoken.has_noted else command.digest


def stored_digest(detail: str | None) -> tuple[str, str]:
    """Of the arguments, and of what was said before; as the detail of an entry has them."""
    digest, _, said = _args(detail).partition("+")
    return digest, said


def _args(detail: str | None) -> str:
    return str(json.loads(detail or "{}").get("args", ""))


def has_its_arguments(entry: Entry, pending: Pending) -> bool:
    """Nothing in the entry says that it was written for other arguments, or items, than the command's."""
    match entry.kind, pending.command:
        case EntryKind.WAVE, MapChildren() as command:
            return command.has_wave(entry.detail)
        case EntryKind.MAPPED, MapChildren() as command:
            return command.has_total(entry.output, entry.detail)
        case kind, RunStep() | Sleep() | WaitMessage() | StartChild() | Start() | Send() if kind in _WITH_DIGEST:
            return entry.detail == with_digest(pending.digest) or _args(entry.detail) == pending.digest
        case _:
            return True


def arguments_differ(entry: Entry, pending: Pending) -> StepMismatch:
    what = f"{noun(pending.command)} {pending.key!r}"
    if stored_digest(entry.detail)[0] == pending.digest.partition("+")[0] and not isinstance(
        pending.command, MapChildren
    ):
        return StepMismatch(
            f"{what} after other published, streamed or registered values", f"{what} after some that differ from them",
            advice=SAME_VALUES,
        )  # fmt: skip
    return StepMismatch(
        f"{what} with other arguments", f"{what} with arguments that differ from it", advice=SAME_ARGUMENTS
    )
