"""What a turn of a workflow asks of its executor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from durable.approval_rows import NewApproval, StoredApproval
from durable.execution import ChildOutcome, FinishedExecution
from durable.workflow.cache import ReplayCache
from durable.workflow.step import StepPlans
from durable.workflow_rows import Checkpoint, ChildTally, History, Standing

__all__ = ["WorkflowServices"]


class WorkflowServices(Protocol):
    """Each call waits as long as the storage is away; what many turns ask at once goes out together."""

    @property
    def cache(self) -> ReplayCache: ...

    @property
    def random(self) -> Callable[[], float]:
        """From 0 to 1, for the jitter of retries."""
        ...

    @property
    def plans(self) -> StepPlans: ...

    @property
    def has_transactions(self) -> bool: ...

    async def write(self, checkpoint: Checkpoint) -> Standing | None:
        """None: the fence is gone."""
        ...

    async def write_on(self, checkpoint: Checkpoint, connection: Any) -> Standing | None:
        """As write, in a transaction that the caller commits."""
        ...

    async def read(self, execution_id: str, after_seq: int, after_message: int) -> History: ...

    async def ends(self, execution_ids: Sequence[str]) -> list[FinishedExecution]:
        """Of those that have finished."""
        ...

    async def tallies(self, parent_id: str, ranges: Sequence[tuple[int, int]]) -> list[ChildTally]:
        """See WorkflowStorage.tally_children."""
        ...

    async def children_between(
        self, parent_id: str, first: int, end: int, *, only_failed: bool, limit: int
    ) -> list[ChildOutcome]:
        """See WorkflowStorage.children_between."""
        ...

    def watch(self, execution_id: str) -> asyncio.Future[FinishedExecution]:
        """The end of one, when it comes; cancel it when nobody waits any more."""
        ...

    def is_transient(self, error: BaseException) -> bool:
        """The storage was away, so nobody knows what has become of a write; False: it was refused."""
        ...

    async def open_approval(self, new: NewApproval) -> StoredApproval | None: ...

    async def expire_approval(self, approval_id: str) -> StoredApproval | None: ...

    def transaction(self, connection: Any = None) -> AbstractAsyncContextManager[Any]:
        """See Storage.transaction."""
        ...
