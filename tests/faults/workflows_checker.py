"""What a workflows run must have left: judged from the tables, their audit, and the ledgers of the steps."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from tests.faults.checker import ended_twice, illegal_changes
from tests.faults.ledger import Event
from tests.faults.server import Database
from tests.faults.workflows_app import SIGNAL, STEPS, TRANSACTIONS, expected_result

__all__ = ["RULES", "Started", "WorkflowsVerdict", "judge_workflows"]

RULES = (
    "results", "transactions", "reruns", "steps", "children", "signals", "sleeps", "histories", "changes", "open",
)  # fmt: skip
_MOST_NAMED = 50
"""Violations of one rule that are put into words; all of them are counted."""

StepKey = tuple[str, str]
"""An execution and the key of a step of it."""


class Started(NamedTuple):
    """What the run asked of one saga."""

    number: int
    signal: int


class _Entry(NamedTuple):
    seq: int
    kind: str
    key: str
    detail: dict[str, Any]
    at: float


@dataclass
class WorkflowsVerdict:
    violations: dict[str, list[str]]
    steps: int
    """Starts of steps, of all attempts."""
    late_starts: int
    """Starts by a process whose turn was another's by then, and whose clock had stood still with it."""

    @property
    def problems(self) -> list[str]:
        return [problem for found in self.violations.values() for problem in found[:_MOST_NAMED]]


def judge_workflows(
    database: Database, started: Mapping[str, Started], events: Iterable[Event], suspended: Collection[int] = ()
) -> WorkflowsVerdict:
    """Judge a run at rest. `suspended` are the processes whose local clock stands still while they are frozen."""
    return _Judge(database, started, list(events), suspended).verdict()


