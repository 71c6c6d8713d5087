"""Messages to workflows in memory: appended in order, and what a suspended receiver is woken by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from durable.execution import Execution, Kind, Status
from durable.memory.records import resumed
from durable.memory.store import Transaction
from durable.workflow_rows import (
    CANCEL_MESSAGE_ID,
    Message,
    MessageKind,
    NewMessage,
    SendOutcome,
    Sent,
    cancel_payload,
)

__all__ = ["ask_to_end", "is_asked", "is_asked_by", "is_started_workflow", "send_messages"]

_REFUSED: Final = {SendOutcome.FINISHED, SendOutcome.NOT_FOUND, SendOutcome.NOT_A_WORKFLOW}


def send_messages(tx: Transaction, rows: Sequence[NewMessage]) -> list[Sent]:
    return [_send(tx, row) for row in rows]


def _send(tx: Transaction, row: NewMessage) -> Sent:
    record = tx.executions.get(row.execution_id)
    outcome, number = _outcome(tx, record, row)
    if record is None or outcome in _REFUSED:
        return Sent(row.execution_id, outcome, None, None, False)
    is_running = record.status is Status.RUNNING
    if outcome is SendOutcome.DUPLICATE:
        return Sent(record.id, outcome, number, None, is_running)
    message = Message(record.message_count + 1, row.kind, row.name, row.payload, row.message_id, tx.now)
    tx.messages.put(record.id, (*(tx.messages.get(record.id) or ()), message))
    after = record._replace(message_count=message.number, updated_at=tx.now)
    if is_running:
        after = after._replace(needs_cancel=True)
    is_woken = _is_woken(tx, record, row.kind)
    tx.put(resumed(after, tx.now) if is_woken else after)
    return Sent(record.id, outcome, message.number, record.queue if is_woken else None, is_running)


def _outcome(tx: Transaction, record: Execution | None, row: NewMessage) -> tuple[SendOutcome, int | None]:
    """What becomes of a message, and the number of the one that is there already."""
    if record is None:
        return SendOutcome.NOT_FOUND, None
    if record.kind is not Kind.WORKFLOW:
        return SendOutcome.NOT_A_WORKFLOW, None
    if row.message_id is not None:
        for stored in tx.messages.get(record.id) or ():
            if stored.message_id == row.message_id:
                return SendOutcome.DUPLICATE, abs(stored.number)
    return (SendOutcome.FINISHED if record.is_finished else SendOutcome.ACCEPTED), None


def _is_woken(tx: Transaction, record: Execution, kind: MessageKind) -> bool:
    """A suspended one is; for one that waits between attempts a request to end is worth the next of them at once."""
    if record.status is Status.WAITING:
        return True
    is_put_off = record.status is Status.READY and record.due_at > tx.now and record.fence > 0
    return is_put_off and (record.attempts == 0 or kind is MessageKind.CANCEL)


def is_started_workflow(record: Execution) -> bool:
    """One that a request to end is a message to; a workflow that has never run has nothing to clean up."""
    return record.kind is Kind.WORKFLOW and record.fence > 0


def is_asked(tx: Transaction, record: Execution) -> bool:
    return any(message.message_id == CANCEL_MESSAGE_ID for message in tx.messages.get(record.id) or ())


def is_asked_by(tx: Transaction, id_: str, request_id: str | None) -> bool:
    """By this very call, which was made before."""
    if request_id is None:
        return False
    asked = (message for message in tx.messages.get(id_) or () if message.message_id == CANCEL_MESSAGE_ID)
    return any(json.loads(message.payload).get("request") == request_id for message in asked)


def ask_to_end(tx: Transaction, id_: str, reason: str, request_id: str | None = None) -> Sent:
    """Send a workflow the request to end: a duplicate where it has one."""
    payload = cancel_payload(reason, request_id)
    (sent,) = send_messages(tx, [NewMessage(id_, MessageKind.CANCEL, "cancel", payload, CANCEL_MESSAGE_ID)])
    return sent
