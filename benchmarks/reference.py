"""Reference: trees, sequences and loops together, the workload that gpahal/durable-execution measures itself with.

100 parents of 50 children with a finalize task, 100 sequences of 4, 100 loops of one iteration, bodies of 1 ms. There
it makes 6,100 records, because a loop is four of them; here it is one, so the same work makes 5,800. The rate counts
6,100.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from benchmarks.common import Bench, Figures, Workload
from benchmarks.meter import metered
from durable import Again, ChildResult, Done, Durable, Handle, LoopResult, Spawn, Task

__all__ = ["WORKLOAD"]

_CHILDREN = 50
_STEPS = 4
_BODY = 0.001
_PER_TREE = 1 + _CHILDREN + 1
_PER_SEQUENCE = 1 + _STEPS
_PER_LOOP = 4


@dataclass(frozen=True, slots=True)
class _Tasks:
    tree: Task[[], str]
    sequence: Task[[str], str]
    loop: Task[[], LoopResult[str]]


def _declare(app: Durable) -> _Tasks:
    @app.task
    async def child(index: int) -> str:
        await asyncio.sleep(_BODY)
        return f"child {index}"

    @app.task
    async def finalize(output: str, ends: list[ChildResult[str]]) -> str:
        await asyncio.sleep(_BODY)
        return f"{output}: {sum(end.is_completed for end in ends)}"

    @app.parent(finalize=finalize)
    async def tree() -> Spawn[str]:
        await asyncio.sleep(_BODY)
        return Spawn("completed", [child.child(index) for index in range(_CHILDREN)])

    @app.task
    async def step(text: str) -> str:
        await asyncio.sleep(_BODY)
        return f"step of {text}"

    @app.loop(max_iterations=1000)
    async def loop() -> Done[str] | Again:
        await asyncio.sleep(_BODY)
        return Done("done")

    return _Tasks(tree, app.sequence("sequence", *(step for _ in range(_STEPS))), loop)


async def _run(bench: Bench, count: int) -> Figures:
    with bench.schema() as schema:
        app = bench.app(schema)
        tasks = _declare(app)
        async with app:
            bench.phase("running")
        async with metered(bench, schema) as meter, app, app.executor(**bench.executor_settings):
            began, busy = time.perf_counter(), time.process_time()
            enqueues: list[Coroutine[Any, Any, Handle[Any]]] = [
                *(tasks.tree.enqueue() for _ in range(count)),
                *(tasks.sequence.enqueue(f"{number}") for number in range(count)),
                *(tasks.loop.enqueue() for _ in range(count)),
            ]
            handles = await asyncio.gather(*enqueues)
            await app.wait(handles)
            took, busy = time.perf_counter() - began, time.process_time() - busy
            _check([await handle.result() for handle in handles], count)
    executions = count * (_PER_TREE + _PER_SEQUENCE + _PER_LOOP)
    return {
        "seconds": took,
        "executions_per_s": executions / took,
        "records_per_s": count * (_PER_TREE + _PER_SEQUENCE + 1) / took,
        **meter.figures(executions, "execution", busy),
    }


def _check(results: list[Any], count: int) -> None:
    expected = (
        [f"completed: {_CHILDREN}"] * count
        + [f"{'step of ' * _STEPS}{number}" for number in range(count)]
        + [LoopResult(True, "done", 1)] * count
    )
    if results != expected:
        raise AssertionError("a tree, a sequence or a loop gave another result; the time means nothing")


WORKLOAD = Workload(
    name="reference",
    question="parents of 50 children, sequences of 4, loops of 1, bodies of 1 ms: how long?",
    run=_run,
    count=100,
    unit="of each",
    main=("seconds", "executions_per_s"),
)
