"""What is read of workflows and of their children in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from durable.execution import FINISHED, SUCCEEDED, ChildOutcome, Execution
from durable.memory.store import Transaction
from durable.workflow_rows import ChildTally, History, Published, StoredChunk

__all__ = [
    "children_between",
    "histories",
    "published_values",
    "stored_chunks",
    "tally_children",
]


def histories(tx: Transaction, wanted: Sequence[tuple[str, int, int]]) -> list[History]:
    return [
        History(
            id_,
            [entry for entry in tx.history.get(id_) or () if entry.seq > after_seq],
            [message for message in tx.messages.get(id_) or () if message.number > after_message],
        )
        for id_, after_seq, after_message in wanted
    ]


def tally_children(tx: Transaction, parent_id: str, ranges: Sequence[tuple[int, int]]) -> list[ChildTally]:
    return [_tally(list(_children(tx, parent_id, first, end))) for first, end in ranges]


def _tally(children: Sequence[Execution]) -> ChildTally:
    finished = [child for child in children if child.status in FINISHED]
    failed = [child for child in finished if child.status not in SUCCEEDED]
    return ChildTally(len(finished), len(failed), tuple(child.id for child in children if not child.is_finished))


def children_between(
    tx: Transaction, parent_id: str, first: int, end: int, *, only_failed: bool, limit: int
) -> list[ChildOutcome]:
    return [
        ChildOutcome(
            parent_id, child.child_index or 0, child.id, child.task_name, child.status, child.output, child.error, False
        )
        for child in _children(tx, parent_id, first, end)
        if not only_failed or child.status in FINISHED - SUCCEEDED
    ][: max(limit, 0)]


def _children(tx: Transaction, parent_id: str, first: int, end: int) -> Iterator[Execution]:
    """Of a range of child indexes, in order."""
    found = [
        record
        for record in tx.executions.values()
        if record.parent_id == parent_id and record.child_index is not None and first <= record.child_index < end
    ]
    return iter(sorted(found, key=lambda child: child.child_index or 0))


def published_values(tx: Transaction, execution_id: str, keys: Sequence[str] | None) -> list[Published]:
    found = tx.published.get(execution_id) or {}
    wanted = {key for key in found if not key.startswith("#")} if keys is None else set(keys)
    return [found[key] for key in sorted(found) if key in wanted]


def stored_chunks(tx: Transaction, execution_id: str, *, after: int, limit: int) -> list[StoredChunk]:
    stored = tx.chunks.get(execution_id) or ()
    return [chunk for chunk in stored if chunk.number > after][: max(limit, 0)]
