"""The tasks of the fault runs. Each notes its start and its end in the ledger, and leaves an effect in the database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from durable import (
    Again,
    ChildResult,
    Done,
    Durable,
    NonRetryable,
    Retry,
    SleepingTask,
    Spawn,
    Task,
    TaskContext,
    constant,
)

__all__ = ["Effect", "Gates", "Journal", "Out", "Tasks", "ZombieTasks", "kill_tasks", "zombie_tasks"]

MOST_DELIVERIES = 1000
"""A run may kill more often than an execution may be delivered by default; poison is not what is tested here."""


@dataclass(frozen=True)
class Out:
    """A result that names the attempt it comes from."""

    value: int
    fence: int


class Effect(Protocol):
    """Leaves a row outside the library's tables, as a handler's own work would."""

    def __call__(self, ctx: TaskContext) -> None: ...


class Journal(Protocol):
    def note(self, kind: str, execution_id: str = "", fence: int = 0, **fields: Any) -> None: ...


class Gates:
    """Opened by the run when the handlers of this process may go on."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.is_open_for_threads = threading.Event()

    def open(self) -> None:
        self.is_open.set()
        self.is_open_for_threads.set()

    def shut(self) -> None:
        self.is_open.clear()
        self.is_open_for_threads.clear()


def fence_of(ctx: TaskContext) -> int:
    """Users have no need of it; a test that proves fencing has."""
    return ctx._attempt.claimed.fence


class _Noted:
    """Notes the start and the end of one attempt, and leaves its effect between the two."""

    def __init__(self, journal: Journal, effect: Effect) -> None:
        self._journal = journal
        self._effect = effect

    def start(self, ctx: TaskContext) -> int:
        fence = fence_of(ctx)
        self._journal.note(
            "start", ctx.execution_id, fence, task=ctx.task_name, attempt=ctx.attempt, executor=ctx.executor_id
        )
        return fence

    def end(self, ctx: TaskContext, value: int) -> Out:
        self._effect(ctx)
        out = Out(value, fence_of(ctx))
        self._journal.note("end", ctx.execution_id, out.fence, value=value)
        return out


@dataclass(frozen=True)
class Tasks:
    """What a kill run enqueues."""

    plain: Task[[int], Out]
    thread: Task[[int], Out]
    flaky: Task[[int], Out]
    doomed: Task[[int], Out]
    parent: Task[[int], int]
    tree: Task[[int], int]
    steps: Task[[int], Out]
    turns: Task[[int], Any]
    sleeper: SleepingTask[int]
    waker: Task[[str, int], Out]


def kill_tasks(app: Durable, journal: Journal, effect: Effect, random: Random) -> Tasks:
    """Declare them. Handlers take some milliseconds, so that a kill at any time meets some."""
    noted = _Noted(journal, effect)
    twice = Retry(2, constant("5ms"))

    @app.task(max_deliveries=MOST_DELIVERIES)
    async def plain(ctx: TaskContext, n: int) -> Out:
        noted.start(ctx)
        ctx.heartbeat(n)
        await asyncio.sleep(random.uniform(0.005, 0.1))
        return await asyncio.to_thread(noted.end, ctx, n)

    @app.task(max_deliveries=MOST_DELIVERIES)
    def thread(ctx: TaskContext, n: int) -> Out:
        noted.start(ctx)
        ctx.cancel_signal.wait(random.uniform(0.005, 0.1))
        return noted.end(ctx, n)

    @app.task(max_deliveries=MOST_DELIVERIES, retry=twice)
    async def flaky(ctx: TaskContext, n: int) -> Out:
        noted.start(ctx)
        await asyncio.sleep(random.uniform(0.005, 0.05))
        if ctx.attempt == 1:
            raise ValueError("the first attempt fails")
        return await asyncio.to_thread(noted.end, ctx, n)

    @app.task(max_deliveries=MOST_DELIVERIES, retry=twice)
    async def doomed(ctx: TaskContext, n: int) -> Out:
        noted.start(ctx)
        raise ValueError("every attempt fails")

    return _trees(app, noted, plain, thread, flaky, doomed)


