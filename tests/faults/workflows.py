"""Workflows: executors are killed and frozen while they run workflows; each comes to its result, and no step runs twice
once its result is stored."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from durable import Client, Durable
from durable.errors import RowsHeld
from durable.workflow_rows import MessageKind, NewMessage
from storage_postgres import PostgresStorage
from tests.faults.checker import fenced_writes, open_records
from tests.faults.ledger import Reader
from tests.faults.processes import Process, Processes
from tests.faults.progress import Progress
from tests.faults.server import Database, wait_until
from tests.faults.worker import WorkerSettings
from tests.faults.workflows_app import SIGNAL, Sagas, sagas
from tests.faults.workflows_audit import begin_audit
from tests.faults.workflows_checker import Started, judge_workflows

__all__ = ["WorkflowsOptions", "run_workflows"]

WORKERS = 4
CONCURRENCY = 8
OUTSTANDING = WORKERS * CONCURRENCY * 4
"""Sagas that wait or run at any time: enough to keep all slots busy, few enough that what was cut begins again soon."""
_LONGEST_FREEZE = 6.0
"""In leases: a frozen process is thawed when others have taken what it held, and then at the latest."""
_REST = 60.0
HEALTHY_LOSSES = 0.02
"""Part of all turns whose late writes may be refused to processes that were never frozen: on a machine so busy that a
process gets no processor for longer than a lease."""


@dataclass(frozen=True)
class WorkflowsOptions:
    workflows: int
    kills: int
    freezes: int
    seed: int
    lease: float
    limit: float
    """Seconds for the load; the checks come after."""


@dataclass
class _Frozen:
    process: Process
    held: dict[str, int]
    """Execution id to fence, of what it ran when it froze."""
    since: float


_Strike = Callable[["_Run"], bool]
"""Gives whether it did what it is for; otherwise it is tried again."""


@dataclass
class _Run:
    options: WorkflowsOptions
    database: Database
    processes: Processes
    reader: Reader
    random: Random
    progress: Progress
    storage: PostgresStorage
    client: Client
    tasks: Sagas
    started: dict[str, Started] = field(default_factory=dict[str, Started])
    unsent: list[str] = field(default_factory=list[str])
    """Sagas whose signal is still to be sent."""
    open_steps: dict[int, set[tuple[str, int]]] = field(default_factory=dict[int, set[tuple[str, int]]])
    """By process: the turns that have begun a step there and not ended."""
    frozen: list[_Frozen] = field(default_factory=list[_Frozen])
    was_frozen: set[int] = field(default_factory=set[int])
    suspended: set[int] = field(default_factory=set[int])
    strikes: deque[tuple[float, _Strike]] = field(default_factory=deque[tuple[float, "_Strike"]])
    """What is still to be done to the executors, each when so many sagas have finished."""
    kills: int = 0
    interrupted: int = 0
    freezes: int = 0
    taken_over: int = 0
    finished: int = 0

    @property
    def outstanding(self) -> int:
        """Workflows under way at once; of a small run a part, or all would have ended before the last strike."""
        return min(OUTSTANDING, max(8, self.options.workflows // 5))

    def look(self) -> None:
        """Read what the processes have noted since the last look."""
        new = self.reader.read()
        self.processes.note_ready(new)
        for event in new:
            turns = self.open_steps.setdefault(event.pid, set())
            if event.kind == "step":
                turns.add((event.execution_id, event.fence))
            elif event.kind == "write" and event.fields["verb"] not in ("heartbeat", "renew"):
                turns.discard((event.execution_id, event.fence))

    def spawn(self) -> Process:
        """Every second one has a clock that stands still while it is frozen: only the fence can refuse its writes."""
        is_suspended = len(self.suspended) < (self.kills + WORKERS) // 2
        process = self.processes.spawn(is_clock_suspended=is_suspended)
        if is_suspended:
            self.suspended.add(process.pid)
        return process


def run_workflows(options: WorkflowsOptions, database: Database, folder: Path, progress: Progress) -> dict[str, Any]:
    """The report; `problems` is empty if every promise was kept."""
    began = time.monotonic()
    begin_audit(database)
    reader = Reader(folder)
    settings = WorkerSettings(
        database.dsn, database.schema, str(folder), options.lease, CONCURRENCY, options.seed, has_workflows=True
    )
    storage = PostgresStorage(database.dsn, schema=database.schema)
    app = Durable(storage=storage)
    tasks = sagas(app, _Unheard(), b"")
    with Processes(settings, folder, reader) as processes, app.client() as client:
        random = Random(options.seed)
        run = _Run(options, database, processes, reader, random, progress, storage, client, tasks)
        processes.wait_ready(*[run.spawn() for _ in range(WORKERS)])
        _drive(run, began + options.limit)
        open_records(database, within=_REST)
        processes.leave()
        run.look()
        return _report(run, began)


class _Unheard:
    """The client runs no handler, so nothing is ever noted here."""

    def note(self, kind: str, execution_id: str = "", fence: int = 0, **fields: Any) -> None:
        raise AssertionError("a handler ran in the client")


def _drive(run: _Run, deadline: float) -> None:
    """Feed the load, and strike at random points of it, until all is finished or the time is up."""
    options = run.options
    kinds: list[_Strike] = [*[_kill] * options.kills, *[_freeze] * options.freezes]
    run.random.shuffle(kinds)
    goals = sorted(run.random.uniform(0.01, 0.9) * options.workflows for _ in kinds)
    run.strikes = deque(zip(goals, kinds, strict=True))

    def turn() -> bool:
        run.look()
        run.finished = _finished(run.database)
        _feed(run, _most_before_next_strike(run))
        _signal(run)
        _thaw(run)
        if run.strikes and run.finished >= run.strikes[0][0] and run.strikes[0][1](run):
            run.strikes.popleft()
        run.progress.show(run.finished, options.workflows, f"{run.kills} kills, {run.freezes} freezes")
        return run.finished >= options.workflows and not run.frozen

    if not wait_until(turn, limit=deadline - time.monotonic(), interval=0.05):
        run.progress.say("the time is up")
    for each in run.frozen:
        each.process.thaw()
    while run.unsent:
        _signal(run)


def _most_before_next_strike(run: _Run) -> int:
    """The load waits for a strike that is late, unless all of it has ended before there was something to hit."""
    if not run.strikes:
        return run.options.workflows
    is_over = run.finished >= len(run.started)
    return (run.finished if is_over else int(run.strikes[0][0])) + run.outstanding


def _finished(database: Database) -> int:
    return int(
        database.value("select count(*) from /*schema*/executions where parent_id is null and finished_at is not null")
    )


def _feed(run: _Run, most: int) -> None:
    """Enqueue up to so many in all: where strikes are late, the load waits for them."""
    most = min(most, run.options.workflows, run.finished + run.outstanding)
    room = most - len(run.started)
    if room <= 0:
        return
    first = len(run.started)
    calls = [run.tasks.saga.child(number) for number in range(first, first + room)]
    for number, handle in enumerate(run.client.enqueue_calls(calls), start=first):
        run.started[handle.execution_id] = Started(number, number % 7)
        run.unsent.append(handle.execution_id)


def _signal(run: _Run) -> None:
    """Send some of the signals: to sagas that wait, that run, and that have not begun; every third of them twice."""
    run.random.shuffle(run.unsent)
    count = max(len(run.unsent) // 4, min(len(run.unsent), 8))
    chosen, run.unsent = run.unsent[:count], run.unsent[count:]
    messages = [
        NewMessage(id_, MessageKind.SIGNAL, SIGNAL, str(run.started[id_].signal), f"go-{id_}") for id_ in chosen
    ]
    try:
        for again in (messages, messages[::3]):
            run.storage.send_messages(again).run()
    except RowsHeld:  # by a worker that is frozen within a transaction; sent again, each counts once
        run.unsent += chosen


def _victim(run: _Run) -> Process | None:
    """A worker that runs a step, and that is not frozen."""
    frozen = {each.process.pid for each in run.frozen}
    busy = [
        process for process in run.processes.living
        if process.executor_id and process.pid not in frozen and run.open_steps.get(process.pid)
    ]  # fmt: skip
    return run.random.choice(busy) if busy else None


def _kill(run: _Run) -> bool:
    """Kill one that runs something, and start another. It counts if it interrupted at least one turn."""
    victim = _victim(run)
    if victim is None:
        return False
    victim.kill()
    run.look()
    run.processes.remove(victim)
    interrupted = len(_held(run, victim))
    run.interrupted += interrupted
    run.kills += interrupted > 0
    run.spawn()
    return interrupted > 0


def _freeze(run: _Run) -> bool:
    """Stop one that runs something; never so many that nobody is left to take its work over."""
    if len(run.frozen) >= WORKERS // 2:
        return False
    victim = _victim(run)
    if victim is None:
        return False
    victim.freeze()
    held = _held(run, victim)
    if not held:
        victim.thaw()
        return False
    run.was_frozen.add(victim.pid)
    run.frozen.append(_Frozen(victim, held, time.monotonic()))
    return True


def _held(run: _Run, process: Process) -> dict[str, int]:
    rows = run.database.rows(
        "select id::text, fence from /*schema*/executions where status = 'running' and executor_id = %s",
        process.executor_id,
    )
    return {str(id_): fence for id_, fence in rows}


def _thaw(run: _Run) -> None:
    """Let those go on whose work was taken over. A freeze counts if any of it was."""
    for each in tuple(run.frozen):
        left = _held(run, each.process).items() & each.held.items()
        if left and time.monotonic() - each.since < _LONGEST_FREEZE * run.options.lease:
            continue
        each.process.thaw()
        run.frozen.remove(each)
        taken_over = len(each.held) - len(left)
        run.taken_over += taken_over
        run.freezes += taken_over > 0
        if not taken_over:
            # All it held was locked by a transaction that stands open with it: that is for another time.
            run.strikes.appendleft((run.finished, _freeze))


def _report(run: _Run, began: float) -> dict[str, Any]:
    options = run.options
    verdict = judge_workflows(run.database, run.started, run.reader.events, run.suspended)
    problems = list(verdict.problems)
    if len(run.started) < options.workflows:
        problems.append(f"only {len(run.started)} workflows were enqueued before the time was up")
    for what, count, wanted in (("kills", run.kills, options.kills), ("freezes", run.freezes, options.freezes)):
        if count < wanted:
            problems.append(f"only {count} of {wanted} {what} interrupted a running workflow")
    refused = [event for event in fenced_writes(run.reader.events) if event.pid not in run.was_frozen]
    if len(refused) > max(verdict.steps * HEALTHY_LOSSES, 2):
        problems.append(f"{len(refused)} writes of healthy executors were refused: they lost leases for no reason")
    return {
        "workflows": len(run.started),
        "records": int(run.database.value("select count(*) from /*schema*/executions")),
        "kills": run.kills,
        "interrupted": run.interrupted,
        "freezes": run.freezes,
        "taken_over": run.taken_over,
        "violations": {rule: len(found) for rule, found in verdict.violations.items()},
        "steps_started": verdict.steps,
        "late_starts_of_suspended_clocks": verdict.late_starts,
        "fenced_writes": len(fenced_writes(run.reader.events)),
        "fenced_writes_of_healthy": len(refused),
        "lost": len(verdict.violations["results"]),
        "lease_s": options.lease,
        "seed": options.seed,
        "seconds": round(time.monotonic() - began, 1),
        "problems": problems[:20],
        "problem_count": len(problems),
    }
