"""What clients do with a workflow: scripts, which the handles of both colours play."""

from __future__ import annotations

from typing import Any, Final

from durable.codec import Codec
from durable.errors import ExecutionNotFound
from durable.options import checked_text
from durable.script import Script, Tell, ask, when_said
from durable.storage import Hint
from durable.workflow.names import checked_name
from durable.workflow.said import PublishedValues
from durable.workflow.values import dump_value
from durable.workflow_rows import MessageKind, NewMessage, Published, SendOutcome, Sent, StoredChunk

__all__ = ["all_values", "next_chunks", "next_value", "one_value", "signal"]

_CHUNKS: Final = 500
"""Read at once."""


def signal(execution_id: str, codec: Codec, name: str, value: Any, signal_id: str | None) -> Script[SendOutcome]:
    """Checks its arguments now."""
    checked = checked_name(name, "name")
    payload = dump_value(codec, value, f"signal {checked!r}")
    # A prefix of its own: ids of requests to stop and of updates are ids of messages as well.
    message_id = None if signal_id is None else f"signal:{checked_text(signal_id, 'signal_id')}"
    return _signalled(NewMessage(execution_id, MessageKind.SIGNAL, checked, payload, message_id))


def _signalled(message: NewMessage) -> Script[SendOutcome]:
    return (yield from send(message)).outcome


def send(message: NewMessage) -> Script[Sent]:
    """Raises ExecutionNotFound."""
    (sent,) = yield from ask(lambda storage: storage.send_messages([message]))
    if sent.outcome is SendOutcome.NOT_FOUND:
        raise ExecutionNotFound(message.execution_id)
    hints = [] if sent.ready_queue is None else [Hint("ready", sent.ready_queue)]
    if sent.is_running:
        hints.append(Hint("cancelled", ""))
    if hints:
        yield Tell(tuple(hints))
    return sent


def one_value(execution_id: str, key: str) -> Script[Published | None]:
    """Checks its arguments now."""
    return _one_value(execution_id, checked_name(key, "key"))


def _one_value(execution_id: str, key: str) -> Script[Published | None]:
    found = yield from _published(execution_id, [key])
    return found[0] if found else None


def all_values(execution_id: str, codec: Codec) -> Script[PublishedValues]:
    return PublishedValues(codec, (yield from _published(execution_id, None)))


def _published(execution_id: str, keys: list[str] | None) -> Script[list[Published]]:
    found = yield from ask(lambda storage: storage.published_values(execution_id, keys))
    if not found and not (yield from ask(lambda storage: storage.existing([execution_id]))):
        raise ExecutionNotFound(execution_id)
    return found


def next_value(execution_id: str, key: str, seen: Published | None) -> Script[Published | None]:
    """The value of a key once it is another than the one seen; None: the workflow has ended, and it is not."""

    def look() -> Script[Published | None]:
        found = yield from ask(lambda storage: storage.published_values(execution_id, [key]))
        is_new = bool(found) and (seen is None or found[0].value != seen.value)
        return found[0] if is_new else None

    return when_said(execution_id, look)


def next_chunks(execution_id: str, after: int) -> Script[list[StoredChunk] | None]:
    """The pieces after a number, once there are any; None: the workflow has ended without more."""

    def look() -> Script[list[StoredChunk] | None]:
        found = yield from ask(lambda storage: storage.stored_chunks(execution_id, after=after, limit=_CHUNKS))
        return found or None

    return when_said(execution_id, look)
