"""What a workflow waits for that no executor runs."""

from __future__ import annotations

from durable.execution import Execution, Kind, Status
from durable.explain.scene import Finding
from durable.explain.words import moment

__all__ = ["is_suspended", "look_inside", "suspended"]


def is_suspended(execution: Execution) -> bool:
    """It has begun, and its last turn has ended in a wait; only its history knows which."""
    has_begun = execution.fence > 0 and execution.error is None
    return execution.kind is Kind.WORKFLOW and has_begun and execution.status in (Status.READY, Status.WAITING)


def suspended(execution: Execution) -> Finding:
    if execution.status is Status.WAITING:
        text = (
            "It waits for a message, a child or an approval, for as long as that takes; no executor runs it until then."
        )
    else:
        text = (
            f"It waits until {moment(execution.due_at)}, the end of a sleep, a timeout or the pause before an attempt "
            "of a step; a message, a child's end or an approval lets it go on before, if it waits for one."
        )
    return Finding("suspended", text, look_inside(execution))


def look_inside(execution: Execution) -> str:
    return (
        f"See what it waits for: durable replay {execution.id} --app module:app; "
        f"see what it has done: durable history {execution.id}"
    )
