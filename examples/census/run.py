"""Run the census: with an executor in this process, or with two of their own of which one is killed at work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from durable import Durable, DurableError, Handle, ResultTimeout, Status
from examples.census.processes import ExecutorProcess, start_executor
from examples.census.records import Evidence, evidence_of, held_by, progress_of
from examples.census.tasks import Census, Job, census

__all__ = ["Crash", "NotCaught", "Outcome", "run_here", "run_with_crash"]

_LIMIT = 300.0
"""Seconds after which the census is given up."""
_LOOK = 0.1
_PART_BEFORE_KILL = 0.1

Show = Callable[[int, int], None]
Say = Callable[[str], None]


class NotCaught(DurableError):
    """The census was over before an executor could be caught at work."""


@dataclass(frozen=True, slots=True)
class Crash:
    """What was seen of the process that was killed."""

    executor_id: str
    pid: int
    completed_before: int
    held: int
    recovered: int
    recovery_seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    census: Census
    seconds: float
    evidence: Evidence
    crash: Crash | None = None


async def run_here(app: Durable, job: Job, files: list[Path], show: Show) -> Outcome:
    """Everything in this process: the executor runs beside whatever else the event loop does."""
    async with app.executor(concurrency=4, threads=2, poll_interval="500ms"):
        began = time.monotonic()
        handle = await census.enqueue(job)
        result = await _watch(handle, show)
        return Outcome(result, time.monotonic() - began, await evidence_of(app, handle, files))


async def run_with_crash(
    app: Durable, dsn: str | None, schema: str, job: Job, files: list[Path], show: Show, say: Say
) -> Outcome:
    """Two executor processes; the first is killed at work and replaced, and the census ends as if nothing had been."""
    async with AsyncExitStack() as stack:

        async def executor() -> ExecutorProcess:
            process = await start_executor(schema, dsn)
            stack.push_async_callback(process.end)
            return process

        victim, other = await asyncio.gather(executor(), executor())
        say(f"executors in processes {victim.pid} and {other.pid} wait for work")
        began = time.monotonic()
        handle = await census.enqueue(job)
        completed = await _catch_at_work(app, handle, victim, show)
        await victim.kill()
        killed_at = time.monotonic()
        held = await held_by(app, handle, victim.executor_id)
        say(f"process {victim.pid} killed (SIGKILL) with {len(held)} executions in its hands; {completed} were done")
        replacement = asyncio.create_task(executor())
        watching = asyncio.create_task(_watch(handle, show))
        recovered = await _recovery(app, held, victim.executor_id)
        took = time.monotonic() - killed_at
        say(f"all {recovered} recovered from it {took:.1f} s later")
        say(f"a new executor in process {(await replacement).pid} took its place")
        result = await watching
        seconds = time.monotonic() - began
        other.check()
        crash = Crash(victim.executor_id, victim.pid, completed, len(held), recovered, took)
        return Outcome(result, seconds, await evidence_of(app, handle, files), crash)


async def _watch(handle: Handle[Census], show: Show) -> Census:
    """The result; the way to it is shown."""
    deadline = time.monotonic() + _LIMIT
    while True:
        try:
            result = await handle.result(timeout=_LOOK)
        except ResultTimeout:
            show(*await progress_of(handle))
            if time.monotonic() > deadline:
                raise
        else:
            show(*await progress_of(handle))
            return result


async def _catch_at_work(app: Durable, handle: Handle[Census], victim: ExecutorProcess, show: Show) -> int:
    """Freeze the victim when some work is done and it holds more; gives how much was done."""
    while True:
        victim.check()
        done, children = await progress_of(handle)
        show(done, children)
        if (await handle.execution()).is_finished:
            raise NotCaught("the census was over before an executor could be caught at work; give a larger --pause")
        if children and done >= children * _PART_BEFORE_KILL and await held_by(app, handle, victim.executor_id):
            victim.freeze()
            # What it had already sent is still carried out by the server: look when that has come through.
            await asyncio.sleep(_LOOK)
            if await held_by(app, handle, victim.executor_id):
                return (await progress_of(handle))[0]
            victim.thaw()
        await asyncio.sleep(_LOOK / 5)


async def _recovery(app: Durable, held: list[str], executor_id: str) -> int:
    """Wait until nothing that was held counts as running there any more; gives how many were taken from it.

    One that has finished under the dead executor's name was not.
    """
    deadline = time.monotonic() + _LIMIT
    while time.monotonic() < deadline:
        records = [record for record in await app.storage.get(held) if record is not None]
        if not any(record.status == Status.RUNNING and record.executor_id == executor_id for record in records):
            return sum(not (record.is_finished and record.executor_id == executor_id) for record in records)
        await asyncio.sleep(_LOOK / 5)
    raise ResultTimeout(held[0], _LIMIT)
