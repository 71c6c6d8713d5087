"""A new workflow made from another's history, values, pieces and open approvals, in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from durable.errors import IdempotencyConflict
from durable.execution import Execution, Kind, NewExecution
from durable.fork_rows import Fork
from durable.memory.approvals import open_approval
from durable.memory.enqueue import existing_for, store_row
from durable.memory.store import Transaction
from durable.workflow_rows import Entry

__all__ = ["fork_workflow"]


def fork_workflow(tx: Transaction, source_id: str, *, fork: Fork, new: NewExecution) -> bool:
    source = tx.executions.get(source_id)
    if source is None or source.kind is not Kind.WORKFLOW:
        return False
    found = existing_for(tx, new)
    if found is not None:
        if not found.is_new:
            raise IdempotencyConflict(new.task_name, new.idempotency_key or "", found.id)
        return True
    store_row(tx, new)
    stored = tx.executions.get(new.id)
    assert stored is not None
    tx.put(stored._replace(fence=1, iteration=source.iteration, run_output=source.run_output))
    tx.history.put(new.id, tuple(_entries(tx, source, fork)))
    _copy_said(tx, source_id, new.id, fork)
    for approval in fork.approvals:
        open_approval(tx, approval)
    return True


def _entries(tx: Transaction, source: Execution, fork: Fork) -> Iterator[Entry]:
    messages = {message.number: message.payload for message in tx.messages.get(source.id) or ()}
    replaced = {each.seq: each for each in fork.replaced}
    for entry in tx.history.get(source.id) or ():
        if _is_after(entry, fork) or entry.seq in fork.left_out:
            continue
        output = messages.get(int(_detail(entry).get("number", 0))) if entry.output is None else entry.output
        other = replaced.get(entry.seq)
        if other is not None:
            yield entry._replace(output=output if other.output is None else other.output, detail=other.detail)
        else:
            yield entry._replace(output=output)


def _copy_said(tx: Transaction, source_id: str, new_id: str, fork: Fork) -> None:
    """Pieces but for those that the entries after the cut tell of, and the values of earlier runs."""
    history = tx.history.get(source_id) or ()
    later = sum(int(_detail(entry).get("pieces", 0)) for entry in history if _is_after(entry, fork))
    chunks = tx.chunks.get(source_id) or ()
    kept = chunks[: max(len(chunks) - later, 0)]
    if kept:
        tx.chunks.put(new_id, kept)
    begun = _detail(history[0]).get("at") if history else None
    values = {
        key: value
        for key, value in (tx.published.get(source_id) or {}).items()
        if begun is not None and value.at < datetime.fromisoformat(begun)
    }
    if values:
        tx.published.put(new_id, values)


def _is_after(entry: Entry, fork: Fork) -> bool:
    return fork.before_seq is not None and entry.seq >= fork.before_seq


def _detail(entry: Entry) -> dict[str, Any]:
    detail: dict[str, Any] = json.loads(entry.detail or "{}")
    return detail
