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

__all__ = ["follow"]


def follow(tx: Transaction) -> None:
    """Cancel what was asked to end after its attempt and is not started again; then call back for what has ended."""
    for id_ in list(tx.written):
        record = tx.executions.get(id_)
        if record is not None and record.cancel_requested is not None and _is_put_back(record):
            _cancel(tx, record, record.cancel_requested)
    for id_, was_finished in list(tx.written.items()):
        record = tx.executions.get(id_)
        callback = None if record is None or was_finished or not record.is_finished else callback_of(record)
        if callback is not None:
            tx.put(first_record(callback, tx.now))


def _is_put_back(record: Execution) -> bool:
    return not record.is_finished and record.status is not Status.RUNNING


def _cancel(tx: Transaction, record: Execution, error: str) -> None:
    info = load_error(error)
    reason = None if info is None else info.message
    tell_parents(tx, [tx.put(moved(record, Event.CANCEL, tx.now, error=error, reason=reason))])
