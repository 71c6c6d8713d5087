"""The verbs of keyed jobs as plans.

One of several statements first holds the row of the job, so that the later ones see what was committed before, and
nothing else changes meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from durable.execution import Settlement, Status
from durable.job import (
    Appended,
    Cleared,
    EventEnd,
    Job,
    JobCommit,
    JobFilter,
    JobKey,
    JobKind,
    JobStatus,
    JobView,
    NewEvent,
    NewJob,
    NewTurn,
    Started,
    StoredEvent,
    TakenTurn,
    Triggered,
    TurnCause,
    TurnToTake,
    is_held,
)
from durable.notice import NewNotice
from storage_postgres import job_rows as to
from storage_postgres.arrays import plain
from storage_postgres.outbox import emit
from storage_postgres.plan import Plan, Query
from storage_postgres.timer_verbs import end_timers, take_timers


def start_job(new: NewJob) -> Plan[Started]:
    params = {
        **to.key_params(new.key),
        **to.turn_params(new.turn),
        "id": new.id,
        "state": new.state,
        "state_version": new.state_version,
        "delay": new.delay,
        "run_at": new.run_at,
    }
    while True:
        started = yield Query("start_job", params)
        if started:
            yield from emit(new.notices)
            return Started(to.job(started[0]), True)
        found = yield from get_jobs([new.key])
        # Not there and not inserted: it was ended, and its row not seen, between the two statements.
        if found[0] is not None:
            return Started(found[0].job, False)


def append_events(events: Sequence[NewEvent]) -> Plan[list[Appended]]:
    if not events:
        return []
    found = yield Query("append_events", {**to.event_columns(events), "waits": True})
    done = [Appended._make(row[1:]) for row in found]
    yield from _tell(events, done)
    return done


def _tell(events: Sequence[NewEvent], done: Sequence[Appended | None]) -> Plan[None]:
    """Store the notices that what became of the events makes true."""
    pairs = zip(events, done, strict=True)
    told = [event for event, each in pairs if each is not None and event.is_told(each)]
    yield from emit([notice for event in told for notice in event.notices])


def append_free_events(events: Sequence[NewEvent]) -> Plan[list[Appended | None]]:
    if not events:
        return []
    found = yield Query("append_events", {**to.event_columns(events), "waits": False})
    by_place = {row[0]: Appended._make(row[1:]) for row in found}
    done = [by_place.get(place) for place in range(1, len(events) + 1)]
    yield from _tell(events, done)
    return done


def trigger_job(key: JobKey, *, turn: NewTurn, only_pending: bool) -> Plan[Triggered]:
    job = yield from _lock(key)
    if job is None:
        return Triggered(None, False, None)
    is_running = yield from _is_running(job)
    taken = 0 if is_running else (yield from _taken_count(job))
    if only_pending and not job.pending_count and not taken:
        return Triggered(job, False, None)
    if taken:
        return (yield from _behind_events(job, turn, taken, is_for_events=only_pending))
    return (yield from _run_now(job, turn, is_running, is_trigger=True))


def _behind_events(job: Job, turn: NewTurn, taken_count: int, *, is_for_events: bool) -> Plan[Triggered]:
    """What a trigger does to a turn that has taken events and waits for an attempt: that stays the same turn."""
    moved = yield Query("bring_forward", {"id": job.turn_id, "always": is_for_events})
    params = {**to.turn_params(turn), "id": job.id, "is_running": True, "is_trigger": not is_for_events}
    (row,) = yield Query("trigger_job", params)
    # Not moved, it may have been claimed since it was looked at: then it runs for these events.
    queue = moved[0][0] if moved else None
    return Triggered(to.job(row), not is_for_events, queue, taken_count if is_for_events else 0)


def _run_now(job: Job, turn: NewTurn, is_running: bool, *, is_trigger: bool) -> Plan[Triggered]:
    queue: str | None = None
    if job.turn_id is not None and not is_running:
        # A claim needs no row of a job, so the turn may have been claimed since it was looked at.
        moved = yield Query("trigger_turn", {"id": job.turn_id})
        queue = moved[0][0] if moved else None
        is_running = not moved
    params = {**to.turn_params(turn), "id": job.id, "is_running": is_running, "is_trigger": is_trigger}
    (row,) = yield Query("trigger_job", params)
    # One that has been claimed and not taken serves this trigger.
    is_running = is_running and job.turn_cause is not None
    return Triggered(to.job(row), is_running, queue or row[-1])


def end_job(key: JobKey, *, reason: str | None, error: str, notices: Sequence[NewNotice] = ()) -> Plan[Job | None]:
    job = yield from _lock(key)
    if job is None:
        return None
    yield from _cancel_turn(job, error, "job_ended")
    yield Query("empty_inbox", {"id": job.id, "is_all": True})
    yield Query("end_job", {"id": job.id, "status": JobStatus.TERMINATED.value, "reason": reason})
    yield from emit(notices)
    return job


def clear_job(key: JobKey, *, error: str) -> Plan[Cleared | None]:
    job = yield from _lock(key)
    if job is None:
        return None
    taken = yield from _taken_count(job)
    discarded = len((yield Query("empty_inbox", {"id": job.id, "is_all": False})))
    if taken or discarded < job.pending_count:
        yield Query("count_pending", {"id": job.id})
        return Cleared(job, True, discarded)
    yield from _cancel_turn(job, error, "job_cleared")
    ((has_dead,),) = yield Query("has_dead_events", {"id": job.id})
    if has_dead:
        # It lives on: retention would delete its dead events with a tombstone.
        yield Query("idle_job", {"id": job.id})
    else:
        yield Query("end_job", {"id": job.id, "status": JobStatus.CLEARED.value, "reason": None})
    return Cleared(job, False, discarded)


def pause_job(key: JobKey, *, error: str) -> Plan[Job | None]:
    job = yield from _lock(key)
    if job is None or not (job.status is JobStatus.ACTIVE or is_held(job)):
        return job
    if job.turn_id is None or (yield from _is_running(job)):
        (row,) = yield Query("pause_job", {"id": job.id, "is_running": job.turn_id is not None})
        return to.job(row)
    return (yield from _hold_turn(job.id, job.turn_id, error))


def _hold_turn(job_id: str, turn_id: str, error: str) -> Plan[Job]:
    """The job, paused, without its live turn, which is cancelled; what that took and was for is there for the next."""
    yield Query("return_events", {"id": job_id, "turn": turn_id, "is_dead": False})
    (row,) = yield Query("pause_job", {"id": job_id, "is_running": False})
    # Only now: the job keeps the error of the attempt before.
    yield Query("cancel_turn", {"id": turn_id, "error": error, "reason": "paused"})
    return to.job(row)


def resume_job(key: JobKey, *, turn: NewTurn) -> Plan[Job | None]:
    job = yield from _lock(key)
    if job is None or job.status is not JobStatus.PAUSED:
        return job
    (row,) = yield Query("resume_job", {**to.turn_params(turn), "id": job.id, "always": job.kind == "continuous"})
    return to.job(row)


def redrive_job(key: JobKey, *, turn: NewTurn) -> Plan[Triggered]:
    found = yield Query("lock_job", to.key_params(key))
    if not found:
        return Triggered(None, False, None)
    job = to.job(found[0])
    ((has_dead,),) = yield Query("has_dead_events", {"id": job.id})
    if not has_dead and job.status is not JobStatus.FAILED:
        return Triggered(None, False, None)
    if job.ended_at is not None:
        (row,) = yield Query("begin_again", {"id": job.id})
        job = to.job(row)
    # A turn that has begun keeps its events and gets no others, also between attempts; another follows it.
    has_begun = job.turn_cause is not None or (yield from _is_running(job))
    done = yield from _run_now(job, turn, has_begun, is_trigger=job.kind is not JobKind.TASK)
    # Only now: an active job with pending events must have a turn.
    yield Query("return_events", {"id": job.id, "turn": None, "is_dead": True})
    return done._replace(job=(yield from _lock(key)))


def take_turns(turns: Sequence[TurnToTake], *, error: str) -> Plan[list[TakenTurn]]:
    """`error` is that of turns which are ended because their job is paused."""
    if not turns:
        return []
    pairs = {"id": plain(turn.turn_id for turn in turns), "fence": plain(turn.fence for turn in turns)}
    locked = yield Query("lock_turn_jobs", pairs)
    ended: list[TakenTurn] = []
    for turn_id, _, job_id, is_kept in sorted(locked):  # executions are locked in the order of their ids
        if is_kept:
            job = yield from _hold_turn(job_id, turn_id, error)
            ended.append(TakenTurn(turn_id, job._replace(turn_cause=TurnCause.NOTHING), (), job.updated_at, None))
    held: dict[str, str] = {turn_id: job_id for turn_id, _, job_id, is_kept in locked if not is_kept}
    current = {(turn_id, fence) for turn_id, fence, _, is_kept in locked if not is_kept}
    taken = [turn for turn in turns if (turn.turn_id, turn.fence) in current]
    if not taken:
        return ended
    params = {
        "job_id": plain(held[turn.turn_id] for turn in taken),
        **to.policy_columns([turn.policy for turn in taken]),
    }
    yield Query("take_turns", params)
    rows = yield Query("taken_turns", params)
    found = to.taken_turns(rows, {job_id: turn_id for turn_id, job_id in held.items()})
    return [*ended, *(yield from take_timers(found))]


def hold_jobs(settlements: Sequence[Settlement]) -> Plan[frozenset[str]]:
    """Hold the jobs that turns end for and send to; gives the ids of the turns for which that was not possible."""
    ends = {item.id: item.job for item in settlements if item.job is not None}
    targets = [event.key for commit in ends.values() for event in commit.sends]
    locked = yield Query(
        "lock_jobs",
        {**to.key_columns(sorted(set(targets))), "id": plain(sorted({commit.job_id for commit in ends.values()}))},
    )
    held = {id_ for (id_,) in locked}
    unheld = yield from _unheld(targets, held)
    return frozenset(
        turn_id
        for turn_id, commit in ends.items()
        if commit.job_id not in held or any(event.key in unheld for event in commit.sends)
    )


def _unheld(keys: Sequence[JobKey], held: set[str]) -> Plan[set[JobKey]]:
    """Those of keys whose job exists and is not held."""
    wanted = sorted(set(keys))
    if not wanted:
        return set()
    params = {**to.key_columns(wanted), "position": plain(range(len(wanted)))}
    return {wanted[position] for id_, position in (yield Query("known_jobs", params)) if id_ not in held}


def commit_jobs(commits: Mapping[str, JobCommit]) -> Plan[tuple[frozenset[str], float | None]]:
    """Write accepted ends of turns to their jobs, which are held.

    Gives the queues with something to claim, and the seconds until the first of the later turns.
    """
    yield from end_timers([commit.timer for commit in commits.values() if commit.timer is not None])
    ((queues, _, soonest, renewed),) = yield Query("commit_jobs", to.commit_columns(list(commits.items())))
    if renewed:
        yield Query("renew_inboxes", {"job_id": plain(renewed)})
        begun = [commit for commit in commits.values() if commit.job_id in renewed]
        yield from emit([notice for commit in begun for notice in commit.renewal])
    sends = [event for commit in commits.values() for event in commit.sends]
    appended = yield from append_events(sends)
    return frozenset(queues) | {done.ready_queue for done in appended if done.ready_queue is not None}, soonest


def get_jobs(keys: Sequence[JobKey]) -> Plan[list[JobView | None]]:
    if not keys:
        return []
    views = [to.view(row) for row in (yield Query("get_jobs", to.key_columns(keys)))]
    found = {view.job.job_key: view for view in views}
    return [found.get(key) for key in keys]


def list_jobs(where: JobFilter, *, limit: int, after: JobKey | None) -> Plan[list[JobView]]:
    params = {
        **_filter(where),
        "limit": limit,
        "after_kind": after.kind.value if after else None,
        "after_name": after.name if after else None,
        "after_key": after.key if after else None,
    }
    return [to.view(row) for row in (yield Query("list_dead_jobs" if where.has_dead else "list_jobs", params))]


def count_jobs(where: JobFilter) -> Plan[int]:
    ((count,),) = yield Query("count_dead_jobs" if where.has_dead else "count_jobs", _filter(where))
    assert isinstance(count, int)
    return count


def _filter(where: JobFilter) -> dict[str, object]:
    return {
        "kind": where.kind,
        "name": where.name,
        "key_prefix": where.key_prefix,
        "statuses": None if where.statuses is None else plain(where.statuses),
        "kinds": None if where.kinds is None else plain(kind.value for kind in where.kinds),
        "has_turn": where.has_turn,
        "has_dead": where.has_dead,
    }


def pending_events(key: JobKey) -> Plan[list[StoredEvent]]:
    return [StoredEvent._make(row) for row in (yield Query("pending_events", to.key_params(key)))]


def event_end(key: JobKey, event_id: str) -> Plan[EventEnd | None]:
    found = yield Query("event_end", {**to.key_params(key), "event_id": event_id})
    return EventEnd._make(found[0]) if found else None


def forget_events(*, limit: int) -> Plan[int]:
    return len((yield Query("forget_events", {"limit": limit})))


def _lock(key: JobKey) -> Plan[Job | None]:
    """The job, held; None where none lives."""
    found = yield Query("lock_job", to.key_params(key))
    job = to.job(found[0]) if found else None
    return None if job is None or job.ended_at is not None else job


def _is_running(job: Job) -> Plan[bool]:
    """Whether the live turn runs; False without one."""
    if job.turn_id is None:
        return False
    return (yield Query("turn_of", {"id": job.turn_id})) == [(Status.RUNNING.value,)]


def _taken_count(job: Job) -> Plan[int]:
    """How many events the live turn has taken; 0 without one."""
    if job.turn_id is None or job.turn_cause is None:
        return 0
    ((count,),) = yield Query("taken_count", {"turn": job.turn_id})
    return int(count)


def _cancel_turn(job: Job, error: str, reason: str) -> Plan[None]:
    if job.turn_id is not None:
        yield Query("cancel_turn", {"id": job.turn_id, "error": error, "reason": reason})
