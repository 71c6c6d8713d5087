"""Freeze: SIGSTOP an executor until its work was claimed by others, then SIGCONT and watch its late writes."""

from __future__ import annotations

import random
import signal
import time
from typing import Any

from rich.progress import Progress

from tests.faults.crew import Crew, crew, wait_until
from tests.faults.ledger import entries

__all__ = ["run"]

LEASE = 1.5
BATCH = 10
MOST_ROUNDS = 30
TOTAL_LIMIT = 540.0


def run(*, reclaims: int, seed: int, dsn: str | None, progress: Progress) -> dict[str, Any]:
    """Rounds of freezing until `reclaims` executions were claimed by others while their holder stood still."""
    dice = random.Random(seed)
    began = time.monotonic()
    with crew(dsn, lease=LEASE, longest=0.01) as made:
        from tests.faults.app import app, hold

        made.spawn()
        made.spawn()
        reclaimed: dict[str, int] = {}
        ids: list[str] = []
        bar = progress.add_task("freezing", total=reclaims)
        rounds = 0
        with app.client() as client:
            while len(reclaimed) < reclaims and rounds < MOST_ROUNDS and time.monotonic() - began < TOTAL_LIMIT:
                barrier = f"barrier-{rounds}"
                handles = client.enqueue_calls([hold.child(barrier) for _ in range(BATCH)])
                ids += [handle.execution_id for handle in handles]
                reclaimed.update(_freeze_one(made, [handle.execution_id for handle in handles], dice))
                (made.folder / barrier).touch()
                client.wait(handles, timeout=60)
                rounds += 1
                progress.update(bar, completed=len(reclaimed))
        stale = set(reclaimed.items())
        late = [
            event
            for event in entries(made.folder)
            if (event.get("id"), event.get("fence")) in stale and event["event"] == "late"
        ]
        results = dict(made.query("select id::text, output from faults.executions"))
        return {
            "reclaimed_while_frozen": len(reclaimed),
            "late_writes_refused": sum(1 for event in late if not event["accepted"]),
            "late_writes_accepted": sum(1 for event in late if event["accepted"]) + _wrong_ends(made),
            "lost": sum(1 for id_ in ids if not str(results.get(id_, "")).startswith('"barrier-')),
            "executions": len(ids), "rounds": rounds, "lease_s": LEASE, "seed": seed,
            "seconds": round(time.monotonic() - began, 1),
        }  # fmt: skip


def _freeze_one(made: Crew, ids: list[str], dice: random.Random) -> dict[str, int]:
    """Stop one process that runs some of `ids`; give those that others claimed meanwhile, with their old fences."""
    _all_running(made, ids)
    victim = max(made.processes, key=lambda process: (len(made.held_by(process)), dice.random()))
    victim.send_signal(signal.SIGSTOP)
    frozen = made.held_by(victim)
    if not frozen:
        victim.send_signal(signal.SIGCONT)
        return {}
    wait_until(lambda: len(_claimed_again(made, frozen)) == len(frozen), 60, "the claim by another process")
    reclaimed = _claimed_again(made, frozen)
    victim.send_signal(signal.SIGCONT)
    # The new holders are still at the barrier: a late write that got through would be seen in their records.
    wait_until(lambda: _late(made, victim.pid) >= set(reclaimed.items()), 60, "the late writes")
    return reclaimed


def _all_running(made: Crew, ids: list[str]) -> None:
    def is_so() -> bool:
        return len(_running(made, ids)) == len(ids)

    wait_until(is_so, 60, "the start of a round")


def _claimed_again(made: Crew, frozen: dict[str, int]) -> dict[str, int]:
    # A recovery raises the fence and the claim raises it again.
    return {id_: frozen[id_] for id_, fence in _running(made, list(frozen)) if fence >= frozen[id_] + 2}


def _running(made: Crew, ids: list[str]) -> list[tuple[str, int]]:
    return made.query(
        "select id::text, fence from faults.executions where status = 'running' and id = any(%s::uuid[])", ids
    )


def _late(made: Crew, pid: int) -> set[tuple[str, int]]:
    """Attempts of one process for which every kind of late write has been tried."""
    return {
        (event["id"], event["fence"])
        for event in entries(made.folder)
        if event["event"] == "late" and event["pid"] == pid and event["what"] == "heartbeat"
    }


def _wrong_ends(made: Crew) -> int:
    """Traces of late writes in the records: more than one end, children nobody asked for, a late output."""
    (count,) = made.query(
        "select (select count(*) from (select id from faults.ends group by id having count(*) > 1) as x) "
        "+ (select count(*) from faults.executions where parent_id is not null or output = '\"late\"' "
        "or progress is not null)"
    )[0]
    return int(count)
