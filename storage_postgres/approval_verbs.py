"""The verbs of approvals as plans. Whoever decides holds the row of the workflow, so two never decide at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from durable.approval_rows import (
    ApprovalFilter,
    ApprovalStatus,
    Decided,
    Decision,
    NewApproval,
    StoredApproval,
    Verdict,
    decision_message,
    verdict,
)
from storage_postgres.message_verbs import append_messages, hold
from storage_postgres.plan import Plan, Query

__all__ = ["decide_approval", "expire_approval", "get_approval", "list_approvals", "open_approval"]


_KEPT_AS: Final[Mapping[ApprovalStatus | None, ApprovalStatus]] = {
    ApprovalStatus.PENDING: ApprovalStatus.PENDING,
    ApprovalStatus.GRANTED: ApprovalStatus.GRANTED,
    ApprovalStatus.REFUSED: ApprovalStatus.REFUSED,
}
"""What stands in the row. Those that have expired or are withdrawn may stand there as that or as pending."""


def open_approval(new: NewApproval) -> Plan[StoredApproval | None]:
    params = new._asdict() | {"allowed": None if new.allowed is None else json.dumps(new.allowed)}
    found = yield Query("open_approval", params)
    return (yield from get_approval(approval_id=found[0][0])) if found else None


def get_approval(*, approval_id: str | None = None, token_hash: str | None = None) -> Plan[StoredApproval | None]:
    found = yield Query("get_approval", {"id": approval_id, "token_hash": token_hash})
    return _approval(found[0]) if found else None


def list_approvals(where: ApprovalFilter, *, limit: int, before: str | None) -> Plan[list[StoredApproval]]:
    status = where.status and where.status.value
    params = {"task_name": where.task_name, "before": before, "limit": max(limit, 0), "status": status}
    kept_as = _KEPT_AS.get(where.status)
    if kept_as is None:
        found = yield Query("list_approvals", params)
    else:
        found = yield Query("list_approvals_kept_as", params | {"kept_as": kept_as.value})
    return [_approval(row) for row in found]


def decide_approval(approval_id: str, decision: Decision) -> Plan[Decided]:
    approval = yield from _held(approval_id)
    if approval is None:
        return Decided(Verdict.NOT_FOUND, None, None)
    judged = verdict(approval, decision)
    if judged is not Verdict.DECIDED or approval.decision_id == decision.id:
        return Decided(judged, approval, None)
    decided = yield from _decide(approval, decision.status, decision)
    (sent,) = yield from append_messages([decision_message(decided)])
    return Decided(judged, decided, sent)


def expire_approval(approval_id: str) -> Plan[StoredApproval | None]:
    approval = yield from _held(approval_id)
    if approval is None or approval.decided_at is not None or approval.status is ApprovalStatus.WITHDRAWN:
        return approval
    return (yield from _decide(approval, ApprovalStatus.EXPIRED, None))


def _held(approval_id: str) -> Plan[StoredApproval | None]:
    """As it stands while the transaction holds its workflow."""
    found = yield from get_approval(approval_id=approval_id)
    if found is None:
        return None
    yield from hold([found.execution_id])
    return (yield from get_approval(approval_id=approval_id))


def _decide(approval: StoredApproval, status: ApprovalStatus, decision: Decision | None) -> Plan[StoredApproval]:
    after = approval._replace(
        status=status,
        decision_id=None if decision is None else decision.id,
        decided_by=None if decision is None else decision.by,
        comment=None if decision is None else decision.comment,
    )
    ((at,),) = yield Query(
        "decide_approval",
        {
            "id": after.id,
            "status": status.value,
            "decision_id": after.decision_id,
            "by": after.decided_by,
            "comment": after.comment,
        },
    )
    return after._replace(decided_at=at)


def _approval(row: tuple[Any, ...]) -> StoredApproval:
    found = StoredApproval._make(row)
    allowed = None if found.allowed is None else tuple(json.loads(str(found.allowed)))
    return found._replace(status=ApprovalStatus(found.status), allowed=allowed)
