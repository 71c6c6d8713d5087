"""Where a workflow asks for approvals: between its steps and the storage."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Final

from durable.approval_rows import ApprovalStatus, NewApproval
from durable.codec import Codec
from durable.errors import ConfigurationError, ExecutionNotFound
from durable.ids import IdSource
from durable.options import checked_text
from durable.workflow.approval import ApprovalDecision, OpenedApproval
from durable.workflow.services import WorkflowServices

__all__ = ["Desk", "checked_people", "token_hash"]

_MOST_PEOPLE: Final = 1000


def token_hash(token: str) -> str:
    """What the storage keeps of a token. A token is random and long, so its hash needs no salt."""
    return hashlib.sha256(token.encode()).hexdigest()


def checked_people(allowed: Collection[str]) -> tuple[str, ...]:
    """Those who may decide; raises ConfigurationError for what are no names, and for none or too many."""
    if isinstance(allowed, str) or not 1 <= len(allowed) <= _MOST_PEOPLE:
        raise ConfigurationError(f"allowed is {str(allowed)[:50]!r}; give 1 to {_MOST_PEOPLE} names")
    return tuple(sorted({checked_text(who, "allowed") for who in allowed}))


class Desk:
    """Of one workflow. What it is asked for bears being repeated."""

    def __init__(self, services: WorkflowServices, execution_id: str, ids: IdSource, codec: Codec) -> None:
        self._services = services
        self._execution_id = execution_id
        self._ids = ids
        self._codec = codec

    async def open(
        self,
        key: str,
        name: str,
        token: str,
        allowed: tuple[str, ...] | None,
        details: str | None,
        expires_after: float | None,
    ) -> OpenedApproval:
        """Opened again with the same key, by an attempt that was cut off, it is the same with another token."""
        new = NewApproval(
            self._ids.new_id(), self._execution_id, key, name, token_hash(token), allowed, details, expires_after
        )
        stored = await self._services.open_approval(new)
        if stored is None:
            raise ExecutionNotFound(self._execution_id)
        return OpenedApproval(stored.id, token, stored.expires_at)

    async def expire(self, approval_id: str) -> ApprovalDecision:
        """Wait no longer; gives what has been decided by now, by whomever."""
        stored = await self._services.expire_approval(approval_id)
        if stored is None or stored.decided_at is None:
            raise ExecutionNotFound(self._execution_id)
        comment = None if stored.comment is None else self._codec.value(str).load(stored.comment, "comment")
        match stored.status:
            case ApprovalStatus.GRANTED:
                return ApprovalDecision("granted", stored.decided_by, comment, stored.decided_at)
            case ApprovalStatus.REFUSED:
                return ApprovalDecision("refused", stored.decided_by, comment, stored.decided_at)
            case _:
                return ApprovalDecision("expired", None, None, stored.decided_at)
