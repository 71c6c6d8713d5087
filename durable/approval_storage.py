"""The part of the seam that approvals use; see durable.storage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from durable.approval_rows import ApprovalFilter, Decided, Decision, NewApproval, StoredApproval
from durable.operation import Operation

__all__ = ["ApprovalStorage"]


class ApprovalStorage(Protocol):
    """In the order in which an approval meets the verbs. Approvals are deleted with their workflows."""

    def open_approval(self, new: NewApproval) -> Operation[StoredApproval | None]:
        """Store an approval; None, and nothing stored, where the workflow is not there.

        One of the workflow's with the same key is that one: it keeps its id and gets the new token, nothing else.
        """
        ...

    def get_approval(
        self, *, approval_id: str | None = None, token_hash: str | None = None
    ) -> Operation[StoredApproval | None]:
        """By its id or by the hash of its token."""
        ...

    def list_approvals(
        self, where: ApprovalFilter, *, limit: int, before: str | None = None
    ) -> Operation[Sequence[StoredApproval]]:
        """Newest first; `before` is the last id of the page before."""
        ...

    def decide_approval(self, approval_id: str, decision: Decision) -> Operation[Decided]:
        """Record who has decided what, once, and send that to the workflow, which it wakes.

        Only a pending one can be decided, and only by somebody it allows.
        """
        ...

    def expire_approval(self, approval_id: str) -> Operation[StoredApproval | None]:
        """Its workflow waits no longer: a pending one has expired, as of the end of its time. Gives it as it stands."""
        ...
