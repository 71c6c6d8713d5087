"""The database goes away under load, in every way that it can, and no execution is the worse for it."""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from durable import ChildResult, Durable, EmbeddedError, Handle, Retry, Spawn, StorageUnavailable, TaskContext, constant
from storage_postgres import PostgresStorage
from storage_postgres.embedded import EmbeddedServer, start
from storage_postgres.statements import render
from tests.embedded.support import is_gone, send, wait_until

from .place import PATIENCE, PostgresPlace, running, soon

COUNT = 150


class Load:
    """Plain tasks, threads, retries, parents and sequences, and a count of what has ended."""

    def __init__(self, app: Durable) -> None:
        self.app = app
        self._ended = 0
        self._waiting: list[tuple[int, asyncio.Event]] = []
        self._declare()

    def _declare(self) -> None:
        app = self.app
        loop = asyncio.get_running_loop()

        @app.task(retry=Retry(3, constant("1ms")))
        async def flaky(ctx: TaskContext, n: int) -> int:
            self._count()
            if ctx.attempt < 2:
                raise ValueError("once")
            return n

        @app.task
        def thread(n: int) -> int:
            loop.call_soon_threadsafe(self._count)
            return n

        async def add_up(output: int, ends: list[ChildResult[int]]) -> int:
            return output + sum(end.result() for end in ends)

        @app.parent(finalize=add_up)
        async def parent(n: int) -> Spawn[int]:
            return Spawn(n, [flaky.child(k) for k in range(5)])

        steps = app.sequence("steps", flaky, thread)
        self.calls: list[Callable[[int], Any]] = [flaky.enqueue, thread.enqueue, parent.enqueue, steps.enqueue]
        self.expected: list[Callable[[int], int]] = [int, int, lambda n: n + 10, int]

    def _count(self) -> None:
        self._ended += 1
        for goal, event in self._waiting:
            if self._ended >= goal:
                event.set()

    async def reaches(self, goal: int) -> None:
        event = asyncio.Event()
        self._waiting.append((goal, event))
        if self._ended < goal:
            await soon(event.wait())

    async def check(self, handles: list[Handle[int]]) -> None:
        results = [await handle.result(3 * PATIENCE) for handle in handles]
        kinds = len(self.expected)
        assert results == [self.expected[n % kinds](n) for n in range(len(handles))]


async def enqueue_all(load: Load) -> list[Handle[int]]:
    """One by one, so that calls are under way whenever something breaks."""
    return [await load.calls[n % len(load.calls)](n) for n in range(COUNT)]


async def test_its_connections_are_cut_again_and_again(postgres: PostgresPlace) -> None:
    app = postgres.app()
    load = Load(app)
    cuts: list[int] = []

    async def cut() -> None:
        for goal in range(10, COUNT, 15):
            await load.reaches(goal)
            row = postgres.control.execute(
                "select count(pg_catalog.pg_terminate_backend(pid)) from pg_catalog.pg_stat_activity"
                " where datname = pg_catalog.current_database() and application_name = 'durable'"
            ).fetchone()
            cuts.append(row[0] if row else 0)

    async with running(app):
        cutter = asyncio.ensure_future(cut())
        handles = await enqueue_all(load)
        await load.check(handles)
        await cutter
    assert sum(cuts) >= len(cuts) >= 9


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    place = Path(tempfile.mkdtemp(prefix="durable-test-", dir="/var/tmp"))
    place.chmod(0o755)  # the server may run as another user
    home = place / "home"
    started = start(home)
    yield started
    started.release()
    wait_until(lambda: is_gone(home))
    shutil.rmtree(place)


async def test_the_embedded_server_is_killed_and_stopped_under_load(server: EmbeddedServer) -> None:
    app = Durable(f"embedded:{server.root}", poll_interval="50ms")
    load = Load(app)
    pids = [server.pid()]

    async def strike() -> None:
        for goal, number in [(20, signal.SIGKILL), (120, signal.SIGINT)]:
            await load.reaches(goal)
            send(pids[-1], number)
            await asyncio.to_thread(wait_until, lambda: _pid_of(server) not in (None, pids[-1]))
            pids.append(server.pid())

    async with running(app):
        striker = asyncio.ensure_future(strike())
        handles = await enqueue_all(load)
        await load.check(handles)
        await striker
        assert await app.storage.defects(limit=10) == []
    assert len(set(pids)) == 3


def _pid_of(server: EmbeddedServer) -> int | None:
    try:
        return server.pid()
    except EmbeddedError:
        return None


async def test_a_call_that_cannot_be_served_says_so_and_stores_nothing(
    postgres: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable.live._PATIENCE", 0.2)
    dsn = make_conninfo(postgres.dsn, options="-c lock_timeout=50ms")
    app = Durable(storage=PostgresStorage(dsn, schema=postgres.schema))

    @app.task
    async def work() -> None: ...

    async with app:
        with psycopg.connect(postgres.dsn) as holder:
            holder.execute(render("lock table /*schema*/executions in access exclusive mode", postgres.schema))
            with pytest.raises(StorageUnavailable):
                await work.enqueue()
        await work.enqueue()
    assert postgres.count() == 1
