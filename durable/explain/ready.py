"""Why what is ready is not claimed."""

from __future__ import annotations

from durable.execution import RECORD_VERSION, Kind, Phase
from durable.explain.scene import Finding, Scene, names
from durable.explain.words import error_of, moment, span
from durable.explain.workflows import is_suspended, look_inside, suspended

__all__ = ["executor_findings", "ready_findings"]


def ready_findings(scene: Scene) -> list[Finding]:
    """In the order in which the obstacles are met; the last says what happens next where there is none."""
    obstacles = [*_version(scene), *executor_findings(scene)]
    due = _due(scene)
    if not obstacles and not due:
        obstacles = _slots(scene) or [_next(scene)]
    return [*_previous_attempt(scene), *_phase(scene), *due, *obstacles]


def _phase(scene: Scene) -> list[Finding]:
    if scene.execution.phase is Phase.RUN:
        return []
    return [Finding("children_finished", "What it waited for below it has finished; its next turn takes that up.")]


def _previous_attempt(scene: Scene) -> list[Finding]:
    execution, error = scene.execution, error_of(scene.execution)
    if error is None:
        return []
    if error.type == "StepMismatch" and execution.kind is Kind.WORKFLOW:
        end = f"end it without undoing anything: durable cancel --force {execution.id}"
        advice = f"{look_inside(execution)}; {end}"
        return [Finding("mismatch", f"The code no longer fits it, so it is kept: {error}.", advice)]
    if error.type == "lease_expired":
        return [
            Finding(
                "recovered",
                f"An earlier run was lost with its executor {execution.executor_id or 'unknown'}"
                f" (delivery {execution.deliveries} of {execution.max_deliveries}): {error}.",
            )
        ]
    if execution.attempts == 0:
        return [Finding("redriven", f"It was made ready again after it had ended: {error}.")]
    return [
        Finding(
            "retrying",
            f"Attempt {execution.attempts} of {execution.max_attempts} failed: {error}."
            f" Attempt {execution.attempts + 1} comes next.",
        )
    ]


def _due(scene: Scene) -> list[Finding]:
    wait = scene.until(scene.execution.due_at)
    if wait <= 0:
        return []
    if is_suspended(scene.execution):
        return [suspended(scene.execution)]
    return [
        Finding(
            "not_due",
            f"It is due in {span(wait)}, at {moment(scene.execution.due_at)}; no executor takes it before.",
            ""
            if scene.execution.attempts or scene.execution.error
            else "Wait, or cancel it and enqueue it without a delay.",
        )
    ]


def _version(scene: Scene) -> list[Finding]:
    version = scene.execution.record_version
    if version <= RECORD_VERSION:
        return []
    return [
        Finding(
            "record_version",
            f"Its record is of version {version}; executors with this library know up to {RECORD_VERSION}"
            " and leave it alone.",
            "Upgrade durable where the executors run.",
        )
    ]


def executor_findings(scene: Scene) -> list[Finding]:
    """Whether any live executor would take it, whenever it is due; empty when one would."""
    execution = scene.execution
    start = f"Start one: durable executor module:app --queue {execution.queue}"
    if not scene.alive:
        return [Finding("no_executor", f"No executor is alive{_last_seen(scene)}.", start)]
    if not scene.serving:
        queues = sorted({queue for row in scene.alive for queue in row.queues})
        return [
            Finding(
                "no_executor_for_queue",
                f"No live executor serves its queue {execution.queue!r}; those alive serve {names(queues)}.",
                start,
            )
        ]
    if not scene.able:
        return [_unknown_task(scene)]
    return []


def _unknown_task(scene: Scene) -> Finding:
    execution = scene.execution
    elsewhere = sorted({queue for row in scene.alive if execution.task_name in row.task_names for queue in row.queues})
    if elsewhere:
        known = f" Executors that know it serve {names(elsewhere)}."
    else:
        known = f" They know {names(sorted({name for row in scene.serving for name in row.task_names})) or 'none'}."
    return Finding(
        "no_executor_for_task",
        f"No live executor of queue {execution.queue!r} knows its task {execution.task_name!r}; asked:"
        f" {names([row.id for row in scene.serving])}.{known}",
        f"Let an executor with --queue {execution.queue} import the module that declares {execution.task_name!r}.",
    )


def _last_seen(scene: Scene) -> str:
    if not scene.executors:
        return ""
    last = max(scene.executors, key=lambda row: row.seen_at)
    return f"; the last one, {last.id}, was seen {scene.ago(last.seen_at)}"


def _slots(scene: Scene) -> list[Finding]:
    if any(row.running < row.concurrency for row in scene.able):
        return []
    busy = names([f"{row.id} ({row.running} of {row.concurrency})" for row in scene.able])
    return [
        Finding(
            "slots_busy",
            f"All slots of the executors that may run it are busy: {busy}.",
            "It is claimed when one becomes free; more executors or a higher --concurrency make that sooner.",
        )
    ]


def _next(scene: Scene) -> Finding:
    return Finding(
        "claimable",
        f"It has been due for {span(scene.until(scene.execution.due_at))}, and nothing stands in its way:"
        f" {names([row.id for row in scene.able])} may take it.",
        "Look again: it is claimed within a poll interval, after what has a higher priority or was due earlier.",
    )
