"""The stored form of a completion callback: what a record says of it, and what becomes of that at the record's end.

A storage makes the callback's execution in the transaction that ends the record; see Storage.settle. The input of that
execution holds the parts of the end as they are stored, so that nobody has to open what a payload codec has sealed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from durable.execution import Claimed, Execution, Kind, NewExecution, Phase, Settlement, Status

__all__ = [
    "CallbackInput",
    "callback_id",
    "callback_of",
    "is_within",
    "queue_of",
    "store_callback",
    "task_of",
    "wants_transaction",
]

_TAKEN: Final = (
    "task_name", "task_version", "queue", "priority", "retry", "max_attempts", "max_deliveries", "timeout", "delay",
    "is_pooled", "serial_key",
)  # fmt: skip


class CallbackInput(NamedTuple):
    """The input of a callback's execution; `output`, `error` and `context` are stored payloads."""

    execution_id: str
    task_name: str
    status: Status
    reason: str | None
    output: str | None
    error: str | None
    context: str | None
    is_within: bool
    """It was to run in the transaction of the end, and is to run in that of its own end where that failed."""

    @classmethod
    def load(cls, text: str) -> CallbackInput:
        fields: dict[str, Any] = json.loads(text)
        return cls(**fields)._replace(status=Status(fields["status"]))


def store_callback(new: NewExecution, *, when: Iterable[Status] | None, context: str | None, is_within: bool) -> str:
    """What a record keeps; `when` None means every end. `new` gives the columns of the callback's execution."""
    row = {name: getattr(new, name) for name in _TAKEN}
    statuses = None if when is None else sorted(when)
    return json.dumps({**row, "when": statuses, "context": context, "is_within": is_within}, ensure_ascii=False)


def callback_id(execution_id: str, fence: int) -> str:
    """The id of the callback for the end that was written under `fence`, so that no end can have two.

    It begins as the id of the execution does, which keeps the two together where ids are in order.
    """
    digest = hashlib.sha256(f"{execution_id}:{fence}".encode()).hexdigest()
    return f"{execution_id[:13]}-7{digest[:3]}-8{digest[3:6]}-{digest[6:18]}"


def callback_of(record: Execution) -> NewExecution | None:
    """The execution that the end of `record` calls for; None without one, or where the filter leaves this end out."""
    spec = _spec(record.on_complete)
    if not spec or not _names(spec, record.status):
        return None
    id_ = callback_id(record.id, record.fence)
    return NewExecution(
        id=id_,
        root_id=id_,
        parent_id=None,
        child_index=None,
        is_finalize=False,
        depth=0,
        kind=Kind.CALLBACK,
        input=_input(spec, record.id, record.task_name, record.status, record.reason, record.output, record.error),
        idempotency_key=None,
        idempotency_hash=None,
        sleeping_id=None,
        run_at=None,
        **{name: spec[name] for name in _TAKEN},
    )


def first_call(turn: Claimed, settlement: Settlement) -> Claimed:
    """The callback for an end that is about to be written, as its first claim will give it; needs an `on_complete`."""
    spec = _spec(turn.on_complete)
    id_ = callback_id(turn.id, settlement.fence + 1)
    return Claimed(
        id=id_,
        fence=1,
        kind=Kind.CALLBACK,
        phase=Phase.RUN,
        input=_input(
            spec, turn.id, turn.task_name, settlement.status, settlement.reason, settlement.output, settlement.error
        ),
        attempts=1,
        deliveries=1,
        iteration=0,
        run_output=None,
        error=None,
        root_id=id_,
        parent_id=None,
        child_index=None,
        is_finalize=False,
        depth=0,
        age=0.0,
        **{name: spec[name] for name in _TAKEN if name in Claimed._fields},
    )


def _input(
    spec: dict[str, Any],
    execution_id: str,
    task_name: str,
    status: Status,
    reason: str | None,
    output: str | None,
    error: str | None,
) -> str:
    given = CallbackInput(execution_id, task_name, status, reason, output, error, spec["context"], spec["is_within"])
    # The blanks are those of the database's json_build_object.
    return json.dumps(given._asdict(), ensure_ascii=False, separators=(", ", " : "))


def is_within(on_complete: str | None, status: Status) -> bool:
    """True when the end as `status` is to be written together with what its callback writes."""
    spec = _spec(on_complete)
    return bool(spec.get("is_within")) and _names(spec, status)


def wants_transaction(on_complete: str | None) -> bool:
    return bool(_spec(on_complete).get("is_within"))


def queue_of(on_complete: str) -> str:
    """The queue of the callback's execution; an empty text, which stands for any, where that cannot be read."""
    return str(_spec(on_complete).get("queue", ""))


def task_of(on_complete: str) -> str:
    return str(_spec(on_complete).get("task_name", ""))


def _names(spec: dict[str, Any], status: Status) -> bool:
    return spec["when"] is None or status in spec["when"]


def _spec(on_complete: str | None) -> dict[str, Any]:
    """What a record keeps; nothing where there is none or it is damaged, which must keep nothing from ending."""
    try:
        spec: dict[str, Any] = json.loads(on_complete or "{}")
    except ValueError:
        return {}
    return spec
