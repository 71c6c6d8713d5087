"""What has happened to a workflow, as the entries and details that its history keeps of it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, Final

from durable.execution import FinishedExecution, NewExecution
from durable.workflow.compare import digest_detail, with_digest
from durable.workflow.entries import EntryKind, Sleep, WaitMessage
from durable.workflow.failed import Failed
from durable.workflow.moments import Moments
from durable.workflow.pending import Pending
from durable.workflow.steps import Finished
from durable.workflow_rows import Message, NewEntry

__all__ = [
    "latest",
    "of_child",
    "of_child_end",
    "of_code",
    "of_failed",
    "of_request",
    "of_step",
    "of_stuck",
    "of_timer",
    "of_update",
]

_STEP: Final = str(EntryKind.STEP)
_quoted: Final = json.encoder.encode_basestring_ascii


def latest(moment: datetime, *others: datetime) -> str:
    return (max(moment, *others) if others else moment).isoformat()


def of_step(seq: int, finished: Finished, time: Moments) -> NewEntry:
    """Of an attempt: the end of its step, or a failure after which there is another one."""
    if finished.delay is None:
        said = with_digest(finished.digest)
        return NewEntry(seq, _STEP, finished.key, finished.output, finished.error, said)
    first_at = time.now() - timedelta(seconds=finished.elapsed)
    detail = {"attempt": finished.attempt, "delay": finished.delay, "first_at": first_at.isoformat()}
    detail |= digest_detail(finished.digest)
    return NewEntry(seq, str(EntryKind.ATTEMPT), finished.key, None, finished.error, json.dumps(detail))


def of_child(child: NewExecution, digest: str) -> str:
    """Written by hand, as the next: a workflow may have thousands of them at once."""
    args = f', "args": "{digest}"' if digest else ""
    return f'{{"id": "{child.id}", "task": {_quoted(child.task_name)}, "of": "{child.parent_id}"{args}}}'


def of_child_end(end: FinishedExecution, at: str) -> str:
    return f'{{"id": "{end.id}", "status": "{end.status.value}", "at": "{at}"}}'


def of_code(at: datetime, seed: str) -> str:
    return f'{{"at": "{latest(at)}", "seed": {_quoted(seed)}}}'


def of_failed(failed: Failed, *, at: datetime) -> dict[str, Any]:
    return {"type": failed.type, "undo": failed.undo, "at": latest(at)}


def of_request(asked: Message, *, own: str, at: datetime) -> dict[str, Any]:
    """To stop; `own` names the run that hears of it."""
    reason = json.loads(asked.payload).get("reason", "")
    return {"reason": reason, "number": asked.number, "of": own, "at": latest(at)}


def of_stuck(at: datetime) -> dict[str, Any]:
    reason = "the body waits for something that no step, timer, signal or child will bring"
    return {"reason": reason, "at": latest(at)}


def of_timer(pending: Pending, began: datetime) -> dict[str, Any] | None:
    """Of a sleep, or of the timeout of a wait; None: it has none."""
    command = pending.command
    assert isinstance(command, (Sleep, WaitMessage))
    length = command.seconds if isinstance(command, Sleep) else command.timeout
    until = command.until if length is None else began + timedelta(seconds=length)
    return None if until is None else {"until": until.isoformat(), **digest_detail(pending.digest)}


def of_update(message: Message, *, own: str, at: datetime) -> dict[str, Any]:
    id_ = message.message_id or f"update:{message.number}"
    return {"number": message.number, "of": own, "id": id_, "name": message.name, "at": latest(at)}
