"""How an execution ended, and whether an operator may retry it."""

from __future__ import annotations

from durable.errors import TransitionRefused
from durable.execution import CloseStatus, Execution, Kind, Status
from durable.explain.scene import Finding, Scene
from durable.explain.words import error_of, span
from durable.transitions import Event, State, apply

__all__ = ["ended_findings", "redrive_refusal"]


def redrive_refusal(execution: Execution) -> str | None:
    """Why a retry of this record would be refused; None where it would be accepted. See Storage.redrive."""
    if not execution.is_finished:
        return f"it has not finished, it is {execution.status}"
    if execution.status is Status.COMPLETED:
        return "it completed, there is nothing to retry"
    if execution.parent_id is not None:
        return (
            f"its parent {execution.parent_id} has already counted its end;"
            f" enqueue it anew, or retry the root {execution.root_id}"
        )
    if execution.kind is Kind.WORKFLOW and execution.reason == "poisoned":
        return (
            "it is a workflow that was given up as poisoned, and nothing that it has done was undone; mend what ends"
            " its process, then handle.fork() goes on where it stood; a cancel of the fork, once it runs, undoes it"
        )
    state = State(
        kind=execution.kind,
        status=execution.status,
        phase=execution.phase,
        children_count=execution.children_count,
        active_children_count=execution.active_children_count,
        close_status=execution.close_status,
    )
    try:
        apply(state, Event.REDRIVE)
    except TransitionRefused as refused:
        return str(refused).partition(": ")[2] or str(refused)
    return None


def ended_findings(scene: Scene) -> list[Finding]:
    execution = scene.execution
    ended = [_how(scene), *_closing(scene), *_not_picked_up(execution)]
    if execution.status is Status.COMPLETED:
        return ended
    refusal = redrive_refusal(execution)
    if refusal is not None:
        return [*ended, Finding("not_redrivable", f"It cannot be retried: {refusal}.")]
    return [*ended, _redrivable(execution)]


def _redrivable(execution: Execution) -> Finding:
    advice = f"To retry it: durable retry {execution.id}"
    if execution.status is not Status.FINALIZE_FAILED:
        return Finding("redrivable", "A retry runs it from its beginning.", advice)
    if execution.kind is Kind.SEQUENCE:
        text = "A retry would only meet the end of its last step again; enqueue it anew."
        return Finding("redrive_useless", text)
    return Finding("redrivable", "A retry runs its finalize again, with the children as they ended.", advice)


def _how(scene: Scene) -> Finding:
    execution = scene.execution
    when = "" if execution.finished_at is None else f" {scene.ago(execution.finished_at)}"
    error = error_of(execution)
    what = f": {error}" if error is not None else ""
    match execution.status:
        case Status.COMPLETED:
            return Finding("completed", f"It completed{when}{_attempts(execution)}.")
        case Status.CANCELLED:
            return Finding("cancelled", f"It was cancelled{when}: {execution.reason or 'no reason is stored'}.")
        case Status.TIMED_OUT if execution.kind is Kind.SLEEPING:
            return Finding("timed_out", f"It timed out{when}: nothing woke {execution.sleeping_id!r} in time.")
        case Status.TIMED_OUT:
            limit = "" if execution.timeout is None else f" (the limit of one is {span(execution.timeout)})"
            return Finding("timed_out", f"Its last attempt took too long{limit} and ended{when}{_attempts(execution)}.")
        case _ if execution.reason == "poisoned":
            return _poisoned(execution, when)
        case Status.FINALIZE_FAILED:
            return Finding("finalize_failed", f"What comes after its children failed{when}{what}.")
        case _:
            return Finding("failed", f"It failed{when}{_attempts(execution)}{what}.")


def _poisoned(execution: Execution, when: str) -> Finding:
    return Finding(
        "poisoned",
        f"It was given up{when} as poisoned: {execution.deliveries} of {execution.max_deliveries} deliveries ended with"
        f" a lost lease, the last on executor {execution.executor_id or 'unknown'}.",
        "It may kill or freeze its process: look at that executor's log for memory, crashes and blocked threads.",
    )


def _attempts(execution: Execution) -> str:
    if execution.attempts == 0:
        return ""
    return f" in attempt {execution.attempts} of {execution.max_attempts}"


def _closing(scene: Scene) -> list[Finding]:
    execution = scene.execution
    if execution.close_status is CloseStatus.CLOSED:
        return []
    if execution.close_status is CloseStatus.IDLE:
        return [Finding("unclosed", "It is outside the close pipeline.", "Run: durable doctor --mend")]
    if execution.close_status is CloseStatus.CLOSING and execution.close_lease_expires_at is None:
        count = execution.active_children_count
        return [
            Finding("closing", f"It is being closed: {count} workflows below it were asked to end, and have not yet.")
        ]
    advice = "" if scene.alive else "No executor is alive to do it; start one."
    return [
        Finding(
            "closing",
            f"It is being closed ({execution.close_status}): {execution.active_children_count} unfinished children are"
            " to be cancelled by an executor's upkeep.",
            advice,
        )
    ]


def _not_picked_up(execution: Execution) -> list[Finding]:
    if not execution.needs_cancel:
        return []
    return [Finding("not_picked_up", f"Executor {execution.executor_id} ran it then and has not yet noticed.")]
