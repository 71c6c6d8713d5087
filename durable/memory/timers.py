"""Set, cancel and list timers in memory."""

from __future__ import annotations

from datetime import datetime, timedelta

from durable.job import ENDED, Job, JobKey, JobKind, JobStatus, NewTurn
from durable.memory.jobs_append import incarnation
from durable.memory.jobs_inbox import known_event, put_events
from durable.memory.jobs_operate import tombstone
from durable.memory.jobs_turns import insert_turn, is_untried, job_under, live_turn, put_job
from durable.memory.store import EventStatus, InboxEvent, Transaction
from durable.memory.timer_rows import first_timer
from durable.timer import REMEMBERED, NewTimer, StoredTimer, TimerFilter, TimerSet

__all__ = ["cancel_timers", "list_timers", "set_timer"]


def set_timer(tx: Transaction, new: NewTimer, *, turn: NewTurn) -> TimerSet:
    known = tx.timers.get(new.id)
    if known is not None:
        return TimerSet(known, None)
    key = JobKey(JobKind.TIMER, new.job_name, new.job_key)
    job = job_under(tx, key)
    if job is not None and known_event(tx, job.id, new.id) is not None:
        return TimerSet(_stored(tx, new, job.id), None)
    if job is None or job.status in ENDED:
        event_count = 0 if job is None else job.event_count
        job = incarnation(tx, key, new.job_id, job)._replace(event_count=event_count)
    job = put_job(tx, _remembering(tx, job, new.id))
    if new.name is not None:
        cancel_timers(tx, TimerFilter(owner=new.owner, name=new.name), keeps=job.id)
    timer = _stored(tx, new, job.id)
    tx.timers.put(timer.id, timer)
    if job.turn_id is None and job.status is JobStatus.ACTIVE:
        job, _ = insert_turn(tx, job, turn, timer.due_at)
    return TimerSet(timer, _plan(tx, job))


def _remembering(tx: Transaction, job: Job, timer_id: str) -> Job:
    """The job with the id of a timer, as it would be that of an event."""
    number, until = job.event_count + 1, tx.now + timedelta(seconds=REMEMBERED)
    put_events(tx, job.id, [InboxEvent(job.epoch, number, timer_id, "null", tx.now, until, EventStatus.CONSUMED, None)])
    return job._replace(event_count=number)


def _stored(tx: Transaction, new: NewTimer, job_id: str) -> StoredTimer:
    return StoredTimer(
        id=new.id,
        job_id=job_id,
        owner=new.owner,
        name=new.name,
        task_name=new.task_name,
        input=new.input,
        queue=new.queue,
        priority=new.priority,
        timeout=new.timeout,
        due_at=new.run_at if new.run_at is not None else tx.now + timedelta(seconds=new.delay),
        interval=new.interval,
        anchor=new.anchor,
        retry_interval=new.retry_interval,
        attempt=0,
        error=None,
        created_at=tx.now,
        updated_at=tx.now,
        is_sequential=new.is_sequential,
        is_failed=False,
    )


def _plan(tx: Transaction, job: Job) -> str | None:
    """Plan the first timer of a job, and move its turn there unless that has been tried; gives its queue if due."""
    if job.status in ENDED:
        return None  # what is left of it are timers that failed for good
    first, turn = first_timer(tx, job.id), live_turn(tx, job)
    is_movable = turn is not None and is_untried(job, turn)
    if first is None:
        if turn is not None and is_movable:
            tx.executions.remove(turn.id)
            job = job._replace(turn_id=None)
        job = job._replace(scheduled_at=None)
        put_job(tx, job if job.turn_id is not None else tombstone(tx, job, JobStatus.TERMINATED, None))
        return None
    if turn is not None and is_movable:
        due_at = max(first.due_at, tx.now)
        tx.put(turn._replace(due_at=due_at, queue=first.queue, priority=first.priority, updated_at=tx.now))
    put_job(tx, job._replace(scheduled_at=first.due_at))
    return first.queue if is_movable and first.due_at <= tx.now else None


def cancel_timers(tx: Transaction, where: TimerFilter, *, keeps: str | None = None) -> int:
    """`keeps` is the id of a job that is not planned anew, because it gets another timer."""
    found = _found(tx, where)
    for timer in found:
        tx.timers.remove(timer.id)
    for job_id in {timer.job_id for timer in found} - {keeps}:
        job = tx.jobs.get(job_id)
        assert job is not None
        _plan(tx, job)
    return len(found)


def list_timers(
    tx: Transaction, where: TimerFilter, *, limit: int, after: tuple[datetime, str] | None
) -> list[StoredTimer]:
    found = [timer for timer in _found(tx, where) if after is None or (timer.due_at, timer.id) > after]
    return found[: max(limit, 0)]


def _found(tx: Transaction, where: TimerFilter) -> list[StoredTimer]:
    if where.id is not None:
        timer = tx.timers.get(where.id)
        return [timer] if timer is not None else []
    if where.name is not None:
        return list(tx.timers.find("named", (where.owner, where.name)))
    return list(tx.timers.find("of_owner", where.owner))
