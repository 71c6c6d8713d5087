"""One executor process of a fault run: `python -m tests.faults.worker '{…}'`. It ends when its standard input does."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import psycopg
from psycopg_pool import ConnectionPool

from durable import Durable, TaskContext
from durable.clock import SystemClock
from storage_postgres.statements import render
from tests.faults.app import Gates, fence_of, kill_tasks, zombie_tasks
from tests.faults.jobs_app import LockProbe, Mended, keyed_jobs
from tests.faults.ledger import Ledger
from tests.faults.recording import RecordingStorage
from tests.faults.workflows_app import sagas
from tests.faults.workflows_audit import EFFECT

__all__ = ["SuspendedClock", "WorkerSettings"]


@dataclass(frozen=True)
class WorkerSettings:
    """What the run tells a worker; times are seconds."""

    dsn: str
    schema: str
    folder: str
    lease: float
    concurrency: int
    seed: int
    is_clock_suspended: bool = False
    """The worker's local clock does not count the time in which the process was frozen."""
    has_jobs: bool = False
    """The worker runs the turns of keyed jobs, too."""
    has_workflows: bool = False
    """The worker runs workflows, too."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class SuspendedClock(SystemClock):
    """Stands still while the process does, as CLOCK_MONOTONIC does while a machine is suspended.

    The local deadlines of leases are then of no use, and nothing but the fence keeps a late write out.
    """

    _LONGEST_STEP = 0.25

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen_at = time.monotonic()
        self._passed = 0.0

    def monotonic(self) -> float:
        with self._lock:
            now = time.monotonic()
            self._passed += min(now - self._seen_at, self._LONGEST_STEP)
            self._seen_at = now
            return self._passed


class _Effects:
    """Writes to the table of effects on connections of the handlers' own."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._insert = render(
            "insert into /*schema*/effects values (%s, %s, %s, pg_backend_pid(), clock_timestamp())", settings.schema
        )
        self._pool: ConnectionPool[psycopg.Connection[tuple[object, ...]]] = ConnectionPool(
            settings.dsn, kwargs={"autocommit": True}, min_size=1, max_size=2, open=False
        )

    def __call__(self, ctx: TaskContext) -> None:
        with self._pool.connection() as connection:
            connection.execute(self._insert, [ctx.execution_id, fence_of(ctx), ctx.attempt])

    def __enter__(self) -> _Effects:
        self._pool.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close(timeout=1.0)


async def serve(settings: WorkerSettings) -> None:
    """Run executions until the standard input ends; lines on it open and shut the gates."""
    ledger = Ledger(Path(settings.folder))
    gates = Gates()
    app = Durable(
        storage=RecordingStorage(settings.dsn, schema=settings.schema, ledger=ledger),
        clock=SuspendedClock() if settings.is_clock_suspended else None,
    )
    with _Effects(settings) as effects:
        kill_tasks(app, ledger, effects, Random(settings.seed))
        zombie_tasks(app, ledger, gates)
        if settings.has_jobs:
            keyed_jobs(app, ledger, LockProbe(settings.dsn), Mended(Path(settings.folder)))
        if settings.has_workflows:
            sagas(app, ledger, render(EFFECT, settings.schema).as_bytes(None))
        async with app.executor(
            lease=settings.lease, concurrency=settings.concurrency, poll_interval="250ms",
            upkeep_interval=settings.lease / 4, grace=0,
        ) as executor:  # fmt: skip
            ledger.note("ready", executor=executor.id)
            await _obey(gates)


async def _obey(gates: Gates) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        match line.strip():
            case b"open":
                gates.open()
            case b"shut":
                gates.shut()
    gates.open()


if __name__ == "__main__":
    asyncio.run(serve(WorkerSettings(**json.loads(sys.argv[1]))))