class _Judge:
    def __init__(
        self, database: Database, started: Mapping[str, Started], events: list[Event], suspended: Collection[int]
    ) -> None:
        self._database = database
        self._started = started
        self._suspended = suspended
        self._violations: dict[str, list[str]] = {rule: [] for rule in RULES}
        self._starts = [event for event in events if event.kind == "step"]
        self._ends = {(event.execution_id, event.fields["key"], event.fence) for event in events
                      if event.kind == "stepped"}  # fmt: skip
        rows = database.rows("select id::text, task_name from /*schema*/executions where kind = 'workflow'")
        self._names: dict[str, str] = {str(id_): str(name) for id_, name in rows}
        self._histories = _histories(database)
        written = database.rows(
            "select execution_id::text, key, fence, kind from /*schema*/history_audit"
            " where operation = 'INSERT' and kind in ('step', 'attempt')"
        )
        self._stored: dict[StepKey, int] = {(id_, key): fence for id_, key, fence, kind in written if kind == "step"}
        self._failed = Counter((id_, key, fence) for id_, key, fence, kind in written if kind == "attempt")
        self._late_starts = 0

    def verdict(self) -> WorkflowsVerdict:
        self._judge_results()
        self._judge_transactions()
        self._judge_reruns()
        self._judge_steps()
        self._judge_children()
        self._judge_signals()
        self._judge_sleeps()
        self._judge_histories()
        for problem in (*ended_twice(self._database), *illegal_changes(self._database)):
            self._broken("changes", problem)
        self._judge_open()
        return WorkflowsVerdict(self._violations, len(self._starts), self._late_starts)

    def _broken(self, rule: str, text: str) -> None:
        self._violations[rule].append(f"{rule}: {text}")

    def _judge_results(self) -> None:
        """Every saga that was enqueued has completed, with the result of its numbers."""
        rows = self._database.rows(
            "select id::text, status, output from /*schema*/executions where parent_id is null and task_name = 'saga'"
        )
        found = {str(id_): (str(status), output) for id_, status, output in rows}
        for id_, (number, signal) in self._started.items():
            status, output = found.pop(id_, ("missing", None))
            if status != "completed" or json.loads(output) != expected_result(number, signal):
                self._broken("results", f"saga {id_} is {status} with {output}, not {expected_result(number, signal)}")
        for id_ in found:
            self._broken("results", f"nobody has enqueued saga {id_}")

    def _judge_transactions(self) -> None:
        """What a step in a transaction has written is there exactly once, and is what its checkpoint came with."""
        rows = self._database.rows("select execution_id::text, key, fence from /*schema*/step_effects")
        written: dict[StepKey, list[int]] = defaultdict(list)
        for id_, key, fence in rows:
            written[id_, key].append(fence)
        wanted = {(id_, key) for id_, name in self._names.items() if name == "saga" for key in TRANSACTIONS}
        for id_, key in wanted | written.keys():
            fences = written.get((id_, key), [])
            if fences != [self._stored.get((id_, key))]:
                text = f"{key} of {id_} has the effects of fences {fences}, not of {self._stored.get((id_, key))}"
                self._broken("transactions", text)

    def _judge_reruns(self) -> None:
        """No step begins again once its result is stored: not in a later turn, nor in the one that stored it.

        A turn that was taken away may have begun its last step before; it begins none after that, unless its process
        could not know how long it had been frozen.
        """
        in_turn = Counter((event.execution_id, str(event.fields["key"]), event.fence) for event in self._starts)
        for (id_, key, fence), starts in in_turn.items():
            stored = self._stored.get((id_, key))
            if stored is not None and fence > stored:
                self._broken("reruns", f"{key} of {id_} was stored under fence {stored} and ran under {fence}")
            if starts > 1 + self._failed[id_, key, fence]:
                self._broken("reruns", f"{key} of {id_} began {starts} times under fence {fence}")
        last: dict[StepKey, tuple[int, int]] = {}
        for event in sorted(self._starts, key=lambda event: event.at):
            step = event.execution_id, str(event.fields["key"])
            fence, pid = last.get(step, (0, 0))
            if event.fence >= fence:
                last[step] = event.fence, event.pid
            elif event.pid in self._suspended:
                self._late_starts += 1
            else:
                self._broken("reruns", f"{step[1]} of {step[0]} began under fence {event.fence}, after {fence} ({pid})")

    def _judge_steps(self) -> None:
        """What is stored as a result was done: in the turn that stored it, to its end."""
        for id_, name in self._names.items():
            for key in STEPS[name]:
                fence = self._stored.get((id_, key))
                if fence is None:
                    self._broken("steps", f"{key} of {name} {id_} has no result")
                elif (id_, key, fence) not in self._ends:
                    self._broken("steps", f"{key} of {name} {id_} has a result of fence {fence}, which did not do it")

    def _judge_children(self) -> None:
        rows = self._database.rows(
            "select p.id::text, array_agg(c.task_name order by c.task_name) filter (where c.status = 'completed'),"
            " count(c.id), p.children_count"
            " from /*schema*/executions as p left join /*schema*/executions as c on c.parent_id = p.id"
            " where p.task_name = 'saga' group by p.id"
        )
        for id_, completed, stored, counted in rows:
            if (completed, stored, counted) != (["branch", "twig"], 2, 2):
                self._broken("children", f"saga {id_} counts {counted}, has {stored}, of which completed: {completed}")

    def _judge_signals(self) -> None:
        """Each saga was sent one signal, however often that was tried."""
        rows = self._database.rows("select execution_id::text, name, payload, number from /*schema*/messages")
        received: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
        for id_, name, payload, number in rows:
            received[id_].append((name, payload, number))
        for id_, (_, signal) in self._started.items():
            if received.pop(id_, []) != [(SIGNAL, str(signal), 1)]:
                self._broken("signals", f"saga {id_} has other messages than the one it was sent")
        for id_ in received:
            self._broken("signals", f"workflow {id_} has messages that nobody sent")

    def _judge_sleeps(self) -> None:
        """Each sleep was begun once, and nothing after it was done before its time."""
        for id_, entries in self._histories.items():
            begun = [entry for entry in entries if entry.kind == "sleeping"]
            if len(begun) != (1 if self._names.get(id_) == "saga" else 0):
                self._broken("sleeps", f"workflow {id_} began {len(begun)} sleeps")
            for sleep in begun:
                after = [entry.at for entry in entries if entry.seq > sleep.seq and entry.kind == "step"]
                until = datetime.fromisoformat(sleep.detail["until"]).timestamp()
                if any(at < until for at in after):
                    self._broken("sleeps", f"workflow {id_} went on {until - min(after):.3f} s too early")

    def _judge_histories(self) -> None:
        """Numbered without gaps, each answer once, and nothing changed or taken away but attempts others came after."""
        changed = self._database.rows(
            "select execution_id::text, seq, operation, kind, key from /*schema*/history_audit"
            " where operation <> 'INSERT'"
        )
        attempts = {(id_, entry.key) for id_, found in self._histories.items()
                    for entry in found if entry.kind == "attempt"}  # fmt: skip
        superseded: dict[str, set[int]] = defaultdict(set)
        for id_, seq, operation, kind, key in changed:
            if (operation, kind) == ("DELETE", "attempt") and (id_, key) in attempts:
                superseded[str(id_)].add(int(seq))
            else:
                self._broken("histories", f"{operation} of {kind} {key} of {id_}")
        for id_, entries in self._histories.items():
            seqs = sorted({entry.seq for entry in entries} | superseded[id_])
            if seqs != list(range(1, len(entries) + len(superseded[id_]) + 1)):
                self._broken("histories", f"the history of {id_} has gaps: {[entry.seq for entry in entries]}")
            answers = Counter((entry.kind, entry.key) for entry in entries if entry.kind not in ("attempt", "code"))
            for (kind, key), count in answers.items():
                if count > 1:
                    self._broken("histories", f"{kind} {key} of {id_} is there {count} times")

    def _judge_open(self) -> None:
        rows = self._database.rows(
            "select task_name, id::text, status, close_status, active_children_count from /*schema*/executions"
            " where finished_at is null or close_status <> 'closed' or active_children_count <> 0"
        )
        for name, id_, status, close_status, children in rows:
            self._broken("open", f"{name} {id_} is {status} and {close_status} with {children} active children")


def _histories(database: Database) -> dict[str, list[_Entry]]:
    rows = database.rows(
        "select execution_id::text, seq, kind, key, detail, extract(epoch from at)::double precision"
        " from /*schema*/history order by execution_id, seq"
    )
    found: dict[str, list[_Entry]] = defaultdict(list)
    for id_, seq, kind, key, detail, at in rows:
        found[id_].append(_Entry(seq, kind, key, json.loads(detail or "{}"), at))
    return found
