"""Turn driver tuples into records, and records into the columns of a statement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from durable.alike import Alike
from durable.execution import (
    NOT_ASKED,
    RECORD_VERSION,
    ChildOutcome,
    Claimed,
    CloseStatus,
    Execution,
    FinishedExecution,
    Kind,
    NewExecution,
    Phase,
    Settlement,
    Status,
)
from durable.notice import NewNotice
from durable.pool_rows import PoolConfig
from storage_postgres.arrays import plain, texts

__all__ = [
    "alike_columns",
    "bare_columns",
    "child_outcome",
    "claimed",
    "claimed_in_order",
    "execution",
    "finished",
    "lone_row",
    "new_columns",
    "new_row",
    "notice_columns",
    "pool_columns",
    "settled_notice_columns",
    "settlement_columns",
]

_KINDS = {kind.value: kind for kind in Kind}
_PHASES = {phase.value: phase for phase in Phase}
_STATUSES = {status.value: status for status in Status}
_CLOSES = {status.value: status for status in CloseStatus}


def claimed(row: tuple[Any, ...]) -> Claimed:
    cells = list(row)
    cells[2], cells[5], cells[27] = _KINDS[cells[2]], _PHASES[cells[5]], cells[27] or NOT_ASKED
    return Claimed._make(cells)


def claimed_in_order(rows: list[tuple[Any, ...]]) -> list[Claimed]:
    """By priority, then due time, which is in a last column."""
    rows.sort(key=lambda row: (-row[21], row[-1], row[0]))
    return [claimed(row[:-1]) for row in rows]


def execution(row: tuple[Any, ...]) -> Execution:
    record = Execution._make(row)
    return record._replace(
        kind=_KINDS[record.kind],
        status=_STATUSES[record.status],
        phase=_PHASES[record.phase],
        close_status=_CLOSES[record.close_status],
    )


def finished(row: tuple[Any, ...]) -> FinishedExecution:
    record = FinishedExecution._make(row)
    return record._replace(status=_STATUSES[record.status])


def child_outcome(row: tuple[Any, ...]) -> ChildOutcome:
    record = ChildOutcome._make(row)
    return record._replace(status=_STATUSES[record.status])


def new_columns(rows: Iterable[NewExecution], prefix: str = "") -> dict[str, object]:
    """The columns of an insert, by parameter name."""
    columns = list(zip(*rows, strict=True)) or [()] * len(NewExecution._fields)
    named = dict(zip(NewExecution._fields, columns, strict=True))
    quoted = {
        "task_name",
        "queue",
        "input",
        "idempotency_key",
        "idempotency_hash",
        "sleeping_id",
        "retry",
        "serial_key",
        "on_complete",
    }
    params: dict[str, object] = {
        prefix + name: texts(column) if name in quoted else plain(column)
        for name, column in named.items()
        if name != "run_at"
    }
    params[prefix + "run_at"] = texts(None if at is None else at.isoformat() for at in named["run_at"])
    params["record_version"] = RECORD_VERSION
    params["lock_timeout"] = None
    return params


def alike_columns(alike: Alike) -> dict[str, object]:
    """The values of an insert of roots that differ in id and input alone, by parameter name."""
    return {**new_row(alike.model), "id": plain(alike.ids), "input": texts(alike.inputs)}


def lone_row(row: NewExecution) -> dict[str, object]:
    """The values of an insert of one root without keys, by parameter name."""
    params: dict[str, object] = row._asdict()
    params["kind"] = row.kind.value
    params["record_version"] = RECORD_VERSION
    return params


def new_row(row: NewExecution) -> dict[str, object]:
    """The values of an insert of one row, by parameter name.

    All of them as text, because the driver prepares a statement anew for other types of parameters.
    """
    params: dict[str, object] = {
        name: None if value is None else str(value) for name, value in zip(NewExecution._fields, row, strict=True)
    }
    params["run_at"] = None if row.run_at is None else row.run_at.isoformat()
    params["record_version"] = str(RECORD_VERSION)
    return params


def settlement_columns(settlements: Sequence[Settlement]) -> dict[str, object]:
    """The columns of a settle, by parameter name, in id order: rows are locked in the order they stand here."""
    ordered = sorted(settlements, key=lambda settlement: settlement.id)
    (ids, fences, statuses, phases, attempts, deliveries, iterations, delays, outputs, run_outputs, errors, reasons,
     children, *_) = zip(*ordered, strict=True)  # fmt: skip
    return {
        "id": plain(ids),
        "fence": plain(fences),
        "status": plain(statuses),
        "phase": plain(phases),
        "attempts": plain(attempts),
        "deliveries": plain(deliveries),
        "iteration": plain(iterations),
        "delay": plain(delays),
        "output": texts(outputs),
        "run_output": texts(run_outputs),
        "error": texts(errors),
        "reason": texts(reasons),
        "children": plain([len(inserted) for inserted in children]),
        "lock_timeout": None,
    }


def bare_columns(settlements: Sequence[Settlement]) -> dict[str, object]:
    """The columns of ends that are nothing but results, by parameter name, in id order as those of a settle."""
    ids, fences, outputs = zip(*sorted([(item.id, item.fence, item.output) for item in settlements]), strict=True)
    return {"id": plain(ids), "fence": plain(fences), "output": texts(outputs), "lock_timeout": None}


def notice_columns(notices: Iterable[NewNotice], prefix: str = "") -> dict[str, object]:
    """The columns of the notices to be stored, by parameter name."""
    columns = list(zip(*notices, strict=True)) or [()] * len(NewNotice._fields)
    return {
        prefix + name: plain(column) if name == "id" else texts(column)
        for name, column in zip(NewNotice._fields, columns, strict=True)
    }


def settled_notice_columns(settlements: Sequence[Settlement]) -> dict[str, object]:
    """The notices of a settle, each with the id of the turn it is stored with."""
    pairs = [(settlement.id, notice) for settlement in settlements for notice in settlement.notices]
    return {"note_turn": plain([id_ for id_, _ in pairs]), **notice_columns([notice for _, notice in pairs], "note_")}


def pool_columns(pools: Sequence[PoolConfig]) -> dict[str, object]:
    """The columns of pools, by parameter name."""
    named = dict(zip(PoolConfig._fields, zip(*pools, strict=True), strict=True))
    return {name: texts(column) if name == "name" else plain(column) for name, column in named.items()}
