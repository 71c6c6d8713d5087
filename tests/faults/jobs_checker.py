"""What a jobs run must have left: judged from the tables, their audit, and the ledgers of client and handlers."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.faults.checker import ended_twice, illegal_changes
from tests.faults.jobs_audit import unscheduled
from tests.faults.ledger import Event
from tests.faults.server import Database

__all__ = ["RULES", "JobsVerdict", "judge_jobs"]

RULES = (
    "runs", "events_lost", "events_doubled", "events_unknown", "overlaps", "unscheduled", "states", "numbers",
    "changes", "calls",
)  # fmt: skip
_SLACK = 0.25
"""Seconds by which the server's clock and the client's may differ in what they say about the same moment."""

Incarnation = tuple[str, int]
"""An instance and its epoch."""


class Turn(NamedTuple):
    """One start of a handler, from the ledger."""

    id: str
    fence: int
    incarnation: Incarnation
    events: tuple[str, ...]
    add: int
    executes: bool
    ends: bool
    """Its handler terminated the job."""
    began: int
    ended: int
    alone: bool


class Inserted(NamedTuple):
    """One event as the inbox took it."""

    incarnation: Incarnation
    number: int
    uid: str
    deleted_at: float | None
    """When it was thrown away, by the server's clock; None: it was not."""
    waits: bool
    """It is in the inbox still; that it has a turn is looked at elsewhere."""


@dataclass
class JobsVerdict:
    violations: dict[str, list[str]]
    events: int
    turns: int
    thrown_away: int
    lost_leases: int
    """Attempts that ran on when another had begun, because their lease had run out in a process that lived."""

    @property
    def problems(self) -> list[str]:
        return [problem for found in self.violations.values() for problem in found]


def judge_jobs(database: Database, events: Iterable[Event], deaths: Mapping[int, int]) -> JobsVerdict:
    """Judge a run at rest. `deaths` has the moment before each kill by process id, on the ledger's clock."""
    return _Judge(database, list(events), deaths).verdict()


@dataclass
class _Calls:
    """What the client asked for, by call."""

    uids: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """First call and last answer for an event of an instance."""
    clears: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    ends: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    reasons: set[str] = field(default_factory=set)
    unanswered: list[str] = field(default_factory=list)


