"""The workflows of the fault runs. Each start and end of a step is noted outside the database, in the ledger."""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass
from typing import Any

import psycopg

from durable import Durable, Retry, Task, TaskContext, Workflow, WorkflowContext, constant
from tests.faults.app import MOST_DELIVERIES, Journal, fence_of

__all__ = ["SIGNAL", "SLEEP", "STEPS", "TRANSACTIONS", "Sagas", "expected_result", "sagas"]

SIGNAL = "go"
SLEEP = 0.3
"""Seconds."""
STEPS = {
    "saga": frozenset({"begin#1", "book#1", "pay#1", "ship#1", "close#1"}),
    "branch": frozenset({"work#1"}),
}
"""The keys of the steps of each workflow."""
TRANSACTIONS = frozenset({"book#1", "ship#1"})
"""Those of them that write to the database, together with their checkpoint."""
_LONGEST = 0.04
"""Seconds that a step may take, so that a kill at any time meets some."""
_RETRY = Retry(100, constant("30ms"))


@dataclass(frozen=True)
class Sagas:
    """What a run enqueues, and what that starts."""

    saga: Workflow[[int], list[int]]
    branch: Workflow[[int], int]
    twig: Task[[int], int]


def expected_result(number: int, signal: int) -> list[int]:
    begun = number + 1
    booked = begun * 2
    paid = booked + signal
    return [begun, booked, booked + 10, booked + 21, signal, paid, paid * 3, paid * 3 + 1]


def share(text: str) -> float:
    """A number from 0 to 1 that follows from the text, so that every attempt does the same."""
    return zlib.crc32(text.encode()) / 2**32


class _Steps:
    """The functions that the workflows call. Those that fail do so once in each process, after they have done all."""

    def __init__(self, journal: Journal, insert: bytes) -> None:
        self._journal = journal
        self._insert = insert
        self._failed: set[tuple[str, str]] = set()

    def _begin(self, ctx: TaskContext, key: str) -> None:
        """The first thing that a step does."""
        self._journal.note("step", ctx.execution_id, fence_of(ctx), key=key)

    async def _do(self, ctx: TaskContext, key: str, value: int) -> int:
        self._begin(ctx, key)
        return await self._end(ctx, key, value)

    async def _write(self, ctx: TaskContext, connection: psycopg.AsyncConnection[Any], key: str, value: int) -> int:
        self._begin(ctx, key)
        await connection.execute(self._insert, [ctx.execution_id, key, fence_of(ctx), value])
        return await self._end(ctx, key, value)

    async def _end(self, ctx: TaskContext, key: str, value: int) -> int:
        await asyncio.sleep(share(f"{ctx.execution_id}{key}") * _LONGEST)
        self._journal.note("stepped", ctx.execution_id, fence_of(ctx), key=key)
        return value

    def _fail_once(self, ctx: TaskContext, key: str) -> None:
        if share(f"{ctx.execution_id}{key} fails") < 0.2 and (ctx.execution_id, key) not in self._failed:
            self._failed.add((ctx.execution_id, key))
            raise ValueError("the first attempt in this process fails")

    async def begin(self, ctx: TaskContext, number: int) -> int:
        return await self._do(ctx, "begin#1", number + 1)

    async def book(self, ctx: TaskContext, connection: psycopg.AsyncConnection[Any], number: int) -> int:
        value = await self._write(ctx, connection, "book#1", number * 2)
        self._fail_once(ctx, "book#1")
        return value

    async def pay(self, ctx: TaskContext, number: int, signal: int) -> int:
        value = await self._do(ctx, "pay#1", number + signal)
        self._fail_once(ctx, "pay#1")
        return value

    async def ship(self, ctx: TaskContext, connection: psycopg.AsyncConnection[Any], number: int) -> int:
        return await self._write(ctx, connection, "ship#1", number * 3)

    async def close(self, ctx: TaskContext, number: int) -> int:
        return await self._do(ctx, "close#1", number + 1)

    async def work(self, ctx: TaskContext, number: int) -> int:
        return await self._do(ctx, "work#1", number + 20)


def sagas(app: Durable, journal: Journal, insert: bytes) -> Sagas:
    """Declare them. `insert` writes the effect of a transaction: execution id, key, fence and value."""
    steps = _Steps(journal, insert)

    @app.task(max_deliveries=MOST_DELIVERIES)
    async def twig(ctx: TaskContext, number: int) -> int:
        journal.note("twig", ctx.execution_id, fence_of(ctx))
        await asyncio.sleep(share(ctx.execution_id) * _LONGEST)
        return number + 10

    @app.workflow(max_deliveries=MOST_DELIVERIES)
    async def branch(ctx: WorkflowContext, number: int) -> int:
        return await ctx.step(steps.work, number) + 1

    @app.workflow(max_deliveries=MOST_DELIVERIES)
    async def saga(ctx: WorkflowContext, number: int) -> list[int]:
        retrying = ctx.with_options(retry=_RETRY)
        begun = await ctx.step(steps.begin, number)
        booked: int = await retrying.transaction(steps.book, begun)
        left, right = await ctx.gather(ctx.child(twig, booked), ctx.child(branch, booked))
        signal = await ctx.wait_signal(SIGNAL, int)
        paid: int = await retrying.step(steps.pay, booked, signal)
        await ctx.sleep(SLEEP)
        shipped: int = await ctx.transaction(steps.ship, paid)
        return [begun, booked, left, right, signal, paid, shipped, await ctx.step(steps.close, shipped)]

    return Sagas(saga, branch, twig)
