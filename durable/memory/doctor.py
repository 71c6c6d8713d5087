"""The doctor in memory: records that break an invariant, and what puts them right."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NoReturn

from durable.execution import CloseStatus, Execution, Status
from durable.memory.cancel import cancel_record
from durable.memory.parents import WAITING_FOR_OTHERS, is_awaited, unfinished_children
from durable.memory.records import changed, moved, resumed
from durable.memory.store import Transaction
from durable.storage import Defect
from durable.stored_errors import ORPHAN
from durable.transitions import CloseEvent, Event, apply_close

__all__ = ["defects", "mend"]

_PAYLOADS: Final = ("input", "output", "run_output", "error", "progress", "retry", "on_complete")
_WRAPPED: Final = "~"
"""Text that a payload codec has wrapped begins with it and is not read here."""


def defects(tx: Transaction, *, limit: int) -> list[Defect]:
    active = Counter(record.parent_id for record in tx.executions.values() if not record.is_finished)
    found = [defect for record in tx.executions.values() for defect in _defects_of(tx, record, active[record.id])]
    return sorted(found)[: max(limit, 0)]


def _defects_of(tx: Transaction, record: Execution, active: int) -> Iterator[Defect]:
    """`active` is the number of its unfinished children."""
    count = record.active_children_count
    if count != active:
        yield Defect(record.id, "count", f"active_children_count is {count}, {active} children are unfinished", True)
    if _is_orphan(tx, record):
        yield Defect(record.id, "orphan", f"its parent {record.parent_id} is gone", True)
    if record.status in WAITING_FOR_OTHERS and not count and not active:
        yield Defect(record.id, "stranded", "it waits for children, and none is unfinished", True)
    if _is_left_waiting(record, active):
        detail = f"it waits for children until {record.wake_at_children} are unfinished, and {active} are"
        yield Defect(record.id, "stranded", detail, True)
    if record.is_finished and record.close_status is CloseStatus.IDLE:
        yield Defect(record.id, "unclosed", "it has finished and is outside the close pipeline", True)
    yield from _contradictions(record)
    for name in _PAYLOADS:
        if not _is_payload(getattr(record, name)):
            yield Defect(record.id, "spoiled", f"{name} is not JSON", False)


def _contradictions(record: Execution) -> Iterator[Defect]:
    if (record.finished_at is not None) != record.is_finished:
        detail = f"its status is {record.status}, and finished_at is {record.finished_at or 'null'}"
        yield Defect(record.id, "contradiction", detail, False)
    if not (0 <= record.attempts <= record.max_attempts and 0 <= record.deliveries <= record.max_deliveries):
        attempts = f"attempts are {record.attempts} of {record.max_attempts}"
        deliveries = f"deliveries {record.deliveries} of {record.max_deliveries}"
        yield Defect(record.id, "contradiction", f"{attempts}, {deliveries}", False)


def _is_left_waiting(record: Execution, active: int) -> bool:
    """A suspended workflow whose children have ended without waking it."""
    return record.status is Status.WAITING and is_awaited(record._replace(active_children_count=active))


def _is_orphan(tx: Transaction, record: Execution) -> bool:
    return record.parent_id is not None and not record.is_finished and tx.executions.get(record.parent_id) is None


def _is_payload(text: str | None) -> bool:
    if text is None or text.startswith(_WRAPPED):
        return True
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return False
    return True


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def mend(tx: Transaction, ids: Sequence[str]) -> list[Defect]:
    records = [tx.executions.get(id_) for id_ in dict.fromkeys(ids)]
    found = [
        defect
        for record in records
        if record is not None
        for defect in _defects_of(tx, record, len(unfinished_children(tx, record.id)))
    ]
    mendable = [defect for defect in found if defect.is_mendable]
    for id_ in dict.fromkeys(defect.id for defect in mendable):
        record = tx.executions.get(id_)
        assert record is not None
        tx.put(_mended(tx, record))
    return sorted(mendable)


def _mended(tx: Transaction, record: Execution) -> Execution:
    active = len(unfinished_children(tx, record.id))
    counted = record._replace(active_children_count=active)
    if _is_orphan(tx, counted):
        return cancel_record(tx, counted, reason="orphan", error=ORPHAN)
    if counted.status in WAITING_FOR_OTHERS and not active:
        return moved(counted, Event.CHILDREN_FINISHED, tx.now)
    if _is_left_waiting(counted, active):
        return resumed(counted, tx.now)
    if not counted.is_finished:
        return changed(counted, tx.now, counted.close_status)
    return changed(counted, tx.now, _mended_close_status(counted.close_status, active))


def _mended_close_status(close_status: CloseStatus, active: int) -> CloseStatus:
    """Where a finished record belongs: closed without active children, otherwise on its way there."""
    if close_status is CloseStatus.CLOSED and active:
        close_status = apply_close(close_status, CloseEvent.REOPEN)
    if close_status is CloseStatus.IDLE:
        return apply_close(close_status, CloseEvent.FINISH, active_children=active)
    if active or close_status is CloseStatus.CLOSED:
        return close_status
    if close_status is CloseStatus.READY:
        close_status = apply_close(close_status, CloseEvent.CLAIM)
    return apply_close(close_status, CloseEvent.CLOSE)
