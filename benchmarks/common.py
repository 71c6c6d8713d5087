"""What every workload stands on: a server, a schema of its own, an app on it, and what the server did meanwhile."""

from __future__ import annotations

import asyncio
import os
import platform
import secrets
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from types import TracebackType
from typing import Any, NamedTuple, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from benchmarks.statements import StatementStatistics
from durable import Durable, ExecutorSettings
from storage_postgres.embedded import start

__all__ = ["Bench", "Countdown", "Counters", "Figures", "Workload", "drained", "environment", "quantile", "serve"]

Figures = dict[str, float]
"""What one run found, by name; the unit ends the name."""

_SERVER_SETTINGS = (
    "fsync", "synchronous_commit", "full_page_writes", "wal_level", "shared_buffers", "max_wal_size", "autovacuum",
    "max_connections",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Workload:
    """One question and how to answer it once."""

    name: str
    question: str
    run: Callable[[Bench, int], Coroutine[Any, Any, Figures]]
    count: int
    unit: str
    main: tuple[str, ...]
    """The figures that answer the question; the others explain them."""
    repeat: int = 3
    """Runs for the median; one for what takes long and compares with itself again and again within a run."""
    least: int = 2
    """The smallest count."""
    brief: int | None = None
    """The count where all workloads are run in turn; None: `count`."""


class Countdown:
    """Counts what is left to be done, and says when nothing is."""

    def __init__(self, count: int = 0) -> None:
        self._count = count
        self._none = asyncio.Event()

    def begin(self, count: int) -> None:
        self._count = count
        self._none.clear()

    def one(self) -> None:
        self._count -= 1
        if not self._count:
            self._none.set()

    async def none(self) -> None:
        await self._none.wait()


class Counters(NamedTuple):
    """What the server has done since it began, in all sessions of the database (the WAL: of the cluster)."""

    wal_bytes: int
    commits: int


class Bench:
    """A place to measure in: the server, and the run's own schemas."""

    def __init__(self, dsn: str, say: Callable[[str], None], *, concurrency: int | None = None) -> None:
        name = f"bench_{secrets.token_hex(4)}"
        self._name = f"durable-{name}"
        self.dsn = make_conninfo(dsn, application_name=self._name)
        self.title = ""
        self._say = say
        self._control = psycopg.connect(dsn, autocommit=True)
        self.statements = StatementStatistics(self._control, name)
        self.executor_settings: dict[str, Any] = {} if concurrency is None else {"concurrency": concurrency}
        self.details: dict[str, Any] = {}
        """What the last run found beside its figures: statements by cost, and what plots are drawn from."""

    def __enter__(self) -> Self:
        self.statements.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.statements.close()
        self._control.close()

    def phase(self, text: str) -> None:
        """Say what happens now. Not while the clock runs."""
        self._say(f"{self.title}: {text}")

    @contextmanager
    def schema(self) -> Generator[str]:
        """The name of a schema of this run's own, dropped at the end with all that is in it."""
        name = f"bench_{secrets.token_hex(4)}"
        try:
            yield name
        finally:
            self._control.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(name)))

    def app(self, schema: str, *, dsn: str | None = None) -> Durable:
        """An app with its tables in `schema`, made when it is opened; `dsn` where its sessions have own settings."""
        return Durable(dsn or self.dsn, schema=schema, migrate=True)

    def with_options(self, options: str) -> str:
        """The DSN whose sessions have these settings too, as `-c name=value`."""
        given = conninfo_to_dict(self.dsn).get("options")
        return make_conninfo(self.dsn, options=f"{given} {options}" if given else options)

    def checkpoint(self) -> None:
        """Have what was written before reach the disk, if the role may: its cost is not that of what comes next."""
        with suppress(psycopg.errors.InsufficientPrivilege):
            self._control.execute("checkpoint")

    def one(self, query: sql.Composed | sql.SQL) -> tuple[Any, ...]:
        row = self._control.execute(query).fetchone()
        assert row is not None
        return row

    def execute(self, statement: sql.Composed) -> None:
        """For what is put in place before the clock runs."""
        self._control.execute(statement)

    def counters(self) -> Counters:
        return Counters(
            *self.one(
                sql.SQL(
                    # What is inserted, not what is written: without synchronous commits the latter comes later.
                    "select pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')::bigint,"
                    " d.xact_commit from pg_catalog.pg_stat_database as d"
                    " where d.datname = pg_catalog.current_database()"
                )
            )
        )

    async def left(self) -> None:
        """Wait until the server has seen off every session of the app: one reports its last commits as it ends."""
        query = sql.SQL("select count(*) from pg_catalog.pg_stat_activity where application_name = {}")
        while self.one(query.format(sql.Literal(self._name)))[0]:  # noqa: ASYNC110 - a server tells nobody of it
            await asyncio.sleep(0.01)

    def server_settings(self) -> dict[str, str]:
        show = sql.SQL("select pg_catalog.current_setting({})")
        return {name: self.one(show.format(sql.Literal(name)))[0] for name in _SERVER_SETTINGS}


@contextmanager
def serve(dsn: str | None) -> Generator[str]:
    """The DSN given, or that of the embedded server with its durable settings for as long as the block lasts."""
    if dsn is not None:
        yield dsn
        return
    with start() as server:
        yield server.dsn()


def environment(bench: Bench) -> dict[str, Any]:
    """Versions, settings and machine, as they go beside every figure."""
    executor = ExecutorSettings(**bench.executor_settings)
    (server_version,) = bench.one(sql.SQL("select pg_catalog.current_setting('server_version')"))
    return {
        "versions": {
            "durable": version("durable-postgres"),
            "python": platform.python_version(),
            "psycopg": f"{psycopg.__version__} ({psycopg.pq.__impl__})",
            "postgres": server_version,
        },
        "settings": {
            "concurrency": executor.concurrency,
            "lease": executor.lease,
            "poll_interval": executor.poll_interval,
            **bench.server_settings(),
            "cpus": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2),
        },
    }


def quantile(values: list[float], part: float) -> float:
    """The value that `part` of the values do not exceed: one of them, never between two."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]


async def drained(app: Durable, left: Countdown, bench: Bench) -> tuple[float, float]:
    """Wall and CPU seconds of this process from the executor's start to the last end that is stored."""
    async with app:
        began, busy = time.perf_counter(), time.process_time()
        async with app.executor(**bench.executor_settings):
            await left.none()
        # An executor ends when every end it was handed has been written.
        return time.perf_counter() - began, time.process_time() - busy
