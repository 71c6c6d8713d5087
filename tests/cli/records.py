"""Records, executors and children for explanations, without a storage."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from durable.execution import ChildOutcome, CloseStatus, Execution, Kind, Phase, Status
from durable.explain import Finding, Scene, explain
from durable.storage import ExecutorRow
from tests.cli.stage import NOW

__all__ = ["ERROR", "ID", "LOST", "after", "child", "codes", "executor", "found", "record"]

ID = "01900000-0000-7000-8000-000000000001"
ERROR = '{"type": "ValueError", "message": "no"}'
LOST = '{"type": "lease_expired", "message": "lost"}'


def after(seconds: float) -> Any:
    return NOW + timedelta(seconds=seconds)


def record(**fields: Any) -> Execution:
    """A ready root, due now, that was created ten seconds ago."""
    defaults: dict[str, Any] = dict.fromkeys(Execution._fields)
    defaults |= {
        "id": ID, "root_id": ID, "is_finalize": False, "depth": 0, "kind": Kind.TASK, "task_name": "task",
        "task_version": 1, "record_version": 1, "queue": "default", "priority": 0, "input": "{}", "max_attempts": 5,
        "max_deliveries": 5, "delay": 0.0, "status": Status.READY, "phase": Phase.RUN, "fence": 0,
        "settled_fence": 0, "attempts": 0, "deliveries": 0, "iteration": 0, "needs_cancel": False, "is_counted": False,
        "children_count": 0, "active_children_count": 0, "close_status": CloseStatus.IDLE,
        "created_at": after(-10), "due_at": NOW, "updated_at": after(-10),
    }  # fmt: skip
    return Execution(**(defaults | fields))


def executor(id_: str = "executor-a", *, seen: float = -3.0, **fields: Any) -> ExecutorRow:
    return ExecutorRow(id_, ("default",), ("task",), 0, 10, after(-100), after(seen))._replace(**fields)


def child(number: int, status: Status = Status.READY, *, is_finalize: bool = False) -> ChildOutcome:
    return ChildOutcome(ID, number, f"child-{number}", "below", status, None, None, is_finalize)


def found(scene: Scene) -> dict[str, Finding]:
    return {finding.code: finding for finding in explain(scene)}


def codes(execution: Execution, *executors: ExecutorRow) -> list[str]:
    return [finding.code for finding in explain(Scene(execution, NOW, executors))]
