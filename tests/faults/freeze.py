"""Freeze: executors are stopped past their leases, thawed while others hold their work, and must write nothing more."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from durable import Client, Durable, Status
from durable.execution import FINISHED
from storage_postgres import PostgresStorage
from tests.faults.app import Gates, ZombieTasks, zombie_tasks
from tests.faults.ledger import Event, Reader
from tests.faults.processes import Process, Processes
from tests.faults.progress import Progress
from tests.faults.server import Database, wait_until
from tests.faults.worker import WorkerSettings

__all__ = ["FreezeOptions", "run_freeze"]

PER_ROUND = 12
PATIENCE = 30.0


@dataclass(frozen=True)
class FreezeOptions:
    executions: int
    seed: int
    lease: float
    limit: float


@dataclass
class _Zombie:
    """One execution that was taken from a frozen process, and what the process did with it when it was thawed."""

    kind: str
    fence: int
    pid: int
    thawed_at: int = 0
    holder_fence: int = 0
    is_reclaimed: bool = False


@dataclass
class _Run:
    options: FreezeOptions
    database: Database
    processes: Processes
    reader: Reader
    progress: Progress
    client: Client
    tasks: ZombieTasks
    zombies: dict[str, _Zombie] = field(default_factory=dict)
    expected: dict[str, tuple[Status, int | None]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    rounds: int = 0


def run_freeze(options: FreezeOptions, database: Database, folder: Path, progress: Progress) -> dict[str, Any]:
    """The report; `problems` is empty if every promise was kept."""
    began = time.monotonic()
    reader = Reader(folder)
    settings = WorkerSettings(database.dsn, database.schema, str(folder), options.lease, 100, options.seed)
    app = Durable(storage=PostgresStorage(database.dsn, schema=database.schema))
    tasks = zombie_tasks(app, _Unheard(), Gates())
    with Processes(settings, folder, reader) as processes, app.client() as client:
        run = _Run(options, database, processes, reader, progress, client, tasks)
        # In two of the three the local deadlines of leases stand still with the process, as on a suspended machine:
        # only the fence can refuse what those write late. The third finds its deadlines passed and stops by itself.
        trio = [processes.spawn(is_clock_suspended=n < 2) for n in range(3)]
        processes.wait_ready(*trio)
        while len(run.zombies) < options.executions and time.monotonic() < began + options.limit:
            left = min(PER_ROUND, options.executions - len(run.zombies))
            frozen, holder, spare = (trio[(run.rounds + n) % 3] for n in range(3))
            spare.freeze()  # it is idle
            _round(run, frozen=frozen, holder=holder, count=left)
            spare.thaw()
            run.rounds += 1
            progress.show(len(run.zombies), options.executions, f"{run.rounds} rounds")
            if run.problems:
                break
        processes.leave()
        reader.read()
        return _report(run, began)


class _Unheard:
    def note(self, kind: str, execution_id: str = "", fence: int = 0, **fields: Any) -> None:
        raise AssertionError("a handler ran in the client")


def _round(run: _Run, *, frozen: Process, holder: Process, count: int) -> None:
    """One process is frozen with all of the executions, the other takes them over, and the first is thawed."""
    for process in (frozen, holder):
        process.say("shut")
    holder.freeze()  # it is idle; so all of the executions go to the other
    ids = _enqueue(run, count)
    if not _await(run, "they start", lambda: ids <= _started(run, frozen)):
        return
    for event in run.reader.of("start"):
        if event.pid == frozen.pid and event.execution_id in ids:
            run.zombies[event.execution_id] = _Zombie(event.fields["task"], event.fence, frozen.pid)
    frozen.freeze()
    holder.thaw()
    if not _await(run, "the other process takes them over", lambda: ids <= _started(run, holder)):
        return
    _prove_reclaimed(run, ids, holder)
    frozen.say("open")
    thawed_at = time.monotonic_ns()
    for id_ in ids:
        run.zombies[id_].thawed_at = thawed_at
    frozen.thaw()
    _await(run, "the thawed process tries to write, or stops", lambda: ids <= _resolved(run))
    _prove_untouched(run, ids, holder)
    holder.say("open")
    _await(run, "the executions finish", lambda: ids <= _finished(run))


def _enqueue(run: _Run, count: int) -> set[str]:
    tasks = run.tasks
    kinds = [tasks.finish, tasks.finish_in_thread, tasks.fail, tasks.try_again, tasks.spawn, tasks.turn]
    calls = [kinds[n % len(kinds)].child(n) for n in range(count)]
    handles = run.client.enqueue_calls(calls)
    for n, handle in enumerate(handles):
        kind = handle.task_name
        value = n + 3 if kind == "spawn" else n
        run.expected[handle.execution_id] = (
            (Status.FAILED, None) if kind == "fail" else (Status.COMPLETED, value)
        )  # fmt: skip
    return {handle.execution_id for handle in handles}


def _await(run: _Run, what: str, is_true: Any) -> bool:
    def look() -> bool:
        run.reader.read()
        return bool(is_true())

    is_so = wait_until(look, limit=PATIENCE)
    if not is_so:
        run.problems.append(f"in round {run.rounds + 1}, not within {PATIENCE:g} s: {what}")
    return is_so


def _started(run: _Run, process: Process) -> set[str]:
    return {event.execution_id for event in run.reader.of("start") if event.pid == process.pid}


def _finished(run: _Run) -> set[str]:
    rows = run.database.rows("select id from /*schema*/executions where parent_id is null and close_status = 'closed'")
    return {str(id_) for (id_,) in rows}


def _held(run: _Run, ids: set[str], holder: Process) -> dict[str, tuple[int, str | None]]:
    """Of these, what the holder runs now: id to fence and progress."""
    rows = run.database.rows(
        "select id, fence, progress from /*schema*/executions"
        " where id = any(%s::uuid[]) and status = 'running' and executor_id = %s",
        list(ids), holder.executor_id,
    )  # fmt: skip
    return {str(id_): (fence, progress) for id_, fence, progress in rows}


def _prove_reclaimed(run: _Run, ids: set[str], holder: Process) -> None:
    for id_, (fence, _) in _held(run, ids, holder).items():
        zombie = run.zombies[id_]
        zombie.holder_fence = fence
        zombie.is_reclaimed = fence > zombie.fence


def _prove_untouched(run: _Run, ids: set[str], holder: Process) -> None:
    """The holder still runs all of them, under its own fence, and nobody's progress stands in them."""
    held = _held(run, ids, holder)
    for id_ in ids:
        wanted = (run.zombies[id_].holder_fence, None)
        if held.get(id_) != wanted:
            run.problems.append(f"{run.zombies[id_].kind} {id_} was touched: {held.get(id_)}, not {wanted}")


