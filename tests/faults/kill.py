"""Kill: executors are killed with SIGKILL while they run executions, and started again; nothing is lost or doubled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from durable import Client, Durable
from storage_postgres import PostgresStorage
from tests.faults.app import Tasks, kill_tasks
from tests.faults.checker import Verdict, effects_of_cut_attempts, fenced_writes, judge, open_records, percentile
from tests.faults.ledger import Reader
from tests.faults.mix import Expected, Unit, units
from tests.faults.processes import Process, Processes
from tests.faults.progress import Progress
from tests.faults.server import Database, wait_until
from tests.faults.worker import WorkerSettings

__all__ = ["KillOptions", "run_kill"]

WORKERS = 4
CONCURRENCY = 8
OUTSTANDING = WORKERS * CONCURRENCY * 4
"""Roots that wait or run at any time: enough to keep all slots busy, few enough that what was cut starts again soon."""

HEALTHY_LOSSES = 0.005
"""Part of all starts whose lease a living executor may lose: on a machine so busy that a process gets no processor for
longer than a lease. Killed ones write nothing late, so every refusal is one of a living executor."""


@dataclass(frozen=True)
class KillOptions:
    executions: int
    kills: int
    seed: int
    lease: float
    limit: float
    """Seconds for the load; the checks come after."""


@dataclass
class _Kill:
    at: int
    pid: int
    interrupted: dict[str, int]
    """Execution id to fence, of what had started in the process and was held by it when it died."""


@dataclass
class _Run:
    options: KillOptions
    database: Database
    processes: Processes
    reader: Reader
    random: Random
    progress: Progress
    expected: dict[str, Expected] = field(default_factory=dict)
    kills: list[_Kill] = field(default_factory=list)
    kills_sent: int = 0
    finished: int = 0
    open_starts: dict[int, set[tuple[str, int]]] = field(default_factory=dict)
    """By process: what has started there and not ended."""

    @property
    def is_fed(self) -> bool:
        return len(self.expected) >= self.options.executions

    @property
    def is_done(self) -> bool:
        return self.is_fed and self.finished >= len(self.expected)

    def look(self) -> None:
        """Read what the workers have noted since the last look."""
        new = self.reader.read()
        self.processes.note_ready(new)
        for event in new:
            key = (event.execution_id, event.fence)
            if event.kind == "start":
                self.open_starts.setdefault(event.pid, set()).add(key)
            elif event.kind == "end" or (event.kind == "write" and event.fields["verb"] not in ("heartbeat", "renew")):
                self.open_starts.get(event.pid, set()).discard(key)


def run_kill(options: KillOptions, database: Database, folder: Path, progress: Progress) -> dict[str, Any]:
    """The report; `problems` is empty if every promise was kept."""
    began = time.monotonic()
    reader = Reader(folder)
    settings = WorkerSettings(database.dsn, database.schema, str(folder), options.lease, CONCURRENCY, options.seed)
    app = Durable(storage=PostgresStorage(database.dsn, schema=database.schema))
    tasks = kill_tasks(app, _Unheard(), _no_effect, Random(0))
    with Processes(settings, folder, reader) as processes, app.client() as client:
        run = _Run(options, database, processes, reader, Random(options.seed), progress)
        processes.wait_ready(*[processes.spawn() for _ in range(WORKERS)])
        _drive(run, client, tasks, began + options.limit)
        is_open = open_records(database, within=60.0)
        processes.leave()
        run.look()
        return _report(run, is_open, began)


class _Unheard:
    """The client runs no handler, so nothing is ever noted here."""

    def note(self, kind: str, execution_id: str = "", fence: int = 0, **fields: Any) -> None:
        raise AssertionError("a handler ran in the client")


def _no_effect(_: Any) -> None:
    raise AssertionError("a handler ran in the client")


def _drive(run: _Run, client: Client, tasks: Tasks, deadline: float) -> None:
    """Feed the load and kill at random points of it, until all is finished or the time is up."""
    feed = units(tasks, run.random, run.options.executions)
    goals = sorted(run.random.uniform(0.02, 0.93) * run.options.executions for _ in range(run.options.kills))

    def turn() -> bool:
        run.look()
        run.finished = _finished_roots(run.database)
        _feed(run, client, feed)
        if len(run.kills) < len(goals) and run.finished >= goals[len(run.kills)]:
            _strike(run)
        run.progress.show(run.finished, run.options.executions, f"{len(run.kills)} kills")
        return run.is_done

    if not wait_until(turn, limit=deadline - time.monotonic(), interval=0.05):
        run.progress.say("the time is up")


def _feed(run: _Run, client: Client, feed: Iterator[Unit]) -> None:
    batch: list[Unit] = []
    room = OUTSTANDING - (len(run.expected) - run.finished)
    while room > 0 and (unit := next(feed, None)) is not None:
        batch.append(unit)
        room -= len(unit.calls)
    if batch:
        handles = client.enqueue_calls([call for unit in batch for call in unit.calls])
        wanted = [expected for unit in batch for expected in unit.expected]
        run.expected.update({handle.execution_id: end for handle, end in zip(handles, wanted, strict=True)})


def _finished_roots(database: Database) -> int:
    return int(
        database.value("select count(*) from /*schema*/executions where parent_id is null and finished_at is not null")
    )


def _strike(run: _Run) -> None:
    """Kill one worker that runs something, and start another. It counts if it interrupted at least one handler."""
    victims = [process for process in run.processes.living if run.open_starts.get(process.pid)]
    if not victims:
        return
    victim = run.random.choice(victims)
    victim.kill()
    at = time.monotonic_ns()
    run.kills_sent += 1
    run.look()
    interrupted = _interrupted(run, victim)
    if interrupted:
        run.kills.append(_Kill(at, victim.pid, interrupted))
    run.processes.remove(victim)
    run.processes.spawn()


def _interrupted(run: _Run, victim: Process) -> dict[str, int]:
    held = run.database.rows(
        "select id, fence from /*schema*/executions where status = 'running' and executor_id = %s", victim.executor_id
    )
    started = run.open_starts.get(victim.pid, set())
    return {str(id_): fence for id_, fence in held if (str(id_), fence) in started}


def _restarts(run: _Run) -> list[float]:
    """Seconds from each kill to the next start of what it interrupted."""
    starts: dict[str, list[tuple[int, int]]] = {}
    for event in run.reader.of("start"):
        starts.setdefault(event.execution_id, []).append((event.fence, event.at))
    return [
        (min(at for later, at in starts[id_] if later > fence) - kill.at) / 1e9
        for kill in run.kills
        for id_, fence in kill.interrupted.items()
        if any(later > fence for later, _ in starts[id_])
    ]


def _report(run: _Run, is_open: int, began: float) -> dict[str, Any]:
    verdict: Verdict = judge(run.database, run.expected, run.reader.events)
    problems = list(verdict.problems)
    if len(run.expected) < run.options.executions:
        problems.append(f"only {len(run.expected)} executions were enqueued before the time was up")
    if len(run.kills) < run.options.kills:
        problems.append(f"only {len(run.kills)} of {run.options.kills} kills interrupted a running handler")
    starts = len(run.reader.of("start"))
    fenced = len(fenced_writes(run.reader.events))
    if fenced > starts * HEALTHY_LOSSES:
        problems.append(f"{fenced} writes of living executors were refused: they lost leases for no reason")
    if is_open:
        problems.append(f"{is_open} records are still open after 60 s")
    restarts = _restarts(run)
    return {
        "executions": len(run.expected),
        "records": int(run.database.value("select count(*) from /*schema*/executions")),
        "kills": len(run.kills),
        "kills_sent": run.kills_sent,
        "interrupted": sum(len(kill.interrupted) for kill in run.kills),
        "starts": starts,
        "lost": len(verdict.lost),
        "duplicated_results": len(verdict.duplicated),
        "other_violations": len(verdict.others),
        "fenced_writes": fenced,
        "effects_of_cut_attempts": effects_of_cut_attempts(run.database),
        "open_after_60s": is_open,
        "recovery_p50_s": _rounded(percentile(restarts, 0.5)),
        "recovery_p99_s": _rounded(percentile(restarts, 0.99)),
        "lease_s": run.options.lease,
        "seed": run.options.seed,
        "seconds": round(time.monotonic() - began, 1),
        "problems": problems[:20],
        "problem_count": len(problems),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
