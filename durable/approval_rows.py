"""The rows of approvals: what a workflow asks people for, and what they decide.

Times are aware and the storage's own; `details` and `comment` are texts as the codec has made them.
"""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from durable.workflow_rows import MessageKind, NewMessage, Sent

__all__ = [
    "ApprovalFilter",
    "ApprovalStatus",
    "Decided",
    "Decision",
    "NewApproval",
    "StoredApproval",
    "Verdict",
    "decision_message",
    "message_name",
    "verdict",
]


class ApprovalStatus(StrEnum):
    PENDING = "pending"
    GRANTED = "granted"
    REFUSED = "refused"
    EXPIRED = "expired"
    """Nobody has decided in time; also of one whose time is over and whose workflow has not looked yet."""
    WITHDRAWN = "withdrawn"
    """Its workflow ended, or continued as new, before anybody decided. Stored for the second, shown for the first."""


class NewApproval(NamedTuple):
    id: str
    execution_id: str
    key: str
    """One of the workflow's own: opening it again gives the approval a new token."""
    name: str
    token_hash: str
    allowed: tuple[str, ...] | None
    """Who may decide; None: whoever has the token."""
    details: str | None
    expires_after: float | None
    """Seconds; None: never."""


class StoredApproval(NamedTuple):
    """An approval as it stands, with the name of its workflow."""

    id: str
    execution_id: str
    task_name: str
    name: str
    status: ApprovalStatus
    allowed: tuple[str, ...] | None
    details: str | None
    created_at: datetime
    expires_at: datetime | None
    decision_id: str | None
    decided_by: str | None
    comment: str | None
    decided_at: datetime | None


class Decision(NamedTuple):
    id: str
    """The same decision given again is accepted and changes nothing."""
    status: ApprovalStatus
    """Granted or refused."""
    by: str
    comment: str | None


class Verdict(StrEnum):
    """What becomes of a decision."""

    DECIDED = "decided"
    NOT_FOUND = "not_found"
    CLOSED = "closed"
    """It was decided before, its time is over, or its workflow has ended."""
    NOT_ALLOWED = "not_allowed"


class Decided(NamedTuple):
    verdict: Verdict
    approval: StoredApproval | None
    """As it stands now; None: there is none."""
    sent: Sent | None
    """What became of the message to the workflow; None: there was none."""


class ApprovalFilter(NamedTuple):
    status: ApprovalStatus | None = None
    task_name: str | None = None


def verdict(approval: StoredApproval, decision: Decision) -> Verdict:
    if approval.decision_id == decision.id:
        return Verdict.DECIDED
    if approval.status is not ApprovalStatus.PENDING:
        return Verdict.CLOSED
    if approval.allowed is not None and decision.by not in approval.allowed:
        return Verdict.NOT_ALLOWED
    return Verdict.DECIDED


def message_name(approval_id: str) -> str:
    """Under which the workflow waits for the decision; no signal of a user's has a `#`."""
    return f"#approval:{approval_id}"


def decision_message(approval: StoredApproval) -> NewMessage:
    """What tells the workflow of a decision."""
    assert approval.decided_at is not None
    told = {
        "id": approval.id,
        "outcome": str(approval.status),
        "by": approval.decided_by,
        "comment": approval.comment,
        "at": approval.decided_at.isoformat(),
    }
    name = message_name(approval.id)
    return NewMessage(approval.execution_id, MessageKind.SIGNAL, name, json.dumps(told), name)
