"""Run operations at the same moment, on one event loop or on threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from durable.storage import Operation
from durable.testing.contract.scene import LIMIT

__all__ = ["in_threads", "together"]

T = TypeVar("T")


async def together(*operations: Awaitable[T]) -> list[T]:
    """All at once; the results in their order. When one fails, nothing of the others goes on behind the test's back."""
    futures = [asyncio.ensure_future(operation) for operation in operations]
    try:
        async with asyncio.timeout(LIMIT):
            return list(await asyncio.gather(*futures))
    finally:
        for future in futures:
            future.cancel()
        if futures:
            await asyncio.wait(futures)


async def in_threads(operations: Sequence[Operation[T]]) -> list[T]:
    """Each in a thread of its own, let go at the same moment; the results in their order."""
    barrier = threading.Barrier(len(operations))

    def work(operation: Operation[T]) -> T:
        barrier.wait(LIMIT)
        return operation.run()

    # A pool of its own: the loop's default one may have fewer threads than the barrier has parties.
    with ThreadPoolExecutor(len(operations)) as pool:
        loop = asyncio.get_running_loop()
        return await together(*(loop.run_in_executor(pool, work, operation) for operation in operations))
