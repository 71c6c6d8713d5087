"""A table of 100,000 executions in given proportions, and the statistics that the planner has of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import psycopg

from durable.execution import FINISHED, CloseStatus, Status
from storage_postgres.statements import render

__all__ = ["Crowd", "Group", "Statistics", "fill"]

_FIRST_ID: Final = UUID("01900000-0000-7000-8000-000000000000").int
_INSERT: Final = """
insert into /*schema*/executions (
    id, root_id, parent_id, child_index, depth, kind, task_name, queue, input, max_attempts, max_deliveries,
    sleeping_id, idempotency_key, status, fence, attempts, deliveries, executor_id, needs_cancel, output,
    active_children_count, close_status, created_at, due_at, started_at, lease_expires_at, wait_expires_at, finished_at,
    close_lease_expires_at, updated_at)
select n.id, coalesce(n.parent_id, n.id), n.parent_id, g, (n.parent_id is not null)::integer, 'task', %(task_name)s,
    'default', '{}', 3, 5, case when %(status)s::text = 'waiting' then 'sleeper ' || g end,
    case when %(has_keys)s then 'key ' || g end, %(status)s::text, %(fence)s, %(fence)s, %(fence)s, 'executor-a',
    %(needs_cancel)s, '"done"', %(active_children)s, %(close_status)s::text, n.now - interval '1 hour', n.now + n.at,
    n.now - interval '1 minute', case when %(status)s::text = 'running' then n.now + n.at end,
    case when %(status)s::text = 'waiting' then n.now + n.at end, case when %(is_finished)s then n.now + n.at end,
    case when %(close_status)s::text = 'closing' then n.now + n.at end, n.now
from generate_series(%(first)s::integer, %(last)s::integer) as g
cross join lateral (
    select ('01900000-0000-7000-8000-' || lpad(to_hex(g), 12, '0'))::uuid as id,
        ('01900000-0000-7000-8000-' || lpad(to_hex(%(parents_from)s::integer + g %% %(parents)s::integer), 12, '0')
        )::uuid as parent_id,
        /*schema*/clock_now() as now,
        %(seconds)s::float * interval '1 second' + g * interval '1 microsecond' as at
) as n
"""


class Statistics(StrEnum):
    """What the table looked like when it was last analysed."""

    TRUE = "as it is"
    NONE_RUNNING = "before anything ran"
    EMPTY = "empty"
    BUSY = "while all was late"
    """Every execution was in a state that upkeep looks for, and none of them is there any more."""


@dataclass(frozen=True, slots=True)
class Group:
    """Executions that are alike. `seconds` from now is when they are due, late, expired or finished."""

    count: int
    status: Status
    seconds: float = -60.0
    close_status: CloseStatus | None = None
    active_children: int = 0
    parents: str | None = None
    """The name of the group whose members are the parents, in turn."""
    task_name: str = "task"
    needs_cancel: bool = False
    has_keys: bool = False

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED


class Crowd:
    """Where the members of each group of a filled table are found."""

    def __init__(self, schema: str, groups: dict[str, Group]) -> None:
        self.schema = schema
        self._groups = groups
        self._first: dict[str, int] = {}
        first = 1
        for name, group in groups.items():
            self._first[name] = first
            first += group.count

    @property
    def names(self) -> list[str]:
        return list(self._groups)

    def ids(self, name: str, count: int) -> list[str]:
        """The first `count` members, or all there are; none where there is no such group."""
        group = self._groups.get(name)
        if group is None:
            return []
        return [str(UUID(int=_FIRST_ID + self._first[name] + index)) for index in range(min(count, group.count))]

    def insert(self, connection: psycopg.Connection[Any], name: str) -> None:
        group = self._groups[name]
        first = self._first[name]
        values = asdict(group) | {
            "first": first,
            "last": first + group.count - 1,
            "fence": 0 if group.status is Status.READY else 1,
            "is_finished": group.is_finished,
            "close_status": group.close_status or ("closed" if group.is_finished else "idle"),
            "parents_from": self._first[group.parents] if group.parents else None,
            "parents": self._groups[group.parents].count if group.parents else 1,
        }
        values |= {"status": str(group.status), "close_status": str(values["close_status"])}
        connection.execute(render(_INSERT, self.schema), values)


def fill(connection: psycopg.Connection[Any], schema: str, groups: dict[str, Group], statistics: Statistics) -> Crowd:
    """Fill a migrated, empty schema. Its statistics stay as they are taken here: nothing analyses it later."""
    crowd = Crowd(schema, groups)
    analyze = render("analyze /*schema*/executions", schema)
    connection.execute(render("alter table /*schema*/executions set (autovacuum_enabled = off)", schema))
    if statistics is Statistics.BUSY:
        _insert_all(connection, Crowd(schema, _LATE))
        connection.execute(analyze)
        connection.execute(render("truncate /*schema*/executions", schema))
    if statistics is Statistics.EMPTY:
        connection.execute(analyze)
    late = [name for name, group in groups.items() if group.status is Status.RUNNING]
    for name in groups:
        if name not in late:
            crowd.insert(connection, name)
    if statistics is Statistics.NONE_RUNNING:
        connection.execute(analyze)
    for name in late:
        crowd.insert(connection, name)
    if statistics is Statistics.TRUE:
        connection.execute(analyze)
    return crowd


_LATE: Final = {
    "running": Group(1_000, Status.RUNNING),
    "waiting": Group(1_000, Status.WAITING),
    "ready": Group(1_000, Status.CANCELLED, close_status=CloseStatus.READY, needs_cancel=True),
    "closing": Group(1_000, Status.CANCELLED, close_status=CloseStatus.CLOSING, needs_cancel=True),
}


def _insert_all(connection: psycopg.Connection[Any], crowd: Crowd) -> None:
    for name in crowd.names:
        crowd.insert(connection, name)
