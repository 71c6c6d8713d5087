"""Kill: four executor processes, kill -9 at random and respawn, while a mix of work goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from typing import Any

from rich.progress import Progress

from durable import Child
from tests.faults.crew import Crew, crew, wait_until
from tests.faults.ledger import entries

__all__ = ["run"]

PROCESSES = 4
LEASE = 2.0
QUIET_LIMIT = 60.0
TOTAL_LIMIT = 540.0
RECORDS = {"plain": 1, "threaded": 1, "flaky": 1, "family": 5, "chain": 4, "rounds": 1}
SHARES = {"plain": 0.35, "threaded": 0.1, "flaky": 0.1, "family": 0.25, "chain": 0.15, "rounds": 0.05}


def mix(executions: int, dice: random.Random) -> list[tuple[str, int]]:
    """Roots whose trees have at least `executions` records in all."""
    roots: list[tuple[str, int]] = []
    records = 0
    while records < executions:
        kind = dice.choices(list(SHARES), weights=list(SHARES.values()))[0]
        roots.append((kind, len(roots)))
        records += RECORDS[kind]
    return roots


def run(*, executions: int, kills: int, seed: int, dsn: str | None, progress: Progress) -> dict[str, Any]:
    """Give the figures of one run; it failed if `failures` is not empty."""
    dice = random.Random(seed)
    # Long enough that the work outlasts the kills: about a second each, with the processes' time to start.
    longest = max(0.02, 2.0 * kills * 1.4 * PROCESSES * 12 / executions)
    with crew(dsn, lease=LEASE, longest=min(longest, 2.0)) as made:
        from tests.faults.app import app

        began = time.monotonic()
        roots = mix(executions, dice)
        with app.client() as client:
            calls = [_call(kind, n) for kind, n in roots]
            handles = [
                handle for at in range(0, len(calls), 5000) for handle in client.enqueue_calls(calls[at : at + 5000])
            ]
        for _ in range(PROCESSES):
            made.spawn()
        killed = _kill_at_random(made, kills, dice, progress)
        _wait_for_the_end(made, progress, began)
        return _figures(made, roots, [handle.execution_id for handle in handles], killed, seed, began)


def _call(kind: str, n: int) -> Child[Any]:
    from tests.faults import app

    call: Child[Any] = getattr(app, kind).child(n)
    return call


def _unfinished(made: Crew) -> int:
    return int(made.query("select count(*) from faults.executions where finished_at is null")[0][0])


def _kill_at_random(made: Crew, kills: int, dice: random.Random, progress: Progress) -> dict[tuple[str, int], int]:
    """(id, fence) of every execution that was running in a killed process → when it was killed."""
    interrupted: dict[tuple[str, int], int] = {}
    bar = progress.add_task("killing", total=kills)
    done = 0
    wait_until(
        lambda: bool(made.query("select 1 from faults.executions where status = 'running' limit 1")), 60, "a start"
    )
    while done < kills and _unfinished(made):
        time.sleep(dice.uniform(0.4, 1.2))
        living = [process for process in made.processes if process.poll() is None]
        victim = dice.choice(living)
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()
        at = time.monotonic_ns()
        for id_, fence in made.held_by(victim).items():
            interrupted[id_, fence] = at
        made.spawn()
        done += 1
        progress.update(bar, completed=done)
    return interrupted


def _wait_for_the_end(made: Crew, progress: Progress, began: float) -> None:
    (total,) = made.query("select count(*) from faults.executions")[0]
    bar = progress.add_task("finishing", total=total)

    def is_over() -> bool:
        left = _unfinished(made)
        progress.update(bar, completed=total - left)
        return not left

    try:
        wait_until(is_over, TOTAL_LIMIT - (time.monotonic() - began), "the end of the work")
        wait_until(lambda: not _open(made), QUIET_LIMIT, "closing")
    except TimeoutError as error:
        progress.console.print(f"[red]{error}[/red]")


def _open(made: Crew) -> int:
    return int(
        made.query(
            "select count(*) from faults.executions where finished_at is null or close_status <> 'closed' "
            "or lease_expires_at is not null or active_children_count <> 0"
        )[0][0]
    )


def _figures(
    made: Crew,
    roots: list[tuple[str, int]],
    ids: list[str],
    killed: dict[tuple[str, int], int],
    seed: int,
    began: float,
) -> dict[str, Any]:
    from tests.faults.app import expected

    stored = {id_: (status, output) for id_, status, output in made.query(
        "select id::text, status, output from faults.executions where parent_id is null")}  # fmt: skip
    lost = sum(1 for id_ in ids if stored.get(id_, ("", None))[0] != "completed")
    wrong = sum(
        1
        for id_, (kind, n) in zip(ids, roots, strict=True)
        if stored.get(id_, ("", None))[0] == "completed" and _value(kind, stored[id_][1]) != expected(kind, n)
    )
    (twice,) = made.query("select count(*) from (select id from faults.ends group by id having count(*) > 1) as x")[0]
    (records,) = made.query("select count(*) from faults.executions")[0]
    (extra,) = made.query(
        "select count(*) from (select parent_id, child_index from faults.executions where parent_id is not null "
        "group by 1, 2 having count(*) > 1) as x")[0]  # fmt: skip
    events = list(entries(made.folder))
    waits = _recovery_times(events, killed)
    return {
        "executions": records, "kills": sum(1 for process in made.processes if process.returncode == -signal.SIGKILL),
        "interrupted": len(killed), "lost": lost, "duplicated_results": wrong + twice + extra,
        "fenced_writes": sum(1 for event in events if event["event"] == "refused"),
        "open_after_60s": _open(made), "recovery_p99_s": waits[int(len(waits) * 0.99)] if waits else None,
        "recovery_max_s": waits[-1] if waits else None,
        "starts": sum(1 for event in events if event["event"] == "start"),
        "lease_s": LEASE, "seed": seed, "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def _value(kind: str, output: str) -> Any:
    value = json.loads(output)
    return value["output"] if kind == "rounds" else value


def _recovery_times(events: list[dict[str, Any]], killed: dict[tuple[str, int], int]) -> list[float]:
    """Seconds from each kill to the next start of what it interrupted, in falling luck."""
    starts: dict[str, list[tuple[int, int]]] = {}
    for event in events:
        if event["event"] == "start":
            starts.setdefault(event["id"], []).append((event["fence"], event["at"]))
    waits = [
        (min(at for newer, at in starts[id_] if newer > fence) - killed_at) / 1e9
        for (id_, fence), killed_at in killed.items()
        if any(newer > fence for newer, _ in starts.get(id_, ()))
    ]
    return sorted(round(wait, 2) for wait in waits)
