"""The part of the seam that workflows use; see durable.storage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from durable.execution import ChildOutcome, Execution, NewExecution
from durable.fork_rows import Fork
from durable.notice import NewNotice
from durable.operation import Operation
from durable.workflow_rows import (
    Checkpoint,
    Checkpointed,
    ChildTally,
    History,
    NewMessage,
    Published,
    Sent,
    StoredChunk,
)

__all__ = ["WorkflowStorage"]


class WorkflowStorage(Protocol):
    """In the order in which a workflow meets the verbs; its turns end by settle, with Settlement.workflow."""

    def checkpoint(
        self, rows: Sequence[Checkpoint], *, note: Callable[[Sequence[Execution]], Sequence[NewNotice]] | None = None,
        lock_timeout: float | None = None,
    ) -> Operation[Checkpointed]:  # fmt: skip
        """Write what running workflows have done, each under its fence, in one transaction; the turns go on.

        A fence that is gone changes nothing and fails none of its neighbours. A checkpoint given again, because the
        outcome of the first try is unknown, is accepted and changes nothing: its first entry tells. Of one without
        entries nothing tells, and what it sends or emits is there twice. `note` is asked about children that it
        cancelled. A child or a start whose sleeping id is taken, or a child whose idempotency key is, raises as in
        settle, and nothing is written. It waits for rows that others hold for `lock_timeout` seconds, as settle does.
        """
        ...

    def histories(self, wanted: Sequence[tuple[str, int, int]]) -> Operation[list[History]]:
        """The entries after a seq and the messages after a number of (id, seq, number), in the order of wanted."""
        ...

    def send_messages(self, rows: Sequence[NewMessage]) -> Operation[list[Sent]]:
        """Append messages to workflows, in the order given; results stand in that order.

        A suspended receiver becomes ready and due now, unless it was cancelled or waits between attempts. One that
        has never run keeps the moment of its first start. A running one is marked for its executor to pick up. What
        is refused stores nothing, and does not keep its neighbours from being stored.
        """
        ...

    def tally_children(self, parent_id: str, ranges: Sequence[tuple[int, int]]) -> Operation[list[ChildTally]]:
        """How the children stand whose child index is in each range, from a first one up to and without an end."""
        ...

    def children_between(
        self, parent_id: str, first: int, end: int, *, only_failed: bool, limit: int
    ) -> Operation[list[ChildOutcome]]:
        """The first `limit` children of a range of child indexes, in order; `only_failed`: that ended uncompleted."""
        ...

    def published_values(self, execution_id: str, keys: Sequence[str] | None = None) -> Operation[list[Published]]:
        """What a workflow has published, by key; None means all keys but those that begin with `#`."""
        ...

    def stored_chunks(self, execution_id: str, *, after: int, limit: int) -> Operation[list[StoredChunk]]:
        """The next pieces of a workflow's streamed output after the number of the last one that was read."""
        ...

    def fork_workflow(self, source_id: str, *, fork: Fork, new: NewExecution) -> Operation[bool]:
        """Store a new workflow with the history of another up to a seq, in the same iteration, as `fork` says.

        It counts as one that has run: its first claim raises the fence to 2. Messages are not copied; an entry whose
        detail names the `number` of one gets the payload of that as its output. Pieces of streamed output are copied,
        but for those that the `pieces` of the details of entries from that seq on count. Published values are copied
        that are older than the moment `at` in the detail of the first entry. The approvals are opened as
        open_approval does it.

        False, and nothing stored, where the source is gone or is no workflow. An id that is there is left as it is: it
        was stored by an earlier try. Raises IdempotencyConflict if `new` has a key that is taken.
        """
        ...
