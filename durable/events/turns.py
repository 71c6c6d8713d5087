"""What happened to a keyed job, by name: from the end of a turn, and from what its callers did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from durable.events.event import EventName
from durable.events.facts import Describer, Fact, TurnEnd
from durable.execution import Execution, Kind, Status
from durable.job import Job, JobCommit, JobKey, JobKind, JobStatus, TakenTurn, TurnCause
from durable.timer import TimerEnd

__all__ = ["TURNS", "fact_of_job", "facts_of_renewal"]


def fact_of_job(
    name: EventName, key: JobKey, data: Mapping[str, Any], *, error: str | None = None, state: str | None = None
) -> Fact:
    """A fact about a job; its instance id is what orders the facts."""
    return Fact(name, key.instance_id, key.kind, key.name, data, key=key.key, error=error, payload={"state": state})


def _of_turn(end: TurnEnd) -> Iterator[Fact]:
    """Nothing of a turn that had nothing to do, and nothing of one that was not taken."""
    if not isinstance(end.about, TakenTurn):
        return
    job, commit = end.about.job, end.settlement.job
    if end.settlement.status is Status.COMPLETED and commit is not None:
        if commit.runs and commit.status is not JobStatus.TERMINATED:
            yield from _accepted(end, end.about, commit)
        if commit.timer is not None and commit.timer.error is not None:
            yield _failed_timer(end, end.about, commit.timer)
    elif end.is_failure:
        yield from _failed(end, job)
    if commit is not None and commit.status is JobStatus.TERMINATED:
        data = {"reason": commit.reason, "run_count": job.run_count + commit.runs}
        yield fact_of_job(EventName.JOB_TERMINATED, job.job_key, data)


def facts_of_renewal(end: TurnEnd) -> Iterator[Fact]:
    """What happens too where a turn ends its job and events wait: they begin the next incarnation.

    The batch that they are of a Debounce was told of when the first of them came.
    """
    commit = end.settlement.job
    if not isinstance(end.about, TakenTurn) or commit is None or commit.status is not JobStatus.TERMINATED:
        return
    key = end.about.job.job_key
    if key.kind is JobKind.TASK:
        yield fact_of_job(EventName.JOB_STARTED, key, {})


def _accepted(end: TurnEnd, taken: TakenTurn, commit: JobCommit) -> Iterator[Fact]:
    job = taken.job
    state = commit.state if commit.writes_state else job.state
    yield fact_of_job(
        EventName.JOB_EXECUTED,
        job.job_key,
        _common(end, job) | _of_timer(taken) | {"run_count": job.run_count + commit.runs},
        state=state,
    )
    if job.kind is JobKind.DEBOUNCE and taken.events:
        data = _common(end, job) | {
            "event_count": len(taken.events),
            "reason": _flush_reason(taken, commit),
            "batch_id": taken.batch_id,
            "batch_age_ms": _milliseconds(taken.events[0].received_at, taken.now),
        }
        yield fact_of_job(EventName.DEBOUNCE_FLUSHED, job.job_key, data)
    if commit.planned_by is not None:
        data = {
            "trigger": commit.planned_by,
            "scheduled_at": None if commit.schedule_at is None else commit.schedule_at.isoformat(),
            "scheduled_in_s": commit.schedule_delay,
        }
        yield fact_of_job(EventName.TASK_SCHEDULED, job.job_key, data)


def _failed(end: TurnEnd, job: Job) -> Iterator[Fact]:
    will_retry = end.settlement.status is Status.READY
    data = _common(end, job) | {
        "run_count": job.run_count,
        "will_retry": will_retry,
        "retry_in_s": end.settlement.delay if will_retry else None,
    }
    yield fact_of_job(EventName.JOB_FAILED, job.job_key, data, error=end.settlement.error, state=job.state)
    if end.exhausted is not None and not will_retry:
        data = {"attempts": end.turn.attempts, "reason": end.exhausted}
        yield fact_of_job(EventName.JOB_RETRY_EXHAUSTED, job.job_key, data, error=end.settlement.error)


def _failed_timer(end: TurnEnd, taken: TakenTurn, timer: TimerEnd) -> Fact:
    """The turn of a timer is accepted, whatever its task raised."""
    job = taken.job
    data = {
        "run_count": job.run_count,
        "will_retry": not timer.is_final,
        "retry_in_s": None if timer.is_final else timer.delay,
    }
    data = _common(end, job) | _of_timer(taken) | data
    return fact_of_job(EventName.JOB_FAILED, job.job_key, data, error=timer.error)


def _of_timer(taken: TakenTurn) -> dict[str, Any]:
    timer = taken.timer
    if timer is None:
        return {}
    return {"timer_id": timer.id, "owner": timer.owner, "task_name": timer.task_name, "attempt": timer.attempt}


def _common(end: TurnEnd, job: Job) -> dict[str, Any]:
    return {
        "execution_id": end.turn.id,
        "epoch": job.epoch,
        "attempt": end.turn.attempts,
        "duration_ms": round(end.seconds * 1000, 3),
    }


def _flush_reason(taken: TakenTurn, commit: JobCommit) -> str:
    if taken.job.turn_cause is TurnCause.TRIGGER:
        return "manual"
    most = commit.policy.max_events
    return "max_events" if most is not None and len(taken.events) >= most else "flush_after"


def _milliseconds(since: datetime, until: datetime) -> float:
    return round((until - since).total_seconds() * 1000, 3)


def _of_record(record: Execution) -> Iterator[Fact]:
    """A turn that was recovered: its lease ran out. Its other ends are those of its job."""
    if record.kind is Kind.TURN and record.status is Status.READY:
        data = {"queue": record.queue, "root_id": record.root_id, "executor_id": record.executor_id}
        yield Fact(EventName.EXECUTION_RECOVERED, record.id, record.kind, record.task_name, data, error=record.error)


TURNS = Describer(_of_turn, _of_record)