class _Judge:
    def __init__(self, database: Database, events: list[Event], deaths: Mapping[int, int]) -> None:
        self._database = database
        self._events = events
        self._violations: dict[str, list[str]] = {rule: [] for rule in RULES}
        ends = database.rows("select id::text, settled_fence from /*schema*/executions where status = 'completed'")
        self._settled = {(str(id_), fence) for id_, fence in ends}
        self._turns = _turns(events, deaths)
        self._accepted = [turn for turn in self._turns if (turn.id, turn.fence) in self._settled]
        self._by_incarnation: dict[Incarnation, list[Turn]] = defaultdict(list)
        for turn in self._accepted:
            self._by_incarnation[turn.incarnation].append(turn)
        self._jobs = _jobs(database)
        self._inserted = _inserted(database)
        self._calls = _calls(events)
        self._lost_leases = 0

    def verdict(self) -> JobsVerdict:
        self._judge_runs()
        self._judge_states()
        self._judge_numbers()
        thrown_away = self._judge_events()
        self._judge_senders()
        self._judge_overlaps()
        self._violations["unscheduled"] += unscheduled(self._database)
        self._violations["changes"] += [*ended_twice(self._database), *illegal_changes(self._database)]
        wrong = [f"calls: {event.fields['text']}" for event in self._events if event.kind == "wrong"]
        self._violations["calls"] += wrong + [f"calls: {call} was never answered" for call in self._calls.unanswered]
        return JobsVerdict(self._violations, len(self._inserted), len(self._accepted), thrown_away, self._lost_leases)

    def _broken(self, rule: str, text: str) -> None:
        self._violations[rule].append(f"{rule}: {text}")

    # --- turns ---------------------------------------------------------------------------------------------

    def _judge_runs(self) -> None:
        """The counter of a job has grown once for each accepted turn, and in its commit."""
        counted: dict[Incarnation, Counter[str]] = defaultdict(Counter)
        for instance, epoch, turn_id, runs in self._database.rows(
            "select instance, epoch_before, coalesce(turn_before::text, 'no turn'), runs - runs_before"
            " from /*schema*/job_audit where runs > runs_before"
        ):
            counted[instance, epoch][turn_id] += runs
        for incarnation in sorted({*counted, *self._by_incarnation}):
            accepted = Counter(turn.id for turn in self._by_incarnation[incarnation])
            for turn_id in sorted((accepted - counted[incarnation]) + (counted[incarnation] - accepted)):
                self._broken(
                    "runs", f"{_name(incarnation)} counts turn {turn_id} {counted[incarnation][turn_id]} times, "
                    f"it was accepted {accepted[turn_id]} times",
                )  # fmt: skip
        for job in self._jobs.values():
            turns = self._by_incarnation[job.incarnation]
            executes = sum(turn.executes for turn in turns)
            if (job.runs, job.executes) != (len(turns), executes):
                self._broken(
                    "runs", f"{_name(job.incarnation)} says {job.runs} runs and {job.executes} executes, "
                    f"accepted were {len(turns)} and {executes}",
                )  # fmt: skip

    def _judge_states(self) -> None:
        """The last state of every incarnation is what its accepted turns have added up."""
        rows = self._database.rows("select instance, epoch_before, state from /*schema*/job_audit order by seq")
        states: dict[Incarnation, str | None] = {(instance, epoch): state for instance, epoch, state in rows}
        states |= {job.incarnation: job.state for job in self._jobs.values()}
        for incarnation, state in states.items():
            found = None if state is None else json.loads(state)
            wanted = _wanted_state(incarnation[0], self._by_incarnation[incarnation])
            if found != wanted:
                self._broken("states", f"{_name(incarnation)} is {found}, its accepted turns come to {wanted}")

    def _judge_overlaps(self) -> None:
        ran_out = {
            (str(id_), fence)
            for id_, fence in self._database.rows(
                "select execution_id::text, fence_before from /*schema*/audit"
                " where status_before = 'running' and status = 'ready'"
            )
        }
        groups: dict[Incarnation, list[Turn]] = defaultdict(list)
        for turn in self._turns:
            groups[turn.incarnation].append(turn)
        for incarnation, turns in groups.items():
            turns.sort(key=lambda turn: turn.began)
            for number, turn in enumerate(turns):
                met = [before for before in turns[:number] if before.ended > turn.began]
                is_excused = bool(met) and all((before.id, before.fence) in ran_out for before in met)
                if is_excused:
                    self._lost_leases += 1
                elif met or not turn.alone:
                    others = ", ".join(f"{other.id} fence {other.fence}" for other in met) or "a lock that is held"
                    self._broken("overlaps", f"{_name(incarnation)}: {turn.id} fence {turn.fence} met {others}")

    # --- events --------------------------------------------------------------------------------------------

    def _judge_numbers(self) -> None:
        numbers: dict[Incarnation, list[int]] = defaultdict(list)
        for item in self._inserted:
            numbers[item.incarnation].append(item.number)
        for incarnation, found in numbers.items():
            if sorted(found) != list(range(1, len(found) + 1)):
                self._broken("numbers", f"{_name(incarnation)} numbered its events {sorted(found)}")
        for job in self._jobs.values():
            if job.events != len(numbers[job.incarnation]):
                self._broken(
                    "numbers", f"{_name(job.incarnation)} counts {job.events} events, "
                    f"{len(numbers[job.incarnation])} were inserted",
                )  # fmt: skip

    def _judge_events(self) -> int:
        """Each event that an inbox took is in one accepted turn, or was thrown away by an end that was acknowledged."""
        taken = Counter((turn.incarnation, uid) for turn in self._accepted for uid in turn.events)
        ends = self._ends()
        thrown_away = 0
        for item in self._inserted:
            count = taken.pop((item.incarnation, item.uid), 0)
            text = f"event {item.uid} of {_name(item.incarnation)}"
            if count > 1:
                self._broken("events_doubled", f"{text} is in {count} accepted turns")
            if item.deleted_at is None:
                if count == 0 and not item.waits:
                    self._broken("events_lost", f"{text} is in no accepted turn")
                elif count and item.waits:
                    self._broken("events_doubled", f"{text} is in an accepted turn, and waits for another")
                continue
            thrown_away += 1
            if count:
                self._broken("events_doubled", f"{text} was thrown away, and is in an accepted turn")
            elif item.incarnation not in ends and not self._is_cleared(item):
                self._broken("events_lost", f"{text} was thrown away, and nobody had asked for it")
        for incarnation, uid in taken:
            self._broken("events_unknown", f"event {uid} is in a turn of {_name(incarnation)}, which never took it")
        return thrown_away

    def _ends(self) -> set[Incarnation]:
        """Incarnations that were terminated by a call of the client with that reason, or by their own turn."""
        own = {turn.id for turn in self._accepted if turn.ends}
        rows = self._database.rows(
            "select instance, epoch_before, reason from /*schema*/job_audit"
            " where epoch > epoch_before and status = 'terminated'"
        )
        known = self._calls.reasons | own
        for instance, epoch, reason in rows:
            if reason not in known:
                self._broken("calls", f"{instance}#{epoch} was terminated for {reason!r}, which nobody said")
        return {(instance, epoch) for instance, epoch, reason in rows if reason in known}

    def _is_cleared(self, item: Inserted) -> bool:
        at = item.deleted_at
        assert at is not None
        clears = self._calls.clears[item.incarnation[0]]
        return any(began - _SLACK <= at <= ended + _SLACK for began, ended in clears)

    def _judge_senders(self) -> None:
        """Every accepted event is there once, and none is there that nobody sent."""
        found = Counter((item.incarnation[0], item.uid) for item in self._inserted)
        for (instance, uid), (began, ended) in self._calls.uids.items():
            count = found.pop((instance, uid), 0)
            meanwhile = sum(start <= ended and began <= end for start, end in self._calls.ends[instance])
            if count == 0:
                self._broken("events_lost", f"event {uid} of {instance} was acknowledged and never taken")
            elif count > 1 + meanwhile:
                self._broken("events_doubled", f"event {uid} of {instance} was taken {count} times")
        accepted = {(turn.id, turn.fence) for turn in self._accepted if not turn.ends}
        for event in self._events:
            if event.kind != "sent" or (event.execution_id, event.fence) not in accepted:
                continue
            count = found.pop((event.fields["to"], event.fields["uid"]), 0)
            text = f"event {event.fields['uid']}, sent to {event.fields['to']} by an accepted turn,"
            if count == 0:
                self._broken("events_lost", f"{text} was never taken")
            elif count > 1:
                self._broken("events_doubled", f"{text} was taken {count} times")
        for instance, uid in found:
            self._broken("events_unknown", f"event {uid} of {instance} was sent by nobody, or by a turn that was not "
                         "accepted")  # fmt: skip


