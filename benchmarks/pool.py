"""Pool: what its limits cost. The same no-ops through a queue without limits and through pools, in turn, in one run."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, NamedTuple

from psycopg import sql

from benchmarks.common import Bench, Figures, Workload
from durable import Durable, ExecutorSettings, Task

__all__ = ["WORKLOAD"]


class _Case(NamedTuple):
    """One way through: the limit as a multiple of the executor's concurrency, None for a queue that is no pool."""

    limit: int | None
    keys: int = 0
    """Serial keys, as a part of 1,000 of the executions; 0 for none."""


_WIDE: Final = 50
"""More than one executor ever holds, claimed ahead or not yet written: what the limit costs, and not what it forbids.
At 20 times the concurrency it held executions back whose predecessors had ended but were not written as ended."""
_CASES: Final = {
    "queue": _Case(None),
    "tight_pool": _Case(1),
    "pool": _Case(_WIDE),
    "keyed_pool": _Case(_WIDE, keys=1000),
    "few_keys_pool": _Case(_WIDE, keys=50),
}
"""In their order, with the queue before and after them, and the pool whose cost is asked for in the middle."""


async def _run(bench: Bench, count: int) -> Figures:
    rates = {name: await _drained(bench, name, case, count) for name, case in _CASES.items()}
    # Once more: a machine that became slower or faster meanwhile would be taken for what pools cost.
    rates["queue"] = (rates["queue"] + await _drained(bench, "queue", _CASES["queue"], count)) / 2
    return {
        **{f"{name}_rate_per_s": rate for name, rate in rates.items()},
        **{f"{name}_ratio": rate / rates["queue"] for name, rate in rates.items() if name != "queue"},
    }


async def _drained(bench: Bench, name: str, case: _Case, count: int) -> float:
    with bench.schema() as schema:
        left = _Left(count)
        app = bench.app(schema)
        noop = _declare(app, left, case, ExecutorSettings(**bench.executor_settings).concurrency)
        bench.phase(f"{name}: enqueueing")
        async with app:
            await _enqueue(app, noop, case, count)
        await bench.left()
        bench.phase(f"{name}: draining")
        async with app:
            began = time.perf_counter()
            async with app.executor(**bench.executor_settings):
                await left.none()
            # An executor ends when every end it was handed has been written.
            took = time.perf_counter() - began
        await bench.left()
        _check(bench, schema, count)
    return count / took


class _Left:
    """Counts handlers down, and says when the last has begun."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._none = asyncio.Event()

    def one(self) -> None:
        self._count -= 1
        if not self._count:
            self._none.set()

    async def none(self) -> None:
        await self._none.wait()


def _declare(app: Durable, left: _Left, case: _Case, concurrency: int) -> Task[[int], int]:
    options: dict[str, Any] = {}
    if case.limit is not None:
        options["pool"] = app.pool("work", max_parallelism=case.limit * concurrency)

    @app.task(**options)
    async def noop(number: int) -> int:
        left.one()
        return number

    return noop


async def _enqueue(app: Durable, noop: Task[[int], int], case: _Case, count: int) -> None:
    if not case.keys:
        await noop.enqueue_many(range(count))
        return
    keys = max(count * case.keys // 1000, 1)
    await app.enqueue_calls([noop.child(number, serial_key=f"key {number % keys}") for number in range(count)])


def _check(bench: Bench, schema: str, count: int) -> None:
    """Every execution completed, with a result of its own."""
    query = sql.SQL("select count(distinct output) from {} where status = 'completed'")
    (stored,) = bench.one(query.format(sql.Identifier(schema, "executions")))
    if stored != count:
        raise AssertionError(f"{stored} of {count} executions have their result; the rate means nothing")


WORKLOAD = Workload(
    name="pool",
    question="no-op executions that wait, through a queue and through pools: how much slower is a pool?",
    run=_run,
    count=20_000,
    unit="executions",
    main=("queue_rate_per_s", "pool_rate_per_s", "pool_ratio", "tight_pool_ratio", "keyed_pool_ratio"),
)
