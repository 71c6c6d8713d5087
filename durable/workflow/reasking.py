"""Approvals that were open where a workflow is forked: asked for anew, with a token of the fork's own."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from durable.approval_rows import NewApproval, StoredApproval
from durable.codec import Codec
from durable.digests import digest
from durable.errors import SerializationError
from durable.fork_rows import Fork, Replaced
from durable.script import Script, ask
from durable.workflow.approval import OpenedApproval
from durable.workflow.compare import stored_digest
from durable.workflow.desk import token_hash
from durable.workflow.entries import EntryKind
from durable.workflow_rows import Entry, Message

__all__ = ["asked_anew"]

_ASKING, _WAITING, _SETTLING = "approval:", "decision:", "expire:"
"""Begin the keys of what an approval writes."""


class _Open(NamedTuple):
    entry: Entry
    opened: OpenedApproval


def asked_anew(
    before: Fork,
    entries: Sequence[Entry],
    messages: Sequence[Message],
    *,
    fork_id: str,
    iteration: int,
    codec: Codec,
    new_id: Callable[[], str],
) -> Script[Fork]:
    """The fork with an approval of its own for each that was open; `entries` are those that are copied.

    One that the history has decided stays as it was. The rest may be decided in the source, by its token, and in the
    fork, by another; the time for that begins anew.
    """
    found = _open_ones(entries, messages, codec)
    if not found:
        return before
    now = yield from ask(lambda storage: storage.now())
    replaced: list[Replaced] = []
    approvals: list[NewApproval] = []
    for each in found:
        stored = yield from _stored(each.opened.id)
        if stored is not None:
            token = secrets.token_urlsafe(32)
            approval = _again(stored, new_id(), fork_id, f"{iteration}/{each.entry.key.removeprefix(_ASKING)}", token)
            approvals.append(approval)
            replaced.append(_replaced(each.entry, approval, token, stored, now, codec, copied=entries[-1].seq))
    return before._replace(replaced=(*before.replaced, *replaced), approvals=tuple(approvals), left_out=_waits(entries))


def _stored(approval_id: str) -> Script[StoredApproval | None]:
    return (yield from ask(lambda storage: storage.get_approval(approval_id=approval_id)))


def _open_ones(entries: Sequence[Entry], messages: Sequence[Message], codec: Codec) -> list[_Open]:
    decided = set(_decided(entries, {message.number: message.payload for message in messages}))
    settled = {
        stored_digest(entry.detail)[0]
        for entry in entries
        if entry.kind == EntryKind.STEP and entry.key.startswith(_SETTLING)
    }
    return [
        each
        for each in _asked(entries, codec)
        if each.opened.id not in decided and digest((each.opened.id,)) not in settled
    ]


def _decided(entries: Sequence[Entry], payloads: dict[int, str]) -> Iterator[str]:
    """The ids of approvals whose decision the history has."""
    for entry in entries:
        if entry.kind == EntryKind.SIGNAL and entry.key.startswith(_WAITING):
            number = int(json.loads(entry.detail or "{}")["number"])
            # In a history that was copied itself the decision stands in the entry.
            yield json.loads(entry.output or payloads[number])["id"]


def _asked(entries: Sequence[Entry], codec: Codec) -> Iterator[_Open]:
    shape = codec.value(OpenedApproval, "an approval")
    for entry in entries:
        if entry.kind == EntryKind.STEP and entry.key.startswith(_ASKING) and entry.output is not None:
            try:
                yield _Open(entry, shape.load(entry.output))
            except SerializationError:  # a step of the user's that has such a name
                continue


def _again(stored: StoredApproval, id_: str, fork_id: str, key: str, token: str) -> NewApproval:
    expires = None if stored.expires_at is None else (stored.expires_at - stored.created_at).total_seconds()
    return NewApproval(id_, fork_id, key, stored.name, token_hash(token), stored.allowed, stored.details, expires)


def _replaced(
    entry: Entry,
    approval: NewApproval,
    token: str,
    stored: StoredApproval,
    now: datetime,
    codec: Codec,
    *,
    copied: int,
) -> Replaced:
    """The step that asked, with what the fork is given. Its detail tells up to where the old token may stand."""
    expires_at = None if stored.expires_at is None else now + (stored.expires_at - stored.created_at)
    output = codec.value(OpenedApproval, "an approval").dump(
        OpenedApproval(approval.id, token, expires_at), "an approval"
    )
    detail = {**json.loads(entry.detail or "{}"), "copied": copied}
    return Replaced(entry.seq, output, json.dumps(detail))


def _waits(entries: Sequence[Entry]) -> tuple[int, ...]:
    """The timers of waits for decisions that had not come: the time begins anew."""
    over = {entry.key for entry in entries if entry.kind in (EntryKind.SIGNAL, EntryKind.SLEPT)}
    return tuple(
        entry.seq
        for entry in entries
        if entry.kind == EntryKind.SLEEPING and entry.key.startswith(_WAITING) and entry.key not in over
    )