class _Job(NamedTuple):
    incarnation: Incarnation
    runs: int
    executes: int
    events: int
    state: str | None


def _jobs(database: Database) -> dict[str, _Job]:
    """The rows, as what they say about their last incarnation: an end has raised the epoch already."""
    rows = database.rows(
        "select kind || ':' || name || ':' || key, epoch - (ended_at is not null)::int, run_count, execute_count,"
        " event_count, state from /*schema*/jobs"
    )
    return {instance: _Job((instance, epoch), *rest) for instance, epoch, *rest in rows}


def _inserted(database: Database) -> list[Inserted]:
    rows = database.rows(
        "select j.kind || ':' || j.name || ':' || j.key, i.epoch, i.number, i.event_id,"
        " extract(epoch from d.at)::float, exists (select 1 from /*schema*/inbox as x where x.job_id = i.job_id"
        " and x.number = i.number and x.status in ('pending', 'taken') and j.epoch = i.epoch)"
        " from /*schema*/inbox_audit as i join /*schema*/jobs as j on j.id = i.job_id"
        " left join /*schema*/inbox_audit as d on d.job_id = i.job_id and d.number = i.number and d.epoch = i.epoch"
        " and d.status = 'deleted' and d.status_before <> 'consumed'"
        " where i.status_before is null order by i.seq"
    )
    return [Inserted((instance, epoch), *rest) for instance, epoch, *rest in rows]


def _turns(events: list[Event], deaths: Mapping[int, int]) -> list[Turn]:
    ends = {(event.pid, event.execution_id, event.fence): event.at for event in events if event.kind == "turned"}
    last = {event.pid: event.at for event in events}
    return [
        Turn(
            event.execution_id,
            event.fence,
            (event.fields["job"], event.fields["epoch"]),
            tuple(event.fields["events"]),
            event.fields["add"],
            bool(event.fields.get("execute")),
            bool(event.fields.get("ends")),
            event.at,
            ends.get((event.pid, event.execution_id, event.fence), deaths.get(event.pid, last[event.pid])),
            event.fields["alone"],
        )
        for event in events
        if event.kind == "turn"
    ]


def _calls(events: list[Event]) -> _Calls:
    calls = _Calls()
    answers = {event.execution_id: event.fields["time"] for event in events if event.kind == "answer"}
    for event in events:
        if event.kind != "call":
            continue
        op, instance, began = event.fields["op"], event.fields["job"], event.fields["time"]
        ended = answers.get(event.execution_id)
        if ended is None:
            calls.unanswered.append(f"{op} of {instance}")
            continue
        if op == "event":
            span = calls.uids.setdefault((instance, event.fields["uid"]), [began, ended])
            span[:] = [min(span[0], began), max(span[1], ended)]
        elif op in ("clear", "terminate"):
            calls.ends[instance].append((began, ended))
            if op == "clear":
                calls.clears[instance].append((began, ended))
            else:
                calls.reasons.add(event.fields["reason"])
    return calls


def _wanted_state(instance: str, turns: list[Turn]) -> dict[str, int] | None:
    kept = [turn for turn in turns if not turn.ends]
    executes = sum(turn.executes for turn in kept)
    if instance.startswith("debounce:") or (not kept and instance.startswith("task:")):
        return None
    return {"total": sum(turn.add for turn in kept), "turns": len(kept) - executes, "executes": executes}


def _name(incarnation: Incarnation) -> str:
    return f"{incarnation[0]}#{incarnation[1]}"
