"""Latency: from the commit of an enqueue to the first line of the handler, on an idle executor, one at a time.

Of what is enqueued with a delay, from the end of that, counted from the commit, to the first line of the handler.

Both ends are read from the monotonic clock, which all processes of a machine share: when the storage's answer to the
enqueue is there, which is after its commit, and in the handler's first line. Once with both in one process, where an
idle executor starts it from that answer, once with the client in another, whose hint makes the executor claim it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import Bench, Figures, Workload, quantile
from benchmarks.processes import spawn
from durable import ChildResult, Durable, Spawn, Task
from durable.execution import NewExecution
from durable.storage import Operation
from storage_postgres import PostgresStorage

__all__ = ["WORKLOAD", "StampingStorage", "declare_stamp", "delays"]

_WARM_UP = 20
_DELAY = 0.2
_MOST_DELAYED = 100
_REPOSITORY = Path(__file__).resolve().parent.parent


class StampingStorage(PostgresStorage):
    """Notes when the answer to the last enqueue came."""

    answered_at = 0.0

    def enqueue(self, *args: Any, **options: Any) -> Any:
        return _Stamped(self, super().enqueue(*args, **options))

    def enqueue_started(self, row: NewExecution, **options: Any) -> Any:
        return _Stamped(self, super().enqueue_started(row, **options))


@dataclass(frozen=True, slots=True)
class _Stamped:
    storage: StampingStorage
    operation: Operation[Any]

    def __await__(self) -> Generator[Any, None, Any]:
        answer = yield from self.operation.__await__()
        self.storage.answered_at = time.monotonic()
        return answer


def declare_stamp(app: Durable) -> Task[[], float]:
    @app.task
    async def stamp() -> float:
        return time.monotonic()

    return stamp


async def delays(stamp: Task[[], float], storage: StampingStorage, count: int) -> list[float]:
    """Milliseconds from commit to start, after a few that do not count."""
    found: list[float] = []
    for _ in range(_WARM_UP + count):
        handle = await stamp.enqueue()
        committed_at = storage.answered_at
        started_at = await handle.result(timeout=60)
        found.append((started_at - committed_at) * 1000)
    return found[_WARM_UP:]


async def _lateness(stamp: Task[[], float], count: int) -> list[float]:
    """Milliseconds from the moment at which an execution comes due to its start."""
    found: list[float] = []
    for _ in range(min(count, _MOST_DELAYED)):
        handle = await stamp.enqueue(delay=_DELAY)
        due_at = time.monotonic() + _DELAY
        found.append((await handle.result(timeout=60) - due_at) * 1000)
    return found


def _declare_tree(app: Durable) -> Task[[], int]:
    @app.task
    async def child() -> int:
        return 1

    async def total(output: int, ends: list[ChildResult[int]]) -> int:
        return output + sum(end.result() for end in ends)

    @app.parent(finalize=total)
    async def tree() -> Spawn[int]:
        return Spawn(1, [child.child()])

    return tree


async def _tree_times(tree: Task[[], int], count: int) -> list[float]:
    """Milliseconds from before the enqueue to the result."""
    found: list[float] = []
    for _ in range(_WARM_UP + count):
        began = time.monotonic()
        handle = await tree.enqueue()
        if await handle.result(timeout=60) != 2:
            raise AssertionError("the tree gave another result; its time means nothing")
        found.append((time.monotonic() - began) * 1000)
    return found[_WARM_UP:]


async def _delays_of_another(bench: Bench, schema: str, count: int) -> list[float]:
    """The same with the client in a process of its own."""
    process = await spawn("benchmarks.latency_client", schema, str(count), dsn=bench.dsn)
    out, _ = await process.communicate()
    if process.returncode:
        raise AssertionError(f"the other client ended with exit code {process.returncode}")
    found: list[float] = json.loads(out)
    return found


async def _run(bench: Bench, count: int) -> Figures:
    with bench.schema() as schema:
        storage = StampingStorage(bench.dsn, schema=schema)
        app = Durable(storage=storage, migrate=True)
        stamp = declare_stamp(app)
        tree = _declare_tree(app)
        async with app, app.executor(**bench.executor_settings):
            bench.phase("client in the same process")
            own = await delays(stamp, storage, count)
            bench.phase("after a delay of 200 ms")
            late = await _lateness(stamp, count)
            bench.phase("client in another process")
            other = await _delays_of_another(bench, schema, count)
            bench.phase("a parent with one child")
            trees = await _tree_times(tree, count)
    figures: Figures = {}
    for prefix, values in (("", own), ("late_", late), ("other_", other), ("tree_", trees)):
        figures |= {f"{prefix}p{part}_ms": quantile(values, part / 100) for part in (50, 95, 99)}
    bench.details["samples_ms"] = {"same process": own, "another process": other, "end of a delay": late}
    return figures


WORKLOAD = Workload(
    name="latency",
    question="idle executor, commit or end of a delay to handler start; a parent with one child, enqueue to result",
    run=_run,
    count=300,
    unit="of each",
    main=("p50_ms", "late_p50_ms", "late_p99_ms", "other_p50_ms", "tree_p50_ms"),
)
