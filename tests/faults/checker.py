"""What a run must have left: judged from the records, the audit of their changes, the ledgers and the effects."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from durable.execution import FINISHED, Status
from durable.transitions import TRANSITIONS
from tests.faults.ledger import Event
from tests.faults.mix import Expected
from tests.faults.server import Database, wait_until

__all__ = [
    "Verdict",
    "effects_of_cut_attempts",
    "ended_twice",
    "fenced_writes",
    "illegal_changes",
    "judge",
    "open_records",
    "percentile",
]

_MOST_ATTEMPTS = {"flaky": 2, "doomed": 2}


class Verdict(NamedTuple):
    """What was found; `problems` names every one of them."""

    lost: list[str]
    duplicated: list[str]
    others: list[str]

    @property
    def problems(self) -> list[str]:
        return [*self.lost, *self.duplicated, *self.others]


def judge(database: Database, expected: Mapping[str, Expected], events: Iterable[Event]) -> Verdict:
    """Check everything but what is still open; see `open_records` for that."""
    known = list(events)
    return Verdict(
        lost=_lost(database, expected),
        duplicated=[*ended_twice(database), *_results_of_others(database), *_accepted_twice(known)],
        others=[
            *illegal_changes(database),
            *_fences_used_twice(known),
            *_too_many_attempts(known),
            *_missing_effects(database),
        ],
    )


def open_records(database: Database, *, within: float) -> int:
    """What is not at rest: unfinished or unclosed records, and counts that have drifted. Waits for it to settle."""

    def count() -> int:
        return int(
            database.value(
                "select count(*) from /*schema*/executions as e where e.finished_at is null"
                " or e.close_status <> 'closed' or e.lease_expires_at is not null or e.active_children_count <> ("
                " select count(*) from /*schema*/executions as c where c.parent_id = e.id and c.finished_at is null)"
            )
        )

    wait_until(lambda: not count(), limit=within, interval=0.2)
    return count()


def fenced_writes(events: Iterable[Event]) -> list[Event]:
    """Writes that were refused because others held the execution by then.

    A renewal or a heartbeat that the end of its own attempt has overtaken is refused as well, and is none of them.
    """
    writes = [event for event in events if event.kind == "write"]
    own_ends = {
        (event.pid, event.execution_id, event.fence)
        for event in writes
        if event.fields["accepted"] and event.fields["verb"] not in ("heartbeat", "renew")
    }
    return [
        event
        for event in writes
        if not event.fields["accepted"] and (event.pid, event.execution_id, event.fence) not in own_ends
    ]


def effects_of_cut_attempts(database: Database) -> int:
    """Effects of attempts whose end was never accepted: what runs at least once may run more than once."""
    return int(
        database.value(
            "select count(*) from /*schema*/effects as f where exists (select 1 from /*schema*/audit as a"
            " where a.execution_id = f.execution_id and a.fence_before = f.fence and a.status_before = 'running'"
            " and a.status = 'ready') and not exists (select 1 from /*schema*/executions as e"
            " where e.id = f.execution_id and (e.settled_fence = f.fence or e.kind = 'loop'))"
        )
    )


def _lost(database: Database, expected: Mapping[str, Expected]) -> list[str]:
    ends = {
        str(id_): (status, output)
        for id_, status, output in database.rows("select id, status, output from /*schema*/executions")
    }
    problems: list[str] = []
    for id_, wanted in expected.items():
        status, output = ends.get(id_, ("missing", None))
        if (status, _value(output)) != (wanted.status, wanted.value):
            problems.append(f"lost: {wanted.kind} {id_} is {status} with {output}, not {wanted.status} {wanted.value}")
    unfinished = [id_ for id_, (status, _) in ends.items() if status not in FINISHED]
    return problems + [f"lost: {id_} is {ends[id_][0]}" for id_ in unfinished if id_ not in expected]


def _value(output: str | None) -> Any:
    """The number in a result, whichever of its forms it has."""
    found = None if output is None else json.loads(output)
    while isinstance(found, dict):
        found = found["output"] if "output" in found else found["value"]
    return found


def ended_twice(database: Database) -> list[str]:
    """Executions whose end was written more than once."""
    rows = database.rows(
        "select execution_id, count(*) from /*schema*/audit where status = any(%s) and status_before <> status"
        " group by execution_id having count(*) > 1",
        list(FINISHED),
    )
    return [f"duplicated: {id_} ended {count} times" for id_, count in rows]


def _results_of_others(database: Database) -> list[str]:
    """Results that name the fence of their attempt must name the one whose end was accepted."""
    rows = database.rows(
        "select id, task_name, settled_fence, output from /*schema*/executions"
        " where status = 'completed' and output like '%%\"fence\":%%' and kind in ('task', 'loop')"
    )
    problems: list[str] = []
    for id_, name, settled_fence, output in rows:
        found = json.loads(output)
        fence = found.get("output", found)["fence"]
        if fence != settled_fence:
            problems.append(f"duplicated: {name} {id_} has the result of fence {fence}, accepted was {settled_fence}")
    return problems


def _accepted_twice(events: list[Event]) -> list[str]:
    accepted = Counter(
        event.execution_id
        for event in events
        if event.kind == "write" and event.fields["accepted"] and event.fields["verb"] in FINISHED
    )
    return [f"duplicated: {id_} had {count} accepted ends" for id_, count in accepted.items() if count > 1]


def illegal_changes(database: Database) -> list[str]:
    """Every change is one that the machine knows, and no fence ever goes back or stays where an attempt begins."""
    legal = {
        (str(before), str(after)) for before, by_event in TRANSITIONS.items() for s in by_event.values() for after in s
    }
    rows = database.rows(
        "select status_before, status, count(*), min(execution_id::text),"
        " bool_and(fence >= fence_before and (status <> 'running' or fence = fence_before + 1))"
        " from /*schema*/audit group by status_before, status"
    )
    problems = [
        f"illegal: {before} to {after}, {count} times, one of them {id_}"
        for before, after, count, id_, _ in rows
        if before != after and (before, after) not in legal
    ]
    return problems + [f"illegal: a fence that did not grow, {id_}" for *_, id_, grew in rows if not grew]


def _fences_used_twice(events: list[Event]) -> list[str]:
    starts = Counter((event.execution_id, event.fence) for event in events if event.kind == "start")
    return [f"fence {fence} of {id_} was run {count} times" for (id_, fence), count in starts.items() if count > 1]


def _too_many_attempts(events: list[Event]) -> list[str]:
    """A crash gives its attempt back, so however often they were killed, handlers see no attempt beyond the limit."""
    return [
        f"attempt {event.fields['attempt']} of {event.fields['task']} {event.execution_id}"
        for event in events
        if event.kind == "start" and event.fields["attempt"] > _MOST_ATTEMPTS.get(event.fields["task"], 1)
    ]


def _missing_effects(database: Database) -> list[str]:
    """A handler leaves its effect before it returns, so the accepted attempt's must be there."""
    rows = database.rows(
        "select e.id from /*schema*/executions as e where e.status = %s and e.task_name = any(%s) and not exists ("
        " select 1 from /*schema*/effects as f where f.execution_id = e.id and f.fence = e.settled_fence)",
        str(Status.COMPLETED), ["plain", "thread", "flaky", "step", "turns", "waker", "join"],
    )  # fmt: skip
    return [f"the effect of {id_} is missing" for (id_,) in rows]


def percentile(values: list[float], part: float) -> float | None:
    """The value that `part` of all do not exceed; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]