def _trees(
    app: Durable,
    noted: _Noted,
    plain: Task[[int], Out],
    thread: Task[[int], Out],
    flaky: Task[[int], Out],
    doomed: Task[[int], Out],
) -> Tasks:
    async def add_up(output: int, ends: list[ChildResult[Out]]) -> int:
        return output + sum(end.result().value for end in ends if end.is_completed)

    @app.parent(finalize=add_up, max_deliveries=MOST_DELIVERIES)
    async def parent(ctx: TaskContext, n: int) -> Spawn[int]:
        noted.start(ctx)
        return Spawn(n, [plain.child(1), thread.child(2), flaky.child(3), doomed.child(4)])

    @app.task(max_deliveries=MOST_DELIVERIES)
    async def join(ctx: TaskContext, output: int, ends: list[ChildResult[int]]) -> int:
        noted.start(ctx)
        await asyncio.to_thread(noted.end, ctx, output)
        return sum(end.result() for end in ends)

    @app.parent(finalize=join, max_deliveries=MOST_DELIVERIES)
    async def tree(ctx: TaskContext, n: int) -> Spawn[int]:
        noted.start(ctx)
        return Spawn(n, [parent.child(n), parent.child(n)])

    @app.task(max_deliveries=MOST_DELIVERIES)
    async def step(ctx: TaskContext, before: Out) -> Out:
        noted.start(ctx)
        return await asyncio.to_thread(noted.end, ctx, before.value)

    @app.loop(max_iterations=10, max_deliveries=MOST_DELIVERIES)
    async def turns(ctx: TaskContext, n: int) -> Done[Out] | Again:
        noted.start(ctx)
        out = await asyncio.to_thread(noted.end, ctx, n)
        return Done(out) if ctx.iteration == 2 else Again()

    sleeper = app.sleeping("sleeper", int)

    @app.task(max_deliveries=MOST_DELIVERIES)
    async def waker(ctx: TaskContext, name: str, n: int) -> Out:
        noted.start(ctx)
        await sleeper.wakeup(name, n)
        return await asyncio.to_thread(noted.end, ctx, n)

    steps = app.sequence("steps", plain, step, step, max_deliveries=MOST_DELIVERIES)
    return Tasks(plain, thread, flaky, doomed, parent, tree, steps, turns, sleeper, waker)


@dataclass(frozen=True)
class ZombieTasks:
    """What a freeze run enqueues: one for each kind of write that a thawed process may try."""

    finish: Task[[int], int]
    finish_in_thread: Task[[int], int]
    fail: Task[[int], int]
    try_again: Task[[int], int]
    spawn: Task[[int], int]
    turn: Task[[int], Any]


def zombie_tasks(app: Durable, journal: Journal, gates: Gates) -> ZombieTasks:
    """Declare them. Every handler waits until the run lets its process go on, then says a heartbeat and ends."""

    def start(ctx: TaskContext) -> None:
        journal.note(
            "start", ctx.execution_id, fence_of(ctx), task=ctx.task_name, attempt=ctx.attempt, executor=ctx.executor_id
        )

    def stopped(ctx: TaskContext) -> None:
        journal.note("stopped", ctx.execution_id, fence_of(ctx))

    async def passed(ctx: TaskContext) -> None:
        start(ctx)
        try:
            await gates.is_open.wait()
            ctx.heartbeat({"by": ctx.executor_id})
        except BaseException:
            stopped(ctx)
            raise

    @app.task
    async def finish(ctx: TaskContext, n: int) -> int:
        await passed(ctx)
        return n

    @app.task
    def finish_in_thread(ctx: TaskContext, n: int) -> int:
        start(ctx)
        gates.is_open_for_threads.wait()
        try:
            ctx.heartbeat({"by": ctx.executor_id})
        except BaseException:
            stopped(ctx)
            raise
        return n

    @app.task
    async def fail(ctx: TaskContext, n: int) -> int:
        await passed(ctx)
        raise NonRetryable("as it should")

    @app.task(retry=Retry(3, constant(0)))
    async def try_again(ctx: TaskContext, n: int) -> int:
        await passed(ctx)
        if ctx.attempt == 1:
            raise ValueError("the first attempt fails")
        return n

    return ZombieTasks(finish, finish_in_thread, fail, try_again, *_zombie_trees(app, passed))


def _zombie_trees(
    app: Durable, passed: Callable[[TaskContext], Awaitable[None]]
) -> tuple[Task[[int], int], Task[[int], Any]]:
    @app.task
    async def leaf(n: int) -> int:
        return n

    async def add_up(output: int, ends: list[ChildResult[int]]) -> int:
        return output + sum(end.result() for end in ends)

    @app.parent(finalize=add_up)
    async def spawn(ctx: TaskContext, n: int) -> Spawn[int]:
        await passed(ctx)
        return Spawn(n, [leaf.child(1), leaf.child(2)])

    @app.loop(max_iterations=3)
    async def turn(ctx: TaskContext, n: int) -> Done[int] | Again:
        await passed(ctx)
        return Done(n) if ctx.iteration == 1 else Again()

    return spawn, turn
