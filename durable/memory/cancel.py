"""Cancel, its pick-up by the executor, and redrive, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from durable.errors import TransitionRefused
from durable.execution import CancelResult, Execution, Kind, Status
from durable.memory.outbox import note_ends
from durable.memory.parents import tell_parents
from durable.memory.records import moved
from durable.memory.store import Transaction
from durable.memory.workflow_messages import ask_to_end, is_asked, is_asked_by, is_started_workflow
from durable.storage import Note
from durable.stored_errors import cancelled
from durable.transitions import Event
from durable.workflow_rows import SendOutcome

__all__ = ["cancel", "cancel_all", "cancel_record", "cancel_telling", "pick_up_cancelled", "redrive"]


def cancel(
    tx: Transaction,
    ids: Sequence[str],
    *,
    reason: str,
    may_finish: bool,
    force: bool,
    request_id: str | None = None,
    note: Note | None,
) -> list[CancelResult]:
    results, _ = cancel_telling(
        tx, ids, reason=reason, may_finish=may_finish, force=force, request_id=request_id, note=note
    )
    return results


def cancel_telling(
    tx: Transaction,
    ids: Sequence[str],
    *,
    reason: str,
    may_finish: bool,
    force: bool,
    request_id: str | None = None,
    note: Note | None,
) -> tuple[list[CancelResult], set[str]]:
    """The results, and the queues in which a workflow that was asked to end became claimable."""
    before = {id_: tx.executions.get(id_) for id_ in ids}
    open_ones = [record for record in before.values() if record is not None and _is_cancellable(record)]
    workflows = [record.id for record in open_ones if not force and is_started_workflow(record)]
    spared = {
        record.id
        for record in open_ones
        if may_finish and record.status is Status.RUNNING and record.id not in workflows
    }
    ending = {record.id: record for record in open_ones if record.id not in spared and record.id not in workflows}
    _end(tx, ending, reason, note)
    sent = [ask_to_end(tx, id_, reason, request_id) for id_ in workflows]
    asked = {id_ for id_ in spared if _is_asked(tx, id_, cancelled(reason))}
    asked.update(
        each.execution_id
        for each in sent
        if each.outcome is SendOutcome.ACCEPTED or is_asked_by(tx, each.execution_id, request_id)
    )
    queues = {each.ready_queue for each in sent if each.ready_queue is not None}
    return [_result(id_, before[id_], id_ in ending, id_ in asked) for id_ in ids], queues


def _end(tx: Transaction, ending: Mapping[str, Execution], reason: str, note: Note | None) -> None:
    # A parent that this call ends as well must not be woken by its child: it only counts, before it ends itself.
    own = Counter(record.parent_id for record in ending.values() if record.parent_id in ending)
    ended = [
        cancel_record(
            tx, record._replace(active_children_count=record.active_children_count - own[record.id]), reason=reason
        )
        for record in ending.values()
    ]
    tell_parents(tx, [record for record in ended if record.parent_id not in ending])
    note_ends(tx, note, ended)


def _is_cancellable(record: Execution) -> bool:
    """Turns end with their jobs, and by nobody else."""
    return not record.is_finished and record.kind is not Kind.TURN


def _is_asked(tx: Transaction, id_: str, error: str) -> bool:
    """Ask a running execution to end after its attempt; False where that was asked before."""
    record = tx.executions.get(id_)
    if record is None or record.cancel_requested is not None:
        return False
    tx.put(record._replace(cancel_requested=error, updated_at=tx.now))
    return True


def cancel_all(
    tx: Transaction,
    *,
    before: datetime,
    queue: str | None,
    task_name: str | None,
    limit: int,
    reason: str,
    may_finish: bool,
    force: bool,
    note: Note | None,
) -> list[CancelResult]:
    ids = [
        record.id
        for record in tx.executions.values()
        if _is_cancellable(record)
        and record.kind is not Kind.CALLBACK
        and record.created_at < before
        and (queue is None or record.queue == queue)
        and (task_name is None or record.task_name == task_name)
        and not (may_finish and record.status is Status.RUNNING and record.cancel_requested is not None)
        and not (not force and is_started_workflow(record) and is_asked(tx, record))
    ]
    return cancel(tx, ids[: max(limit, 0)], reason=reason, may_finish=may_finish, force=force, note=note)


def _result(id_: str, before: Execution | None, is_cancelled: bool, is_asked: bool) -> CancelResult:
    is_turn = before is not None and before.kind is Kind.TURN
    return CancelResult(id_, before.status if before else None, is_cancelled, is_asked, is_turn)


def cancel_record(tx: Transaction, record: Execution, *, reason: str, error: str | None = None) -> Execution:
    """End one execution; its parent is not told yet. `error` None means the error that the reason gives."""
    return tx.put(moved(record, Event.CANCEL, tx.now, reason=reason, error=error or cancelled(reason)))


def pick_up_cancelled(tx: Transaction, *, executor_id: str, limit: int) -> list[str]:
    marked = [
        (record.finished_at or tx.now, record.id, record)
        for record in tx.executions.values()
        if record.needs_cancel and record.executor_id == executor_id
    ]
    return [tx.put(record._replace(needs_cancel=False)).id for _, _, record in sorted(marked)[:limit]]


def redrive(tx: Transaction, ids: Sequence[str]) -> list[str]:
    records = [tx.executions.get(id_) for id_ in dict.fromkeys(ids)]
    return [record.id for record in records if record is not None and _is_redriven(tx, record)]


def _is_redriven(tx: Transaction, record: Execution) -> bool:
    if record.parent_id is not None or record.kind is Kind.TURN:
        return False
    try:
        again = moved(record, Event.REDRIVE, tx.now, cancel_requested=None)
    except TransitionRefused:
        return False
    assert again.status is Status.READY
    tx.put(again)
    return True
