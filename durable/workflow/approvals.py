"""Approvals from outside: listed, and granted or refused, once, by somebody who may."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol, TypeVar, get_args
from uuid import uuid4

from durable.approval_rows import ApprovalFilter, ApprovalStatus, Decision, StoredApproval, Verdict
from durable.checks import integer
from durable.codec import Codec
from durable.errors import ApprovalClosed, ApprovalNotAllowed, ApprovalNotFound, ConfigurationError
from durable.options import checked_text
from durable.script import Script, Tell, ask, change
from durable.storage import Hint
from durable.workflow.desk import token_hash
from durable.workflow.workflow import Workflow

__all__ = ["ApprovalRecord", "Approvals", "SyncApprovals"]

T = TypeVar("T")
StatusName = Literal["pending", "granted", "refused", "expired", "withdrawn"]
_LARGEST_PAGE = 10_000


@dataclass(frozen=True, slots=True)
class ApprovalRecord:
    """An approval as people see it: who may decide on what, and who has."""

    id: str
    workflow: str
    execution_id: str
    name: str
    status: StatusName
    """`withdrawn`: its workflow ended, or continued as new, before anybody decided."""
    allowed: tuple[str, ...] | None
    """None: whoever has the token."""
    details: Any
    """What the workflow has said of it, as JSON has it."""
    created_at: datetime
    expires_at: datetime | None
    decided_by: str | None
    comment: str | None
    decided_at: datetime | None


class Player(Protocol):
    """The app, as far as these calls need it."""

    async def play(self, script: Script[T], connection: Any = None) -> T: ...


class BlockingPlayer(Protocol):
    def play(self, script: Script[T], connection: Any = None) -> T: ...


class _Scripts:
    """The calls as scripts, which the two clients play. All check their arguments now."""

    def __init__(self, codec: Callable[[], Codec]) -> None:
        self._codec = codec

    def list(
        self, status: str | None, workflow: object, limit: int, before: ApprovalRecord | None
    ) -> Script[builtins.list[ApprovalRecord]]:
        if status is not None and status not in get_args(StatusName):
            raise ConfigurationError(f"status is {status!r}; give one of {', '.join(get_args(StatusName))}")
        name = workflow.name if isinstance(workflow, Workflow) else workflow
        where = ApprovalFilter(
            None if status is None else ApprovalStatus(status), None if name is None else checked_text(name, "workflow")
        )
        last = None if before is None else before.id
        return self._list(where, integer(limit, "limit", 1, _LARGEST_PAGE), last)

    def _list(self, where: ApprovalFilter, limit: int, before: str | None) -> Script[builtins.list[ApprovalRecord]]:
        found = yield from ask(lambda storage: storage.list_approvals(where, limit=limit, before=before))
        return [self._shown(each) for each in found]

    def get(self, approval: str | ApprovalRecord) -> Script[ApprovalRecord]:
        return self._get(*_named(approval))

    def _get(self, approval_id: str | None, hashed: str | None) -> Script[ApprovalRecord]:
        return self._shown((yield from self._find(approval_id, hashed)))

    def _find(self, approval_id: str | None, hashed: str | None) -> Script[StoredApproval]:
        found = yield from ask(lambda storage: storage.get_approval(approval_id=approval_id, token_hash=hashed))
        if found is None:
            raise ApprovalNotFound
        return found

    def decide(
        self, approval: str | ApprovalRecord, status: ApprovalStatus, by: str, comment: str | None
    ) -> Script[ApprovalRecord]:
        stored = None if comment is None else self._codec().value(str).dump(comment, "comment")
        decision = Decision(str(uuid4()), status, checked_text(by, "by"), stored)
        return self._decide(*_named(approval), decision)

    def _decide(self, approval_id: str | None, hashed: str | None, decision: Decision) -> Script[ApprovalRecord]:
        found = yield from self._find(approval_id, hashed)
        done = yield from change(lambda storage: storage.decide_approval(found.id, decision))
        if done.approval is None:
            raise ApprovalNotFound
        shown = self._shown(done.approval)
        if done.verdict is Verdict.CLOSED:
            raise ApprovalClosed(shown.name, shown.status, shown.decided_by, shown.decided_at)
        if done.verdict is Verdict.NOT_ALLOWED:
            raise ApprovalNotAllowed(shown.name, decision.by)
        if done.sent is not None:
            hints = [] if done.sent.ready_queue is None else [Hint("ready", done.sent.ready_queue)]
            if done.sent.is_running:
                hints.append(Hint("cancelled", ""))
            yield Tell(tuple(hints))
        return shown

    def _shown(self, found: StoredApproval) -> ApprovalRecord:
        codec = self._codec()
        return ApprovalRecord(
            id=found.id,
            workflow=found.task_name,
            execution_id=found.execution_id,
            name=found.name,
            status=found.status.value,
            allowed=found.allowed,
            details=None if found.details is None else codec.value(Any).load(found.details, "details"),
            created_at=found.created_at,
            expires_at=found.expires_at,
            decided_by=found.decided_by,
            comment=None if found.comment is None else codec.value(str).load(found.comment, "comment"),
            decided_at=found.decided_at,
        )


def _named(approval: str | ApprovalRecord) -> tuple[str | None, str | None]:
    """The id of a record, or the hash of a token."""
    if isinstance(approval, ApprovalRecord):
        return approval.id, None
    return None, token_hash(checked_text(approval, "approval"))


class Approvals:
    """`app.approvals`: what workflows have asked people for."""

    def __init__(self, home: Callable[[], Player], codec: Callable[[], Codec]) -> None:
        self._home = home
        self._scripts = _Scripts(codec)

    async def list(
        self,
        *,
        status: StatusName | None = None,
        workflow: Workflow[..., Any] | str | None = None,
        limit: int = 100,
        before: ApprovalRecord | None = None,
    ) -> builtins.list[ApprovalRecord]:
        """A page, newest first; `before` is the last of the page before. None leaves a filter open."""
        return await self._home().play(self._scripts.list(status, workflow, limit, before))

    async def get(self, approval: str | ApprovalRecord) -> ApprovalRecord:
        """The approval of a token, or a record as it is now; raises ApprovalNotFound."""
        return await self._home().play(self._scripts.get(approval))

    async def grant(
        self, approval: str | ApprovalRecord, *, by: str, comment: str | None = None, connection: Any = None
    ) -> ApprovalRecord:
        """Grant what a token, or a record from the list, stands for; stored, and sent to the workflow, in one go.

        `by` is who decides, as your service knows them. With a connection it is part of the caller's transaction.
        Raises ApprovalNotFound; ApprovalClosed where it was decided before, has expired, or its workflow has ended;
        ApprovalNotAllowed where `by` is not among those allowed.
        """
        script = self._scripts.decide(approval, ApprovalStatus.GRANTED, by, comment)
        return await self._home().play(script, connection)

    async def refuse(
        self, approval: str | ApprovalRecord, *, by: str, comment: str | None = None, connection: Any = None
    ) -> ApprovalRecord:
        """As grant."""
        script = self._scripts.decide(approval, ApprovalStatus.REFUSED, by, comment)
        return await self._home().play(script, connection)


class SyncApprovals:
    """`client.approvals`: as Approvals, for code without an event loop."""

    def __init__(self, player: BlockingPlayer, codec: Callable[[], Codec]) -> None:
        self._player = player
        self._scripts = _Scripts(codec)

    def list(
        self,
        *,
        status: StatusName | None = None,
        workflow: Workflow[..., Any] | str | None = None,
        limit: int = 100,
        before: ApprovalRecord | None = None,
    ) -> builtins.list[ApprovalRecord]:
        return self._player.play(self._scripts.list(status, workflow, limit, before))

    def get(self, approval: str | ApprovalRecord) -> ApprovalRecord:
        return self._player.play(self._scripts.get(approval))

    def grant(
        self, approval: str | ApprovalRecord, *, by: str, comment: str | None = None, connection: Any = None
    ) -> ApprovalRecord:
        return self._player.play(self._scripts.decide(approval, ApprovalStatus.GRANTED, by, comment), connection)

    def refuse(
        self, approval: str | ApprovalRecord, *, by: str, comment: str | None = None, connection: Any = None
    ) -> ApprovalRecord:
        return self._player.play(self._scripts.decide(approval, ApprovalStatus.REFUSED, by, comment), connection)
