"""What is read of workflows in memory, and a new one made from another's history."""

from __future__ import annotations

from collections.abc import Sequence

from durable.errors import IdempotencyConflict
from durable.execution import Kind, NewExecution
from durable.memory.enqueue import existing_for, store_row
from durable.memory.store import Transaction
from durable.workflow_rows import History, Published, StoredChunk

__all__ = ["fork_workflow", "histories", "published_values", "stored_chunks"]


def histories(tx: Transaction, wanted: Sequence[tuple[str, int, int]]) -> list[History]:
    return [
        History(
            id_,
            [entry for entry in tx.history.get(id_) or () if entry.seq > after_seq],
            [message for message in tx.messages.get(id_) or () if message.number > after_message],
        )
        for id_, after_seq, after_message in wanted
    ]


def published_values(tx: Transaction, execution_id: str, keys: Sequence[str] | None) -> list[Published]:
    found = tx.published.get(execution_id) or {}
    wanted = {key for key in found if not key.startswith("#")} if keys is None else set(keys)
    return [found[key] for key in sorted(found) if key in wanted]


def stored_chunks(tx: Transaction, execution_id: str, *, after: int, limit: int) -> list[StoredChunk]:
    stored = tx.chunks.get(execution_id) or ()
    return [chunk for chunk in stored if chunk.number > after][: max(limit, 0)]


def fork_workflow(tx: Transaction, source_id: str, *, before_seq: int | None, new: NewExecution) -> bool:
    source = tx.executions.get(source_id)
    if source is None or source.kind is not Kind.WORKFLOW:
        return False
    found = existing_for(tx, new)
    if found is not None:
        if not found.is_new:
            raise IdempotencyConflict(new.task_name, new.idempotency_key or "", found.id)
        return True
    store_row(tx, new)
    entries = tx.history.get(source_id) or ()
    tx.history.put(new.id, tuple(entry for entry in entries if before_seq is None or entry.seq < before_seq))
    return True
