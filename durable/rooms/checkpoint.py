"""Checkpoint: what running workflows write and read, in batches that fill while one is in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Any

from durable.approval_rows import NewApproval, StoredApproval
from durable.errors import RowsHeld
from durable.execution import ChildOutcome, FinishedExecution
from durable.group_commit import GroupCommit
from durable.rooms.aside import Aside
from durable.rooms.held import LOCK_TIMEOUT, MOST_LOOKS, Held, HeldRows
from durable.rooms.loop import patiently
from durable.rooms.touched import may_meet_others, rows_of_checkpoint
from durable.storage import Hint, Note, Storage, said_by
from durable.workflow.cache import ReplayCache
from durable.workflow.step import StepPlans
from durable.workflow_rows import Checkpoint, Checkpointed, ChildTally, History, Standing

__all__ = ["CheckpointRoom"]

_READS = tuple[str, int, int]


class CheckpointRoom:
    """See durable.workflow.services.WorkflowServices."""

    def __init__(
        self,
        *,
        storage: Storage,
        held: HeldRows,
        watch: Callable[[str], asyncio.Future[FinishedExecution]],
        plans: StepPlans,
        cache: ReplayCache,
        random: Random,
        note: Note | None,
        tell: Callable[..., None],
    ) -> None:
        self._storage = storage
        self._held = held
        self._watch = watch
        self._note = note
        self._tell = tell
        self._writes: GroupCommit[Checkpoint, Standing | Held | None] = GroupCommit(
            self._write, gathers=True, halves=True
        )
        self._aside: Aside[Checkpoint, Standing | None] = Aside(self._write_aside, held.clock)
        self._reads: GroupCommit[_READS, History] = GroupCommit(self._read, gathers=True)
        self.cache = cache
        self.plans = plans
        self.random = random.random
        self.has_transactions = storage.has_transactions

    async def write(self, checkpoint: Checkpoint) -> Standing | None:
        held = self._held.among(rows_of_checkpoint(checkpoint)) if self._held.are_any else None
        while True:
            if held:
                await self._held.free(held)
            standing = await self._writes.put(checkpoint)
            if not isinstance(standing, Held):
                return standing
            held = self._held.among(rows_of_checkpoint(checkpoint))
            if not held:
                return await self._aside.put(checkpoint)

    async def write_on(self, checkpoint: Checkpoint, connection: Any) -> Standing | None:
        # Alone in a transaction of its own: not even one whose children conflict hinders others.
        written = await self._storage.checkpoint([checkpoint], note=self._note).await_on(connection)
        self._tell(*_hints(written, [checkpoint]))
        return written.accepted.get(checkpoint.id)

    async def read(self, execution_id: str, after_seq: int, after_message: int) -> History:
        return await self._reads.submit((execution_id, after_seq, after_message))

    async def ends(self, execution_ids: Sequence[str]) -> list[FinishedExecution]:
        async def ask() -> list[FinishedExecution]:
            return await self._storage.finished(execution_ids)

        return await patiently(self._storage, ask, "reading the ends of children")

    async def tallies(self, parent_id: str, ranges: Sequence[tuple[int, int]]) -> list[ChildTally]:
        async def ask() -> list[ChildTally]:
            return await self._storage.tally_children(parent_id, ranges)

        return await patiently(self._storage, ask, "counting the ends of children")

    async def children_between(
        self, parent_id: str, first: int, end: int, *, only_failed: bool, limit: int
    ) -> list[ChildOutcome]:
        async def ask() -> list[ChildOutcome]:
            return await self._storage.children_between(parent_id, first, end, only_failed=only_failed, limit=limit)

        return await patiently(self._storage, ask, "reading the ends of children")

    def watch(self, execution_id: str) -> asyncio.Future[FinishedExecution]:
        return self._watch(execution_id)

    def is_transient(self, error: BaseException) -> bool:
        return self._storage.is_transient(error)

    async def open_approval(self, new: NewApproval) -> StoredApproval | None:
        async def store() -> StoredApproval | None:
            return await self._storage.open_approval(new)

        return await patiently(self._storage, store, "asking for an approval")

    async def expire_approval(self, approval_id: str) -> StoredApproval | None:
        async def expire() -> StoredApproval | None:
            return await self._storage.expire_approval(approval_id)

        return await patiently(self._storage, expire, "ending an approval")

    async def stop(self) -> None:
        """Write and read no more: what a handler that ignores its end still asks for is cancelled."""
        await asyncio.gather(self._writes.cancel(), self._aside.cancel(), self._reads.cancel())

    def transaction(self, connection: Any = None) -> AbstractAsyncContextManager[Any]:
        return self._storage.transaction(connection)

    async def _write(self, checkpoints: Sequence[Checkpoint]) -> list[Standing | Held | None]:
        """In the order given; those that wait for somebody's open transaction are left out, and come again."""
        left = list(checkpoints)
        for _ in range(MOST_LOOKS):
            if self._held.are_any:
                left = [checkpoint for checkpoint in left if not self._held.among(rows_of_checkpoint(checkpoint))]
            written = await self._written(left, LOCK_TIMEOUT)
            if written is not None:
                return self._standings(checkpoints, left, written)
            if not await self._held.look(row for checkpoint in left for row in rows_of_checkpoint(checkpoint)):
                left = [checkpoint for checkpoint in left if not may_meet_others(checkpoint)]
        return [Held()] * len(checkpoints)

    async def _write_aside(self, checkpoints: Sequence[Checkpoint], limit: float) -> list[Standing | Held | None]:
        written = await self._written(checkpoints, limit)
        return [Held()] * len(checkpoints) if written is None else self._standings(checkpoints, checkpoints, written)

    def _standings(
        self, checkpoints: Sequence[Checkpoint], left: Sequence[Checkpoint], written: Checkpointed
    ) -> list[Standing | Held | None]:
        hints = _hints(written, left)
        if hints:
            self._tell(*hints)
        if len(left) == len(checkpoints):
            return [written.accepted.get(checkpoint.id) for checkpoint in checkpoints]
        ids = {checkpoint.id for checkpoint in left}
        return [written.accepted.get(each.id) if each.id in ids else Held() for each in checkpoints]

    async def _written(self, checkpoints: Sequence[Checkpoint], lock_timeout: float) -> Checkpointed | None:
        """None where something is held for longer than the timeout, and nothing was written."""
        if not checkpoints:
            return Checkpointed({}, frozenset())

        async def write() -> Checkpointed | None:
            try:
                return await self._storage.checkpoint(checkpoints, note=self._note, lock_timeout=lock_timeout)
            except RowsHeld:
                return None

        return await patiently(self._storage, write, "writing checkpoints")

    async def _read(self, wanted: Sequence[_READS]) -> list[History]:
        async def read() -> list[History]:
            return await self._storage.histories(wanted)

        return await patiently(self._storage, read, "reading histories")


def _hints(written: Checkpointed, checkpoints: Sequence[Checkpoint]) -> list[Hint]:
    told = [Hint("ready", queue) for queue in written.ready_queues]
    if any(checkpoint.cancels for checkpoint in checkpoints):
        told.append(Hint("cancelled", ""))  # their handlers may run anywhere, here too
    return told + [said_by(each.id) for each in checkpoints if each.values or each.chunks]
