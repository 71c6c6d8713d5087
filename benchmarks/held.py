"""Held: what a snapshot that somebody forgot does to an executor under load, and how soon it is over afterwards.

Nothing that dies while the snapshot is held can be cleaned up. The load is what the executor manages: there are always
some thousands of executions that wait, inserted by the server itself as copies, so that the client's share is small.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import psycopg
from psycopg import sql

from benchmarks.common import Bench, Figures, Workload, quantile
from benchmarks.copies import copy_statement, set_aside
from benchmarks.meter import metered
from benchmarks.series import Sample, Series
from durable import Durable, Task
from durable.execution import DEFAULT_QUEUE, Claimed
from durable.storage import Hint
from storage_postgres import PostgresStorage
from storage_postgres.listen import channel_of, payloads_of
from storage_postgres.operation import PostgresOperation

__all__ = ["WORKLOAD"]

_WAITING: Final = 10_000
_MOST_BYTES: Final = 16 * 2**30
"""Of the table; a hold that comes to it ends early, so that the disk is not filled."""
_LONGEST_BEFORE: Final = 60.0
_LONGEST_AFTER: Final = 120.0
_END_PART: Final = 1 / 3
"""The part of the hold, at its end, that is compared with what was before."""
_BACK: Final = 0.8
"""The part of the rate before at which the load counts as back."""
_READY: Final = Hint("ready", DEFAULT_QUEUE)
_HINT = sql.SQL("select pg_catalog.pg_notify(%s, %s)")
_SIZE = sql.SQL("select pg_catalog.pg_table_size({}::text::regclass)")
_DEAD = sql.SQL(
    "select n_dead_tup from pg_catalog.pg_stat_user_tables where schemaname = {} and relname = 'executions'"
)


@dataclass(frozen=True, slots=True)
class _TimedClaim:
    """A claim that adds the milliseconds from its call to its answer."""

    operation: PostgresOperation[list[Claimed]]
    times: list[float]

    def __await__(self) -> Generator[Any, None, list[Claimed]]:
        began = time.perf_counter()
        claimed = yield from self.operation.__await__()
        self.times.append((time.perf_counter() - began) * 1000)
        return claimed


class _TimedStorage(PostgresStorage):
    def __init__(self, dsn: str, *, schema: str) -> None:
        super().__init__(dsn, schema=schema)
        self.times: list[float] = []
        """Milliseconds of the claims since somebody last took them."""

    def claim(self, **arguments: Any) -> Any:
        return _TimedClaim(super().claim(**arguments), self.times)


class _Load:
    """An executor at work, and what keeps it so."""

    def __init__(self, bench: Bench, schema: str) -> None:
        self._bench = bench
        self._schema = schema
        self._storage = _TimedStorage(bench.dsn, schema=schema)
        self.app = Durable(storage=self._storage)
        self.done = 0
        self._fed = 0

    def declare(self) -> Task[[int], int]:
        @self.app.task
        async def noop(number: int) -> int:
            self.done += 1
            return number

        return noop

    def taken_times(self) -> list[float]:
        times = self._storage.times[:]
        self._storage.times.clear()
        return times

    def size(self) -> int:
        name = sql.Identifier(self._schema, "executions").as_string()
        return int(self._bench.one(_SIZE.format(sql.Literal(name)))[0])

    def dead_tuples(self) -> int:
        return int(self._bench.one(_DEAD.format(sql.Literal(self._schema)))[0])

    @asynccontextmanager
    async def feeding(self, template: str) -> AsyncGenerator[None]:
        """Let there be executions that wait for as long as the block lasts."""
        statement = copy_statement(self._bench, self._schema, template, _WAITING // 2)
        connection: psycopg.AsyncConnection[Any] = await psycopg.AsyncConnection.connect(
            self._bench.dsn, autocommit=True
        )
        # The first of them before an executor comes, which looks for work as it starts.
        await self._insert(connection, statement)
        feeder = asyncio.create_task(self._feed(connection, statement))
        try:
            yield
        finally:
            feeder.cancel()
            await asyncio.wait({feeder})
            await connection.close()

    async def _feed(self, connection: psycopg.AsyncConnection[Any], statement: sql.Composed) -> None:
        while True:
            if self._fed - self.done < _WAITING:
                await self._insert(connection, statement)
                # As every enqueue does: an executor that has caught up would rest until its next poll.
                await connection.execute(_HINT, [channel_of(self._schema), *payloads_of([_READY], "")])
            else:
                await asyncio.sleep(0.01)

    async def _insert(self, connection: psycopg.AsyncConnection[Any], statement: sql.Composed) -> None:
        await connection.execute(statement)
        self._fed += _WAITING // 2


async def _sampled(
    load: _Load, series: Series, phase: str, seconds: float, *, until_back_to: float | None = None
) -> None:
    """Add samples for so many seconds, or until the rate has come back for two in a row."""
    end = time.perf_counter() + seconds
    backs = 0
    done, at = load.done, time.perf_counter()
    load.taken_times()
    while time.perf_counter() < end:
        await asyncio.sleep(min(series.width, max(end - time.perf_counter(), 0.01)))
        now = time.perf_counter()
        sample = Sample(phase, now, (load.done - done) / (now - at), load.taken_times(), load.dead_tuples())
        series.add(sample)
        done, at = load.done, now
        backs = backs + 1 if until_back_to is not None and sample.rate_per_s >= until_back_to else 0
        if backs == 2 or (phase == "held" and load.size() > _MOST_BYTES):
            return


async def _measured(bench: Bench, load: _Load, count: int) -> tuple[Series, Figures]:
    series = Series(width=max(min(count / 60, 5.0), 0.25))
    bench.phase("before")
    await _sampled(load, series, "warming up", min(_LONGEST_BEFORE / 4, count / 8))
    await _sampled(load, series, "before", min(_LONGEST_BEFORE, count / 4))
    before = series.rate("before")
    bench.phase(f"a snapshot is held for {count} s")
    held_at = time.perf_counter()
    holder: psycopg.AsyncConnection[Any] = await psycopg.AsyncConnection.connect(bench.dsn)
    try:
        await holder.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await holder.execute("select 1")
        await _sampled(load, series, "held", count)
    finally:
        await holder.close()
    released_at = time.perf_counter()
    bench.phase("after")
    await _sampled(load, series, "after", min(_LONGEST_AFTER, count), until_back_to=before * _BACK)
    return series, {"held_s": released_at - held_at, "recovery_s": series.ended_at - released_at}


async def _run(bench: Bench, count: int) -> Figures:
    with bench.schema() as schema:
        async with bench.app(schema):
            bench.phase("making the tables")
        load = _Load(bench, schema)
        noop = load.declare()
        async with load.app:
            await noop.enqueue(0)
        template = set_aside(bench, schema)
        async with metered(bench, schema) as meter, load.feeding(template), load.app:
            busy = time.process_time()
            async with load.app.executor(**bench.executor_settings):
                series, figures = await _measured(bench, load, count)
                busy = time.process_time() - busy
    bench.details["points"] = series.points()
    return _compared(series) | figures | meter.figures(load.done, "execution", busy)


def _compared(series: Series) -> Figures:
    """The end of the hold beside what was before it, and the last samples after it."""
    before, end, after = series.of("before"), series.end_of("held", _END_PART), series.of("after")[-2:]
    p99 = {"before": _p99(before), "held": _p99(end)}
    rates = {name: median(s.rate_per_s for s in part)
             for name, part in (("before", before), ("held", end), ("after", after))}  # fmt: skip
    return {
        "throughput_ratio": rates["held"] / rates["before"],
        "claim_p99_ratio": p99["held"] / p99["before"],
        "before_rate_per_s": rates["before"],
        "held_rate_per_s": rates["held"],
        "after_rate_per_s": rates["after"],
        "before_claim_p99_ms": p99["before"],
        "held_claim_p99_ms": p99["held"],
        "most_dead_tuples": max(sample.dead_tuples for sample in series.samples),
    }


def _p99(samples: list[Sample]) -> float:
    times = [ms for sample in samples for ms in sample.claim_times]
    if not times:
        raise AssertionError("no claim was seen; the ratio means nothing")
    return quantile(times, 0.99)


WORKLOAD = Workload(
    name="held",
    question="under load while another connection holds a snapshot for so long: its end beside what was before",
    run=_run,
    count=600,
    unit="seconds",
    main=("throughput_ratio", "claim_p99_ratio", "recovery_s"),
    repeat=1,
    least=1,
    brief=120,
)
