"""Touched: which executions a write touches, and which writes may wait for what is none of them."""

from __future__ import annotations

from collections.abc import Iterable

from durable.attempts import Attempt
from durable.execution import NewExecution, Settlement
from durable.workflow_rows import Checkpoint, Suspension, written_beside

__all__ = ["may_meet_others", "rows_of_checkpoint", "rows_of_end"]


def rows_of_checkpoint(checkpoint: Checkpoint) -> list[str]:
    return [checkpoint.id, *written_beside(checkpoint)]


def rows_of_end(attempt: Attempt, settlement: Settlement) -> list[str]:
    rows = [settlement.id]
    if attempt.claimed.parent_id is not None:
        rows.append(attempt.claimed.parent_id)
    if settlement.workflow is not None:
        rows += written_beside(settlement.workflow)
    return rows


def may_meet_others(write: Checkpoint | Settlement) -> bool:
    """It may wait for a transaction that stores the same key, or the same job; no row shows who does.

    What is stored so is seen by nobody else before it is committed.
    """
    if isinstance(write, Checkpoint):
        return _have_keys(write.children) or _have_keys(write.starts)
    return write.job is not None or _have_keys(write.children) or _of_turn(write.workflow)


def _of_turn(turn: Suspension | None) -> bool:
    return turn is not None and (_have_keys(turn.children) or _have_keys(turn.starts))


def _have_keys(rows: Iterable[NewExecution]) -> bool:
    return any(row.idempotency_key is not None or row.sleeping_id is not None for row in rows)
