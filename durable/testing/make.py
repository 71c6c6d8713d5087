"""Builders of legal rows for a storage: new executions, children, jobs, their events, and what their turns commit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from durable.callbacks import store_callback
from durable.execution import DEFAULT_QUEUE, Claimed, Kind, NewExecution, Settlement, Status
from durable.job import EventsEnd, JobCommit, JobKey, JobStatus, NewEvent, NewJob, NewTurn, TurnPolicy
from durable.notice import NewNotice
from durable.timer import Anchor, NewTimer

__all__ = ["Maker"]

_FIRST_ID: Final = UUID("01900000-0000-7000-8000-000000000000").int


class Maker:
    """Makes rows whose ids are UUIDs in order of making, the same ones in every run.

    Two makers that write to one store need different `series`. Keyword arguments of the builders are fields of
    NewExecution and win over what the builder would choose.
    """

    def __init__(self, *, series: int = 0, task_name: str = "task", queue: str = DEFAULT_QUEUE) -> None:
        self._next = _FIRST_ID + (series << 48)
        self._task_name = task_name
        self._queue = queue

    def id(self) -> str:
        self._next += 1
        return str(UUID(int=self._next))

    def row(self, **fields: Any) -> NewExecution:
        """One root that runs as soon as it is claimed."""
        id_ = fields.get("id") or self.id()
        row = NewExecution(
            id=id_,
            root_id=id_,
            parent_id=None,
            child_index=None,
            is_finalize=False,
            depth=0,
            kind=Kind.TASK,
            task_name=self._task_name,
            task_version=1,
            queue=self._queue,
            priority=0,
            input="{}",
            idempotency_key=None,
            idempotency_hash=None,
            sleeping_id=None,
            retry=None,
            max_attempts=3,
            max_deliveries=5,
            timeout=None,
            delay=0.0,
            run_at=None,
        )
        return row._replace(**fields)

    def rows(self, count: int, **fields: Any) -> list[NewExecution]:
        return [self.row(**fields) for _ in range(count)]

    def sleeper(self, sleeping_id: str, **fields: Any) -> NewExecution:
        """A sleeping task; `timeout` is its deadline in seconds from now, None for none."""
        return self.row(**{"kind": Kind.SLEEPING, "sleeping_id": sleeping_id, **fields})

    def callback(self, *, when: Iterable[Status] | None = None, is_within: bool = False, **fields: Any) -> str:
        """The `on_complete` of a row: a call of the task `callback`, or what the fields say of it."""
        row = self.row(**{"task_name": "callback", **fields})
        return store_callback(row, when=when, context='"context"', is_within=is_within)

    def child(self, parent: Claimed, index: int = 0, **fields: Any) -> NewExecution:
        links = {"root_id": parent.root_id, "parent_id": parent.id, "child_index": index, "depth": parent.depth + 1}
        return self.row(**{"queue": parent.queue, "priority": parent.priority, **links, **fields})

    def children(self, parent: Claimed, count: int, **fields: Any) -> tuple[NewExecution, ...]:
        return tuple(self.child(parent, index, **fields) for index in range(count))

    def finalize(self, parent: Claimed, **fields: Any) -> NewExecution:
        return self.child(parent, 0, **{"is_finalize": True, **fields})

    def suspension(self, turn: Claimed) -> Settlement:
        """The turn ends by waiting for a wake-up or a deadline."""
        return Settlement(
            turn.id, turn.fence, Status.WAITING, turn.phase, 0, 0, turn.iteration, 0.0, None, turn.run_output,
            turn.error, None,
        )  # fmt: skip

    # --- jobs ------------------------------------------------------------------------------------------------

    def new_turn(self, **fields: Any) -> NewTurn:
        id_ = fields.get("id") or self.id()
        turn = NewTurn(
            id=id_, task_name="turn", task_version=1, queue=self._queue, priority=0, max_attempts=3, timeout=None
        )
        return turn._replace(**fields)

    def new_job(self, key: JobKey, **fields: Any) -> NewJob:
        """A job whose first turn is due at once, with `null` as its state."""
        job = NewJob(
            id=fields.get("id") or self.id(),
            key=key,
            state="null",
            state_version=1,
            delay=0.0,
            run_at=None,
            turn=fields.get("turn") or self.new_turn(),
        )
        return job._replace(**fields)

    def event(self, key: JobKey, **fields: Any) -> NewEvent:
        """An event without an id, due at once."""
        event = NewEvent(
            key=key,
            job_id=fields.get("job_id") or self.id(),
            event_id=None,
            payload="{}",
            state_version=1,
            policy=TurnPolicy(),
            dedupe_window=60.0,
            turn=fields.get("turn") or self.new_turn(),
        )
        return event._replace(**fields)

    def events(self, key: JobKey, count: int, **fields: Any) -> list[NewEvent]:
        """Their payloads are 1, 2, …"""
        return [self.event(key, payload=str(number), **fields) for number in range(1, count + 1)]

    def job_commit(self, job_id: str, **fields: Any) -> JobCommit:
        """A turn that ran once, consumed its events, and leaves state and plan as they are."""
        commit = JobCommit(
            job_id=job_id,
            status=JobStatus.ACTIVE,
            reason=None,
            writes_state=False,
            state=None,
            state_version=1,
            runs=1,
            executes=0,
            error=None,
            writes_schedule=False,
            schedule_delay=None,
            schedule_at=None,
            events=EventsEnd.CONSUMED,
            policy=TurnPolicy(),
            next_turn=fields.get("next_turn") or self.new_turn(),
        )
        return commit._replace(**fields)

    def timer(self, owner: str = "owner", **fields: Any) -> NewTimer:
        """A timer that fires once, at once."""
        timer = NewTimer(
            id=fields.get("id") or self.id(),
            job_id=self.id(),
            owner=owner,
            name=None,
            task_name=self._task_name,
            input="[]",
            queue=self._queue,
            priority=0,
            timeout=None,
            delay=0.0,
            run_at=None,
            interval=None,
            anchor=Anchor.COMPLETION,
            retry_interval=60.0,
            is_sequential=True,
        )
        return timer._replace(**fields)

    def notice(self, subscriber: str = "subscriber", **fields: Any) -> NewNotice:
        """One event for one subscriber; unless told otherwise, about a subject of its own."""
        notice = NewNotice(
            subscriber=subscriber,
            id=self.id(),
            name="execution.completed",
            subject=self.id(),
            kind=Kind.TASK,
            task_name=self._task_name,
            key=None,
            data="{}",
            error=None,
            payload=None,
        )
        return notice._replace(**fields)
