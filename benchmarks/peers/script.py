"""What the programs of the peers share: they count calls, wait for the last end to be stored, and print one object.

The standard library only, since each program runs in the environment of its peer. The server is named by the variables
of libpq (PGHOST, PGDATABASE, …). What a program measures is said in `benchmarks/peers/figures.py`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from random import Random
from typing import Any

__all__ = ["STEPS", "WARM_UP", "Calls", "Found", "Measure", "idle", "latencies", "main"]

STEPS = 5
"""Steps of each workflow."""
WARM_UP = 20
"""Executions before the ones whose latency counts."""
_SETTLE_S = 2.0
_LOOK_S = 0.002
_REST_S = 0.005

Found = dict[str, Any]
Measure = Callable[[int], Coroutine[Any, Any, Found]]


class Calls:
    """Counts the calls of a handler, and says when there were as many as there should be."""

    def __init__(self, count: int) -> None:
        self.count = 0
        self._first_at = 0.0
        self._wanted = count
        self._lock = threading.Lock()
        self._all = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def one(self) -> None:
        """From any thread."""
        with self._lock:
            if not self.count:
                self._first_at = time.perf_counter()
            self.count += 1
            is_last = self.count == self._wanted
        if is_last:
            self._loop.call_soon_threadsafe(self._all.set)

    async def seconds(self, unfinished: Callable[[], Awaitable[Any]]) -> float:
        """From the first call until all were made and `unfinished` finds no work open in the database.

        So without what a worker's start takes, and with the ends that were only acknowledged from memory.
        """
        await self._all.wait()
        while await unfinished():  # noqa: ASYNC110 - a server tells nobody of it
            await asyncio.sleep(_LOOK_S)
        return time.perf_counter() - self._first_at


async def latencies(
    count: int, enqueue: Callable[[], Awaitable[Any]], started: asyncio.Queue[float], *, poll_s: float = 0
) -> Found:
    """One at a time on an idle worker: from the return of the enqueue, so its commit, to the handler's first line.

    The handler puts `time.monotonic()` into `started`. A worker that only polls is met at any moment between two polls.
    """
    warm_up = min(WARM_UP, count)
    pauses = Random(count)
    found: list[float] = []
    for _ in range(warm_up + count):
        await enqueue()
        committed_at = time.monotonic()
        found.append((await started.get() - committed_at) * 1000)
        # Each worker is to be at rest again, its last completion written.
        await asyncio.sleep(_REST_S + pauses.random() * poll_s)
    return {"latencies_ms": found[warm_up:]}


async def idle() -> Found:
    """Say that the worker is at rest; the CPU seconds from then until standard input ends."""
    await asyncio.sleep(_SETTLE_S)
    busy, began = time.process_time(), time.monotonic()
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    return {"seconds": time.monotonic() - began, "cpu_s": time.process_time() - busy}


def main(measures: Mapping[str, Measure], run: Callable[[Coroutine[Any, Any, Found]], Found] = asyncio.run) -> None:
    """`PROGRAM WORKLOAD COUNT`: measure once, and print what was found on the last line."""
    workload, count = sys.argv[1], int(sys.argv[2])
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    print(json.dumps(run(measures[workload](count))), flush=True)
