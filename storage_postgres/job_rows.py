"""Turn driver tuples into jobs and what goes with them, and those into the columns of a statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from durable.execution import Status
from durable.job import (
    Job,
    JobCommit,
    JobKey,
    JobKind,
    JobStatus,
    JobView,
    NewEvent,
    NewTurn,
    StoredEvent,
    TakenTurn,
    TurnCause,
    TurnPolicy,
)
from durable.timer import REMEMBERED, Anchor, NewTimer, StoredTimer, TimerEnd
from storage_postgres.arrays import plain, texts

__all__ = ["commit_columns", "event_columns", "job", "key_columns", "key_params", "policy_columns", "taken_turns",
           "timer", "timer_end_columns", "timer_params", "turn_params", "view"]  # fmt: skip

_WIDTH = len(Job._fields)
_MOST_EVENTS = 10_000
"""So many events one turn takes at most, whatever the policy says: they are read into memory together."""


def job(row: Sequence[Any]) -> Job:
    record = Job._make(row[:_WIDTH])
    return record._replace(
        kind=JobKind(record.kind),
        status=JobStatus(record.status),
        turn_cause=None if record.turn_cause is None else TurnCause(record.turn_cause),
    )


def view(row: Sequence[Any]) -> JobView:
    status, *rest = row[_WIDTH:]
    return JobView(job(row), None if status is None else Status(status), *rest)


def taken_turns(rows: Sequence[Sequence[Any]], turn_ids: dict[str, str]) -> list[TakenTurn]:
    """One for each job, whose rows stand together, each with one of its events; `turn_ids` by job id."""
    taken: dict[str, TakenTurn] = {}
    events: dict[str, list[StoredEvent]] = {}
    for row in rows:
        now, due_at, batch_id, *event = row[_WIDTH:]
        if row[0] not in taken:
            record = job(row)
            shown = record if record.turn_cause is not None else record._replace(turn_cause=TurnCause.NOTHING)
            taken[row[0]] = TakenTurn(turn_ids[row[0]], shown, (), now, due_at, batch_id=batch_id)
            events[row[0]] = []
        if event[0] is not None:
            events[row[0]].append(StoredEvent(*event))
    return [turn._replace(events=tuple(events[id_])) for id_, turn in taken.items()]


def key_params(key: JobKey) -> dict[str, object]:
    return {"kind": key.kind.value, "name": key.name, "key": key.key}


def key_columns(keys: Sequence[JobKey]) -> dict[str, object]:
    return {
        "kind": plain(key.kind.value for key in keys),
        "name": texts(key.name for key in keys),
        "key": texts(key.key for key in keys),
    }


def turn_params(turn: NewTurn) -> dict[str, object]:
    return {
        "turn_id": turn.id,
        "task_name": turn.task_name,
        "task_version": turn.task_version,
        "queue": turn.queue,
        "priority": turn.priority,
        "max_attempts": turn.max_attempts,
        "timeout": turn.timeout,
    }


def turn_columns(turns: Sequence[NewTurn], id_name: str) -> dict[str, object]:
    return {
        id_name: plain(turn.id for turn in turns),
        "task_name": texts(turn.task_name for turn in turns),
        "task_version": plain(turn.task_version for turn in turns),
        "queue": texts(turn.queue for turn in turns),
        "priority": plain(turn.priority for turn in turns),
        "max_attempts": plain(turn.max_attempts for turn in turns),
        "timeout": plain(turn.timeout for turn in turns),
    }


def policy_columns(policies: Sequence[TurnPolicy]) -> dict[str, object]:
    return {
        "window": plain(policy.window for policy in policies),
        "max_wait": plain(policy.max_wait for policy in policies),
        "max_events": plain(
            _MOST_EVENTS if policy.max_events is None else min(policy.max_events, _MOST_EVENTS) for policy in policies
        ),
    }


def event_columns(events: Sequence[NewEvent]) -> dict[str, object]:
    return {
        **key_columns([event.key for event in events]),
        **policy_columns([event.policy for event in events]),
        **turn_columns([event.turn for event in events], "turn_id"),
        "job_id": plain(event.job_id for event in events),
        "event_id": texts(event.event_id for event in events),
        "payload": texts(event.payload for event in events),
        "state_version": plain(event.state_version for event in events),
        "dedupe_window": plain(event.dedupe_window for event in events),
    }


def commit_columns(commits: Sequence[tuple[str, JobCommit]]) -> dict[str, object]:
    """The columns of commits by the turns they belong to."""
    items = [commit for _, commit in commits]
    return {
        **policy_columns([item.policy for item in items]),
        **turn_columns([item.next_turn for item in items], "next_id"),
        "job_id": plain(item.job_id for item in items),
        "turn": plain(turn_id for turn_id, _ in commits),
        "status": plain(item.status.value for item in items),
        "reason": texts(item.reason for item in items),
        "writes_state": plain(item.writes_state for item in items),
        "state": texts(item.state for item in items),
        "state_version": plain(item.state_version for item in items),
        "runs": plain(item.runs for item in items),
        "executes": plain(item.executes for item in items),
        "error": texts(item.error for item in items),
        "writes_schedule": plain(item.writes_schedule for item in items),
        "schedule_delay": plain(item.schedule_delay for item in items),
        "schedule_at": texts(None if item.schedule_at is None else item.schedule_at.isoformat() for item in items),
        "events": plain(item.events.value for item in items),
    }


def timer(row: Sequence[Any]) -> StoredTimer:
    record = StoredTimer._make(row)
    return record._replace(anchor=Anchor(record.anchor))


def timer_params(new: NewTimer, turn: NewTurn) -> dict[str, object]:
    return {
        **new._asdict(),
        "kind": JobKind.TIMER.value,
        "job_name": new.job_name,
        "key": new.job_key,
        "remember": REMEMBERED,
        "anchor": new.anchor.value,
        "turn_id": turn.id,
        "turn_name": turn.task_name,
        "turn_version": turn.task_version,
        "turn_attempts": turn.max_attempts,
        "turn_timeout": turn.timeout,
    }


def timer_end_columns(ends: Sequence[TimerEnd]) -> dict[str, object]:
    return {
        "id": plain(end.id for end in ends),
        "error": texts(end.error for end in ends),
        "delay": plain(end.delay for end in ends),
        "attempt": plain(end.attempt for end in ends),
        "is_final": plain(end.is_final for end in ends),
    }
