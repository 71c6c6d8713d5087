"""What follows from the write of a record in memory, whichever verb writes it; at the end of each transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.callbacks import callback_of
from durable.execution import Execution, Status
from durable.memory.parents import tell_parents
from durable.memory.records import first_record, moved
from durable.stored_errors import load_error
from durable.transitions import Event

if TYPE_CHECKING:
    from durable.memory.store import Transaction

__all__ = ["end_requested", "follow"]


def follow(tx: Transaction) -> None:
    """Cancel what was asked to end after its attempt and is not started again; then call back for what has ended."""
    end_requested(tx)
    for id_, was_finished in list(tx.written.items()):
        record = tx.executions.get(id_)
        callback = None if record is None or was_finished or not record.is_finished else callback_of(record)
        if callback is not None:
            tx.put(first_record(callback, tx.now))


def end_requested(tx: Transaction) -> list[Execution]:
    """Cancel what was asked to end after its attempt and is not started again; a verb that tells of it calls this."""
    written = [tx.executions.get(id_) for id_ in tx.written]
    return [
        _cancelled(tx, record, record.cancel_requested)
        for record in written
        if record is not None and record.cancel_requested is not None and _is_put_back(record)
    ]


def _is_put_back(record: Execution) -> bool:
    return not record.is_finished and record.status is not Status.RUNNING


def _cancelled(tx: Transaction, record: Execution, error: str) -> Execution:
    info = load_error(error)
    reason = None if info is None else info.message
    after = tx.put(moved(record, Event.CANCEL, tx.now, error=error, reason=reason))
    tell_parents(tx, [after])
    return after
