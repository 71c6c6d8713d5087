"""Jobs: executors are killed each second while they run turns of keyed jobs; no promise to their callers is broken."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from psycopg.conninfo import make_conninfo

from tests.faults.jobs_audit import begin_audit, behind, still_open, unscheduled
from tests.faults.jobs_checker import JobsVerdict, judge_jobs
from tests.faults.jobs_client import ClientSettings
from tests.faults.ledger import Reader
from tests.faults.processes import Process, Processes
from tests.faults.progress import Progress
from tests.faults.server import Database, wait_until
from tests.faults.worker import WorkerSettings

__all__ = ["JobsOptions", "run_jobs"]

WORKERS = 4
CONCURRENCY = 8
_CLIENT = "durable-faults-client"
_CUT_EVERY = 0.7
"""Seconds between two cuts of a connection of the client."""
_REST = 60.0
MOST_BEHIND = WORKERS * CONCURRENCY * 3
"""Turns that may wait for an executor before the client calls no more: so many that all are busy, and few enough that
what was cut begins again soon."""
HEALTHY_LOSSES = 0.005
"""Part of all turns that may overlap because a lease ran out in a living executor: on a machine so busy that a process
gets no processor for longer than a lease."""


@dataclass(frozen=True)
class JobsOptions:
    instances: int
    seconds: float
    """Of load with kills, after every instance was called once; longer where a slow machine kills less often."""
    least_kills: int
    rate: float
    seed: int
    lease: float
    limit: float
    """Seconds until all instances were called once, and for the load."""


@dataclass
class _Run:
    options: JobsOptions
    database: Database
    processes: Processes
    reader: Reader
    random: Random
    progress: Progress
    deaths: dict[int, int] = field(default_factory=dict)
    """The moment before each kill, by process id."""
    open_turns: dict[int, set[tuple[str, int]]] = field(default_factory=dict)
    interrupted: int = 0
    cuts: int = 0
    seen: list[str] = field(default_factory=list)
    """What was found unscheduled while the run went on."""
    turns: int = 0
    ready: set[int] = field(default_factory=set)
    """The processes that have begun their work."""
    obeyed: Counter[str] = field(default_factory=Counter)
    """How often the client has done what it was told, by word."""

    def look(self) -> None:
        """Read what the processes have noted since the last look."""
        new = self.reader.read()
        self.processes.note_ready(new)
        for event in new:
            key = (event.execution_id, event.fence)
            if event.kind == "turn":
                self.turns += 1
                self.open_turns.setdefault(event.pid, set()).add(key)
            elif event.kind == "turned":
                self.open_turns.get(event.pid, set()).discard(key)
            elif event.kind == "ready":
                self.ready.add(event.pid)
            elif event.kind == "obeyed":
                self.obeyed[event.fields["word"]] += 1


def run_jobs(options: JobsOptions, database: Database, folder: Path, progress: Progress) -> dict[str, Any]:
    """The report; `problems` is empty if every promise was kept."""
    began = time.monotonic()
    begin_audit(database)
    reader = Reader(folder)
    worker = WorkerSettings(
        database.dsn, database.schema, str(folder), options.lease, CONCURRENCY, options.seed, has_jobs=True
    )
    dsn = make_conninfo(database.dsn, application_name=_CLIENT)
    settings = ClientSettings(dsn, database.schema, str(folder), options.instances, options.rate, options.seed)
    with Processes(worker, folder, reader) as processes:
        run = _Run(options, database, processes, reader, Random(options.seed), progress)
        with processes.other("tests.faults.jobs_client", settings.to_json()) as client:
            processes.wait_ready(*[processes.spawn() for _ in range(WORKERS)], look=run.look)
            _await_client(run, client, lambda: client.pid in run.ready, "call every instance once")
            progress.say(f"every instance was called once, {run.turns} turns so far")
            _load(run, client)
            left = _rest(run, client)
            dormant = _resume(run, client)
        processes.leave()
        run.look()
        return _report(run, left, dormant, began)


def _await_client(run: _Run, client: Process, has_come: Callable[[], bool], what: str) -> None:
    """Raises RuntimeError if the client has ended or the time is up."""

    def is_over() -> bool:
        run.look()
        return has_come() or not client.is_alive

    wait_until(is_over, limit=run.options.limit, interval=0.1)
    if not has_come():
        raise RuntimeError(f"the client did not {what}:\n{run.processes.complaints()}")


def _load(run: _Run, client: Process) -> None:
    """Kill an executor each second, cut the client's connections, and look whether everything stays scheduled."""
    began = time.monotonic()
    kill, cut, look = _Every(1.0), _Every(_CUT_EVERY), _Every(2.0)

    def is_over() -> bool:
        run.look()
        passed = time.monotonic() - began
        if kill.is_due():
            _strike(run)
        if cut.is_due():
            _cut(run)
            client.say("hold" if behind(run.database) > MOST_BEHIND else "go")
        if look.is_due():
            run.seen += unscheduled(run.database)
        run.progress.show(int(passed), int(run.options.seconds), f"{len(run.deaths)} kills, {run.turns} turns")
        return passed > run.options.seconds and len(run.deaths) >= run.options.least_kills

    wait_until(is_over, limit=max(run.options.limit, run.options.seconds), interval=0.05)


