"""Approvals inside a workflow: asked for once, waited for like a signal, settled with the storage when time is over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

from durable.approval_rows import message_name
from durable.codec import Codec

__all__ = ["Approval", "ApprovalDecision", "OpenedApproval", "load_decision"]


@dataclass(frozen=True, slots=True)
class ApprovalDecision:
    """What has been decided, by whom and when."""

    outcome: Literal["granted", "refused", "expired"]
    by: str | None
    """None: nobody has; it has expired."""
    comment: str | None
    at: datetime

    @property
    def is_granted(self) -> bool:
        return self.outcome == "granted"


@dataclass(frozen=True, slots=True)
class OpenedApproval:
    """What the history keeps of an approval."""

    id: str
    token: str
    expires_at: datetime | None


def load_decision(codec: Codec, text: str) -> ApprovalDecision:
    """From the message that tells of it."""
    told = json.loads(text)
    comment = None if told["comment"] is None else codec.value(str).load(told["comment"], "comment")
    outcome = cast("Literal['granted', 'refused', 'expired']", told["outcome"])
    return ApprovalDecision(outcome, told["by"], comment, datetime.fromisoformat(told["at"]))


class Approval:
    """Made by `ctx.approval`. Whoever has the `token` can decide, so send it to nobody else."""

    def __init__(
        self,
        name: str,
        opened: OpenedApproval,
        wait: Callable[[str, str], asyncio.Future[Any]],
        expire: Callable[[], asyncio.Future[Any]],
    ) -> None:
        self.name = name
        self.id = opened.id
        self.token = opened.token
        """Cannot be guessed; the same in a replay. The storage knows its hash, and the history has it as a result."""
        self.expires_at = opened.expires_at
        """None: never."""
        self._wait = wait
        self._expire = expire
        self._decision: asyncio.Task[ApprovalDecision] | None = None

    async def decision(self) -> ApprovalDecision:
        """Wait until it is granted or refused, or has expired; any number may wait."""
        if self._decision is None or self._decision.cancelled():
            self._decision = asyncio.ensure_future(self._decided())
        return await asyncio.shield(self._decision)

    async def _decided(self) -> ApprovalDecision:
        try:
            decided: ApprovalDecision = await self._wait(self.name, message_name(self.id))
        except TimeoutError:
            # Somebody may have decided in the last moment: what the storage has is what counts.
            decided = await self._expire()
        return decided
