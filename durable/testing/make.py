"""Builders of legal rows for a storage: new executions, children, and the settlements that no turn builds by itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from durable.callbacks import store_callback
from durable.execution import DEFAULT_QUEUE, Claimed, Kind, NewExecution, Settlement, Status

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