class _Every:
    """Due once in an interval; what is late is not made up for."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = time.monotonic() + seconds

    def is_due(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = max(self._next + self._seconds, now)
        return True


def _strike(run: _Run) -> None:
    """Kill an executor that has started, rather one that runs something, and start another."""
    started = [process for process in run.processes.living if process.executor_id]
    victims = [process for process in started if run.open_turns.get(process.pid)] or started
    if not victims:
        return
    victim = run.random.choice(victims)
    run.deaths[victim.pid] = time.monotonic_ns()
    victim.kill()
    run.look()
    run.interrupted += len(run.open_turns.pop(victim.pid, ()))
    run.processes.remove(victim)
    run.processes.spawn()


def _cut(run: _Run) -> None:
    """End one connection of the client, as a network or a proxy would."""
    run.cuts += len(
        run.database.rows(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s order by random()"
            " limit 1",
            _CLIENT,
        )
    )


def _rest(run: _Run, client: Process) -> list[str]:
    """Let the calls end and the work be done; gives what is still open after a minute."""
    for number in range(1, 3):
        # Twice: a turn that began before its poison was mended may fail after the redrive.
        client.say("rest")
        _await_client(run, client, lambda number=number: run.obeyed["rest"] >= number, "rest")
        if wait_until(lambda: not still_open(run.database), limit=_REST / 2, interval=0.3):
            break
    return still_open(run.database)


def _resume(run: _Run, client: Process) -> list[str]:
    """Let the jobs tick again; gives those that did not run within a minute, though they live."""
    run.look()
    before = len(run.reader.events)
    client.say("resume")
    _await_client(run, client, lambda: run.obeyed["resume"] > 0, "resume")
    run.seen += unscheduled(run.database)
    rows = run.database.rows(
        "select 'continuous:' || name || ':' || key from /*schema*/jobs where kind = 'continuous' and ended_at is null"
    )
    living = {str(key) for (key,) in rows}

    def asleep() -> set[str]:
        run.look()
        return living - {event.fields["job"] for event in run.reader.events[before:] if event.kind == "turn"}

    wait_until(lambda: not asleep(), limit=_REST, interval=0.3)
    return sorted(asleep())


def _report(run: _Run, left: list[str], dormant: list[str], began: float) -> dict[str, Any]:
    verdict: JobsVerdict = judge_jobs(run.database, run.reader.events, run.deaths)
    verdict.violations["unscheduled"] += [*run.seen, *(f"unscheduled: {job} never ran again" for job in dormant)]
    problems = list(verdict.problems)
    if len(run.deaths) < run.options.least_kills:
        problems.append(f"only {len(run.deaths)} executors were killed, {run.options.least_kills} is the least")
    if verdict.lost_leases > max(run.turns * HEALTHY_LOSSES, 2):
        problems.append(
            f"{verdict.lost_leases} turns of living executors were taken over: they lost leases for no reason"
        )
    if left:
        problems += [f"{len(left)} executions, events and jobs are still open after {_REST:g} s", *left]
    answers = run.reader.of("answer")
    return {
        "instances": int(run.database.value("select count(*) from /*schema*/jobs")),
        "kills": len(run.deaths),
        "interrupted": run.interrupted,
        "violations": {rule: len(found) for rule, found in verdict.violations.items()},
        "events": verdict.events,
        "turns": verdict.turns,
        "starts": run.turns,
        "thrown_away": verdict.thrown_away,
        "calls": len(answers),
        "calls_made_again": sum(event.fields["tries"] > 1 for event in answers),
        "connections_cut": run.cuts,
        "lost": len(verdict.violations["events_lost"]),
        "lost_leases": verdict.lost_leases,
        "open_after_60s": len(left),
        "lease_s": run.options.lease,
        "seed": run.options.seed,
        "seconds": round(time.monotonic() - began, 1),
        "problems": problems[:20],
        "problem_count": len(problems),
    }
