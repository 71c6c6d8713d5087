"""How fast an executor works off the first so many of what waits, in any surroundings, and alone."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from psycopg import sql

from benchmarks.common import Bench, Countdown
from benchmarks.drain import declare_counted
from durable import Durable

__all__ = ["Alone", "pace"]

_LONGEST: Final = 300.0
"""Seconds after which a pace is not worth being known."""


async def pace(bench: Bench, app: Durable, left: Countdown, count: int, **settings: Any) -> tuple[float, float]:
    """Executions per second from the executor's start to the start of the last of `count`, and CPU seconds till then.

    What waits behind them is given back; so the rate is comparable with that of a drain that ends there.
    """
    left.begin(count)
    async with app:
        began, busy = time.perf_counter(), time.process_time()
        async with app.executor(**{**bench.executor_settings, **settings}):
            async with asyncio.timeout(_LONGEST):
                await left.none()
            took, busy = time.perf_counter() - began, time.process_time() - busy
    await bench.left()
    return count / took, busy


class Alone:
    """A schema in which executions wait alone, each time it is asked for their pace."""

    def __init__(self, bench: Bench, schema: str) -> None:
        self._bench = bench
        self._table = sql.Identifier(schema, "executions")
        self._left = Countdown()
        self._app = bench.app(schema)
        self._noop = declare_counted(self._app, self._left)

    async def pace(self, count: int) -> float:
        """Executions per second, as `pace` counts them, of so many in a table that is otherwise empty."""
        async with self._app:
            self._bench.execute(sql.SQL("truncate {}").format(self._table))
            await self._noop.enqueue_many(range(count))
        await self._bench.left()
        self._bench.checkpoint()
        return (await pace(self._bench, self._app, self._left, count))[0]
