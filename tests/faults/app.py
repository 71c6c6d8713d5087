"""The work that is disturbed: plain tasks, threads, trees, sequences, loops, and tasks that wait at a barrier."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any

from durable import Again, ChildResult, Done, Durable, Retry, Spawn, TaskContext, constant
from durable.execution import Claimed
from tests.faults.ledger import Ledger

FOLDER = Path(os.environ["DURABLE_FAULTS_FOLDER"])
LONGEST = float(os.environ.get("DURABLE_FAULTS_LONGEST", "0.3"))
CHILDREN = 4

app = Durable(os.environ["DURABLE_FAULTS_DSN"], schema="faults")
ledger = Ledger(FOLDER)
held: dict[tuple[str, int], Claimed] = {}
"""What handlers of this process are running: what a thawed one would still like to write."""


def started(ctx: TaskContext) -> Claimed:
    claimed: Claimed = ctx._attempt.claimed  # the fence is not part of the public context
    ledger.write("start", id=claimed.id, fence=claimed.fence)
    held[claimed.id, claimed.fence] = claimed
    return claimed


def ended(claimed: Claimed) -> None:
    held.pop((claimed.id, claimed.fence), None)
    ledger.write("end", id=claimed.id, fence=claimed.fence)


@app.task
async def plain(ctx: TaskContext, n: int) -> int:
    claimed = started(ctx)
    await asyncio.sleep(random.random() * LONGEST)
    ended(claimed)
    return n * 2


@app.task
def threaded(ctx: TaskContext, n: int) -> int:
    claimed = started(ctx)
    time.sleep(random.random() * LONGEST / 2)
    ended(claimed)
    return n * 2


@app.task(retry=Retry(max_attempts=4, delay=constant("20ms")))
async def flaky(ctx: TaskContext, n: int) -> int:
    claimed = started(ctx)
    if ctx.attempt <= n % 3:
        raise RuntimeError("once more")
    ended(claimed)
    return n * 2


async def add_up(n: int, children: list[ChildResult[int]]) -> int:
    return n + sum(child.result() for child in children)


@app.parent(finalize=add_up)
async def family(n: int) -> Spawn[int]:
    return Spawn(n, [plain.child(n + index) for index in range(CHILDREN)])


chain = app.sequence("chain", plain, flaky, plain)


@app.loop(max_iterations=10, every="10ms")
async def rounds(ctx: TaskContext, n: int) -> Done[int] | Again:
    claimed = started(ctx)
    await asyncio.sleep(random.random() * LONGEST / 4)
    ended(claimed)
    return Done(n * 2) if ctx.iteration == 2 else Again()


@app.task
async def hold(ctx: TaskContext, barrier: str) -> str:
    """Run until the file of the barrier exists."""
    claimed = started(ctx)
    while not (FOLDER / barrier).exists():  # noqa: ASYNC110 - another process makes the file
        await asyncio.sleep(0.05)
    ended(claimed)
    return barrier


def expected(kind: str, n: int) -> Any:
    """The right result of a root."""
    if kind == "family":
        return n + sum((n + index) * 2 for index in range(CHILDREN))
    return n * 8 if kind == "chain" else n * 2
