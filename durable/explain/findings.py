"""Explain one execution: what it waits for, what stands in its way, how it ended."""

from __future__ import annotations

from durable.execution import Kind, Status
from durable.explain.ended import ended_findings
from durable.explain.ready import ready_findings
from durable.explain.scene import Finding, Scene, is_alive, names
from durable.explain.words import moment, span
from durable.explain.workflows import suspended

__all__ = ["explain"]

_DOCTOR = "If that stays so, run: durable doctor --mend"


def explain(scene: Scene) -> list[Finding]:
    """What there is to say, the most telling first; never empty."""
    match scene.execution.status:
        case Status.READY:
            return ready_findings(scene)
        case Status.RUNNING:
            return _running(scene)
        case Status.WAITING:
            return _waiting(scene)
        case Status.WAITING_FOR_CHILDREN:
            return [_waiting_for_children(scene)]
        case Status.WAITING_FOR_FINALIZE:
            return [_waiting_for_finalize(scene)]
        case _:
            return ended_findings(scene)


def _running(scene: Scene) -> list[Finding]:
    execution = scene.execution
    since = "" if execution.started_at is None else f", since {span(scene.until(execution.started_at))}"
    limit = "" if execution.timeout is None else f", for {span(execution.timeout)} at most"
    found = [
        Finding(
            "running",
            f"Attempt {execution.attempts} of {execution.max_attempts} runs on executor"
            f" {execution.executor_id}{since}{limit}.",
        ),
        _lease(scene),
        *_silent_executor(scene),
    ]
    if execution.deliveries > 1:
        found.append(
            Finding(
                "redelivered",
                f"It is delivery {execution.deliveries} of {execution.max_deliveries}: those before ended with a lost"
                " lease. After the last it fails as poisoned.",
            )
        )
    return found + _progress(scene)


def _lease(scene: Scene) -> Finding:
    left = 0.0 if scene.execution.lease_expires_at is None else scene.until(scene.execution.lease_expires_at)
    if left > 0:
        return Finding("leased", f"Its lease has {span(left)} left, and is renewed while the executor lives.")
    advice = "" if scene.alive else "No executor is alive to do it; start one."
    return Finding(
        "lease_expired", f"Its lease ran out {span(left)} ago; the next upkeep of any executor takes it back.", advice
    )


def _silent_executor(scene: Scene) -> list[Finding]:
    row = next((row for row in scene.executors if row.id == scene.execution.executor_id), None)
    if row is not None and is_alive(row, scene.now):
        return []
    seen = "is not known (any more)" if row is None else f"was last seen {scene.ago(row.seen_at)}"
    return [
        Finding(
            "executor_silent",
            f"That executor {seen}. If it is dead, the lease ends by itself and another one takes over.",
        )
    ]


def _progress(scene: Scene) -> list[Finding]:
    execution = scene.execution
    if execution.progress is None:
        return []
    # A claim writes both times; a later change of a running record is a heartbeat of this attempt.
    is_current = execution.started_at is not None and execution.updated_at > execution.started_at
    when = scene.ago(execution.updated_at) if is_current else "from an earlier attempt"
    return [Finding("progress", f"Its last progress, {when}: {execution.progress}")]


def _waiting(scene: Scene) -> list[Finding]:
    execution = scene.execution
    if execution.kind is Kind.WORKFLOW:
        return [suspended(execution)]
    until = execution.wait_expires_at
    deadline = "for ever" if until is None else f"until {moment(until)}"
    found = [
        Finding(
            "waiting",
            f"It waits {deadline} for a wake-up of {execution.task_name!r} with the id {execution.sleeping_id!r}.",
            f"Call wakeup({execution.sleeping_id!r}, …) on that task.",
        )
    ]
    if until is not None and scene.until(until) <= 0:
        advice = "" if scene.alive else "No executor is alive to do it; start one."
        text = f"Its deadline passed {scene.ago(until)}; an executor's upkeep ends it as timed_out."
        found.insert(0, Finding("wait_expired", text, advice))
    return found


def _waiting_for_children(scene: Scene) -> Finding:
    execution = scene.execution
    listed = names([f"{child.id} ({child.task_name}, {child.status})" for child in scene.unfinished])
    return Finding(
        "waiting_for_children",
        f"It waits for {execution.active_children_count} of its {execution.children_count} children: "
        + (f"{listed}." if listed else "none of them was found unfinished."),
        "" if listed else _DOCTOR,
    )


def _waiting_for_finalize(scene: Scene) -> Finding:
    finalize = next((child for child in scene.unfinished if child.is_finalize), None)
    if finalize is None:
        return Finding(
            "waiting_for_finalize", "It waits for its finalize execution, which was not found unfinished.", _DOCTOR
        )
    return Finding(
        "waiting_for_finalize",
        f"All its children have finished; it waits for its finalize execution {finalize.id}"
        f" ({finalize.task_name}, {finalize.status}).",
    )
