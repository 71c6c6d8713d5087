"""What clients do with a workflow: scripts, which the handles of both colours play."""

from __future__ import annotations

from typing import Any, Final, ParamSpec, TypeVar
from uuid import uuid4

from durable.codec import Codec
from durable.durations import Duration, seconds
from durable.errors import (
    ConfigurationError,
    ErrorInfo,
    ExecutionNotFound,
    UpdateFailed,
    UpdateRefused,
    UpdateTimeout,
)
from durable.execution import CancelResult
from durable.options import checked_text
from durable.script import Script, Tell, ask, change, when_said
from durable.storage import Hint
from durable.workflow.names import checked_name
from durable.workflow.requests import Query, Update, UpdateOptions
from durable.workflow.said import PublishedValues
from durable.workflow.updates import Answer, answer_key
from durable.workflow.values import dump_value
from durable.workflow_rows import (
    GIVEN_ID,
    MessageKind,
    NewMessage,
    Published,
    SendOutcome,
    Sent,
    StoredChunk,
    cancel_payload,
)

__all__ = ["all_values", "cancel_again", "next_chunks", "next_value", "one_value", "query", "signal", "update"]

P = ParamSpec("P")
R = TypeVar("R")
_CHUNKS: Final = 500
"""Read at once."""


def signal(execution_id: str, codec: Codec, name: str, value: Any, signal_id: str | None) -> Script[SendOutcome]:
    """Checks its arguments now."""
    checked = checked_name(name, "name")
    payload = dump_value(codec, value, f"signal {checked!r}")
    # Prefixes of their own: ids of requests to stop and of updates are ids of messages as well. A call without an id
    # has one too, because it is repeated where its answer is lost.
    message_id = f"call:{uuid4()}" if signal_id is None else f"{GIVEN_ID}{checked_text(signal_id, 'signal_id')}"
    return _signalled(NewMessage(execution_id, MessageKind.SIGNAL, checked, payload, message_id), signal_id is not None)


def _signalled(message: NewMessage, is_named: bool) -> Script[SendOutcome]:
    outcome = (yield from send(message)).outcome
    # Of an id that only this call has: it was repeated, and the first try was stored.
    return SendOutcome.ACCEPTED if outcome is SendOutcome.DUPLICATE and not is_named else outcome


def send(message: NewMessage) -> Script[Sent]:
    """Raises ExecutionNotFound."""
    (sent,) = yield from change(lambda storage: storage.send_messages([message]))
    if sent.outcome is SendOutcome.NOT_FOUND:
        raise ExecutionNotFound(message.execution_id)
    hints = [] if sent.ready_queue is None else [Hint("ready", sent.ready_queue)]
    if sent.is_running:
        hints.append(Hint("cancelled", ""))
    if hints:
        yield Tell(tuple(hints))
    return sent


def cancel_again(result: CancelResult, reason: str) -> Script[CancelResult]:
    """Ask once more a workflow that was asked to end before: its body may have caught the first request and gone on.

    What came before the body has heard of it is one request to it.
    """
    if result.outcome != "already_requested":
        return result
    message = NewMessage(result.id, MessageKind.CANCEL, "cancel", cancel_payload(reason), f"call:{uuid4()}")
    (sent,) = yield from change(lambda storage: storage.send_messages([message]))
    # Refused: a task that is to end after its attempt, or it has ended meanwhile.
    if sent.outcome is SendOutcome.ACCEPTED:
        ready = [] if sent.ready_queue is None else [Hint("ready", sent.ready_queue)]
        yield Tell((*ready, Hint("cancelled", "")))
    return result


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


def query(
    execution_id: str, task_name: str, asked: Query[P, R], codec: Codec, *args: P.args, **kwargs: P.kwargs
) -> Script[R]:
    """Checks now that the query is of that workflow."""
    _refuse_other(asked, task_name)
    if not isinstance(asked, Query):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"{asked!r} is asked by handle.update; handle.query takes what @flow.query made")
    return _query(execution_id, asked, codec, *args, **kwargs)


def _query(execution_id: str, asked: Query[P, R], codec: Codec, *args: P.args, **kwargs: P.kwargs) -> Script[R]:
    state = PublishedValues(codec, (yield from _published(execution_id, None)))
    return asked(state, *args, **kwargs)


def _refuse_other(asked: Query[..., Any] | Update[..., Any], task_name: str) -> None:
    if not isinstance(asked, (Query, Update)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"give what @flow.query or @flow.update made, not a {type(asked).__name__}")
    if asked.workflow != task_name:
        raise ConfigurationError(f"{asked!r} cannot be asked of workflow {task_name!r}")


def update(
    execution_id: str,
    task_name: str,
    asked: Update[..., Any],
    codec: Codec,
    args: tuple[Any, ...],
    given: dict[str, Any],
) -> Script[Any]:
    """Checks its arguments now. `given` are those by name, with the options."""
    _refuse_other(asked, task_name)
    if not isinstance(asked, Update):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"{asked!r} is asked by handle.query; handle.update takes what @flow.update made")
    kwargs = {name: value for name, value in given.items() if name not in UpdateOptions.__annotations__}
    payload = asked.signature.bind_and_dump(args, kwargs)
    timeout: Duration | None = given.get("timeout")
    limit = None if timeout is None else seconds(timeout, "timeout")
    update_id = checked_text(given["update_id"], "update_id") if "update_id" in given else str(uuid4())
    message = NewMessage(execution_id, MessageKind.UPDATE, asked.name, payload, f"update:{update_id}")
    return _update(message, asked, codec, update_id, limit)


def _update(
    message: NewMessage, asked: Update[..., Any], codec: Codec, update_id: str, timeout: float | None
) -> Script[Any]:
    id_, key = message.execution_id, answer_key(message.message_id or "")

    def look() -> Script[Answer | None]:
        found = yield from ask(lambda storage: storage.published_values(id_, [key]))
        return Answer.from_text(found[0].value) if found else None

    # An answer is kept for longer than the message: one that continues as new forgets what it has met.
    answer = yield from look()
    if answer is None:
        sent = yield from send(message)
        answer = yield from when_said(id_, look, timeout)
        if answer is None and sent.outcome is SendOutcome.FINISHED:
            raise UpdateRefused(asked.name, id_, ErrorInfo("workflow_ended", "the workflow had ended", False))
    if answer is None:
        if not (yield from ask(lambda storage: storage.finished([id_]))):
            raise UpdateTimeout(asked.name, id_, update_id, timeout or 0.0)
        raise UpdateFailed(asked.name, id_, ErrorInfo("workflow_ended", "it ended without an answer", False))
    if answer.error is not None:
        kind = UpdateRefused if answer.is_refused else UpdateFailed
        raise kind(asked.name, id_, codec.load_error(answer.error))
    return asked.signature.result.load(answer.output or "null", f"the answer of update {asked.name!r}")


def next_chunks(execution_id: str, after: int) -> Script[list[StoredChunk] | None]:
    """The pieces after a number, once there are any; None: the workflow has ended without more."""

    def look() -> Script[list[StoredChunk] | None]:
        found = yield from ask(lambda storage: storage.stored_chunks(execution_id, after=after, limit=_CHUNKS))
        return found or None

    return when_said(execution_id, look)
