"""Multi: what more executors, each in a process of its own, add to the drain of one queue."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from psycopg import sql

from benchmarks.common import Bench, Countdown, Figures, Workload
from benchmarks.drain import check_results, declare_counted
from benchmarks.meter import metered
from benchmarks.processes import spawn

__all__ = ["WORKLOAD"]

_PROCESSES: Final = (1, 2, 4)
_LOOK_EVERY: Final = 0.01
_LONGEST: Final = 300.0
_IS_LEFT = sql.SQL("""
select exists (select 1 from {executions} where status = 'ready')
    or exists (select 1 from {executions} where status = 'running')
""")


class _Executors:
    """Processes that wait for the word."""

    def __init__(self, processes: list[asyncio.subprocess.Process]) -> None:
        self._processes = processes

    async def connect(self, schema: str) -> None:
        self._say(f"{schema}\n")
        for process in self._processes:
            await _line(process)

    def go(self) -> None:
        self._say("go\n")

    async def stop(self) -> float:
        """Stop and disconnect them; gives the CPU seconds that they took since the word."""
        self._say("stop\n")
        reports = [json.loads(await _line(process)) for process in self._processes]
        return float(sum(report["cpu_s"] for report in reports))

    def _say(self, word: str) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(word.encode())


async def _line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise AssertionError(f"an executor has ended with exit code {await process.wait()}")
    return line


@asynccontextmanager
async def _processes(bench: Bench) -> AsyncGenerator[list[asyncio.subprocess.Process]]:
    settings = json.dumps(bench.executor_settings)
    processes = [await spawn("benchmarks.multi_executor", settings, dsn=bench.dsn) for _ in range(max(_PROCESSES))]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            await process.wait()


async def _drained(bench: Bench, count: int, executors: _Executors) -> tuple[float, Figures]:
    """Executions per second of these executors, and what they cost."""
    with bench.schema() as schema:
        app = bench.app(schema)
        noop = declare_counted(app, Countdown())
        async with app:
            await noop.enqueue_many(range(count))
        is_left = _IS_LEFT.format(executions=sql.Identifier(schema, "executions"))
        async with metered(bench, schema) as meter:
            await executors.connect(schema)
            began = time.perf_counter()
            executors.go()
            async with asyncio.timeout(_LONGEST):
                while bench.one(is_left)[0]:  # noqa: ASYNC110 - nobody tells this process of the last end
                    await asyncio.sleep(_LOOK_EVERY)
            took = time.perf_counter() - began
            busy = await executors.stop()
        check_results(bench, schema, count)
    return count / took, meter.figures(count, "execution", busy)


async def _run(bench: Bench, count: int) -> Figures:
    rates: dict[int, float] = {}
    figures: Figures = {}
    async with _processes(bench) as processes:
        for number in _PROCESSES:
            bench.phase(f"{number} processes")
            rates[number], figures = await _drained(bench, count, _Executors(processes[:number]))
    bench.details["points"] = [{"processes": number, "rate_per_s": rate} for number, rate in rates.items()]
    return {
        **{f"processes_{number}_rate_per_s": rate for number, rate in rates.items()},
        **{f"processes_{number}_ratio": rate / rates[1] for number, rate in rates.items() if number > 1},
        **figures,
    }


WORKLOAD = Workload(
    name="multi",
    question="no-op executions that wait, 1, 2 and 4 executors in processes of their own: how many per second?",
    run=_run,
    count=40_000,
    unit="executions",
    main=tuple(f"processes_{number}_rate_per_s" for number in _PROCESSES),
)
