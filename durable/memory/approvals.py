"""Approvals in memory: opened by workflows, decided by people, and told to the workflows in the same transaction."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

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
from durable.memory.store import KeptApproval, Transaction
from durable.memory.workflow_messages import send_messages

__all__ = [
    "decide_approval",
    "expire_approval",
    "get_approval",
    "list_approvals",
    "open_approval",
    "withdraw_approvals",
]


def open_approval(tx: Transaction, new: NewApproval) -> StoredApproval | None:
    record = tx.executions.get(new.execution_id)
    if record is None:
        return None
    before = next((kept for kept in _all(tx) if (kept.row.execution_id, kept.key) == (new.execution_id, new.key)), None)
    if before is not None:
        return _shown(tx, _put(tx, before._replace(token_hash=new.token_hash)))
    row = StoredApproval(
        id=new.id,
        execution_id=new.execution_id,
        task_name=record.task_name,
        name=new.name,
        status=ApprovalStatus.PENDING,
        allowed=new.allowed,
        details=new.details,
        created_at=tx.now,
        expires_at=None if new.expires_after is None else tx.now + timedelta(seconds=new.expires_after),
        decision_id=None,
        decided_by=None,
        comment=None,
        decided_at=None,
    )
    return _shown(tx, _put(tx, KeptApproval(new.key, new.token_hash, row)))


def get_approval(tx: Transaction, *, approval_id: str | None, token_hash: str | None) -> StoredApproval | None:
    found = (kept for kept in _all(tx) if kept.row.id == approval_id or kept.token_hash == token_hash)
    kept = next(found, None)
    return None if kept is None else _shown(tx, kept)


def list_approvals(tx: Transaction, where: ApprovalFilter, *, limit: int, before: str | None) -> list[StoredApproval]:
    rows = sorted((_shown(tx, kept) for kept in _all(tx)), key=lambda row: row.id, reverse=True)
    found = [
        row
        for row in rows
        if (before is None or row.id < before)
        and (where.status is None or row.status is where.status)
        and (where.task_name is None or row.task_name == where.task_name)
    ]
    return found[: max(limit, 0)]


def decide_approval(tx: Transaction, approval_id: str, decision: Decision) -> Decided:
    kept = _find(tx, approval_id)
    if kept is None:
        return Decided(Verdict.NOT_FOUND, None, None)
    shown = _shown(tx, kept)
    judged = verdict(shown, decision)
    if judged is not Verdict.DECIDED or shown.decision_id == decision.id:
        return Decided(judged, shown, None)
    row = kept.row._replace(
        status=decision.status,
        decision_id=decision.id,
        decided_by=decision.by,
        comment=decision.comment,
        decided_at=tx.now,
    )
    _put(tx, kept._replace(row=row))
    (sent,) = send_messages(tx, [decision_message(row)])
    return Decided(judged, row, sent)


def expire_approval(tx: Transaction, approval_id: str) -> StoredApproval | None:
    kept = _find(tx, approval_id)
    if kept is None:
        return None
    shown = _shown(tx, kept)
    if shown.decided_at is not None or shown.status is ApprovalStatus.WITHDRAWN:
        return shown
    expired = kept.row._replace(status=ApprovalStatus.EXPIRED, decided_at=kept.row.expires_at or tx.now)
    return _put(tx, kept._replace(row=expired)).row


def withdraw_approvals(tx: Transaction, execution_id: str) -> None:
    """Those that nobody has decided on in time; nobody waits for them any more."""
    for kept in tx.approvals.get(execution_id) or ():
        if _shown(tx, kept).status is ApprovalStatus.PENDING:
            _put(tx, kept._replace(row=kept.row._replace(status=ApprovalStatus.WITHDRAWN)))


def _all(tx: Transaction) -> Iterator[KeptApproval]:
    return (kept for approvals in tuple(tx.approvals.values()) for kept in approvals)


def _find(tx: Transaction, approval_id: str) -> KeptApproval | None:
    return next((kept for kept in _all(tx) if kept.row.id == approval_id), None)


def _put(tx: Transaction, kept: KeptApproval) -> KeptApproval:
    others = (each for each in tx.approvals.get(kept.row.execution_id) or () if each.row.id != kept.row.id)
    tx.approvals.put(kept.row.execution_id, (*others, kept))
    return kept


def _shown(tx: Transaction, kept: KeptApproval) -> StoredApproval:
    row = kept.row
    if row.status is not ApprovalStatus.PENDING:
        return row
    record = tx.executions.get(row.execution_id)
    if record is None or record.is_finished:
        return row._replace(status=ApprovalStatus.WITHDRAWN)
    is_late = row.expires_at is not None and row.expires_at <= tx.now
    return row._replace(status=ApprovalStatus.EXPIRED) if is_late else row