def _late(run: _Run) -> list[Event]:
    """Writes that frozen processes tried after they were thawed, for what had been taken from them."""
    return [
        event
        for event in run.reader.of("write")
        if (zombie := run.zombies.get(event.execution_id)) is not None
        and zombie.is_reclaimed
        and (event.pid, event.fence) == (zombie.pid, zombie.fence)
        and event.at > zombie.thawed_at > 0
    ]


def _resolved(run: _Run) -> set[str]:
    """Executions whose late end was answered, or whose handler was stopped before it could end."""
    ended = {event.execution_id for event in _late(run) if event.fields["verb"] not in ("heartbeat", "renew")}
    return ended | {event.execution_id for event in _stopped(run)}


def _stopped(run: _Run) -> list[Event]:
    return [
        event
        for event in run.reader.of("stopped")
        if (zombie := run.zombies.get(event.execution_id)) is not None
        and (event.pid, event.fence) == (zombie.pid, zombie.fence)
    ]


def _lost(run: _Run) -> list[str]:
    rows = run.database.rows("select id, status, output from /*schema*/executions where parent_id is null")
    ends = {str(id_): (status, output) for id_, status, output in rows}
    problems: list[str] = []
    for id_, (status, value) in run.expected.items():
        found, output = ends.get(id_, ("missing", None))
        is_right = found == status and (value is None or output in (str(value), _loop_result(value)))
        if not is_right:
            problems.append(f"lost: {id_} is {found} with {output}, not {status} {value}")
    return problems


def _loop_result(value: int) -> str:
    return f'{{"is_done":true,"output":{value},"iterations":2}}'


def _report(run: _Run, began: float) -> dict[str, Any]:
    late = _late(run)
    refused = Counter(event.fields["verb"] for event in late if not event.fields["accepted"])
    accepted = [event for event in late if event.fields["accepted"]]
    reclaimed = sum(zombie.is_reclaimed for zombie in run.zombies.values())
    lost = _lost(run)
    problems = [*run.problems, *lost, *_doubled(run)]
    problems += [f"a late {event.fields['verb']} of {event.execution_id} was accepted" for event in accepted]
    if reclaimed < run.options.executions:
        problems.append(f"only {reclaimed} of {run.options.executions} executions were re-claimed while frozen")
    if not any(verb in refused for verb in (*FINISHED, "retry", "spawn")) or not refused["heartbeat"]:
        problems.append(f"too few kinds of late writes were tried: {dict(refused)}")
    return {
        "executions": len(run.expected),
        "rounds": run.rounds,
        "reclaimed_while_frozen": reclaimed,
        "late_writes_refused": sum(refused.values()),
        "late_writes_refused_by_verb": dict(sorted(refused.items())),
        "late_writes_accepted": len(accepted),
        "stopped_by_local_deadline": len({event.execution_id for event in _stopped(run)}),
        "lost": len(lost),
        "lease_s": run.options.lease,
        "seed": run.options.seed,
        "seconds": round(time.monotonic() - began, 1),
        "problems": problems[:20],
        "problem_count": len(problems),
    }


def _doubled(run: _Run) -> list[str]:
    """Ends written twice, and children that a refused attempt left behind."""
    ended = run.database.rows(
        "select execution_id, count(*) from /*schema*/audit where status = any(%s) and status <> status_before"
        " group by execution_id having count(*) > 1",
        list(FINISHED),
    )
    spawned = run.database.rows(
        "select p.id, count(c.id) from /*schema*/executions as p"
        " left join /*schema*/executions as c on c.parent_id = p.id"
        " where p.kind = 'parent' group by p.id, p.children_count having count(c.id) <> 2 or p.children_count <> 2"
    )
    return [
        *(f"{id_} ended {count} times" for id_, count in ended),
        *(f"{id_} has {count} children" for id_, count in spawned),
    ]
