"""What a type checker makes of children, maps and forks of workflows. Checked by mypy and pyright, both strict; never
run. A line that must be refused carries an ignore for each checker; both report an ignore that nothing needs.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import assert_type

from durable import ChildResult, Durable, WorkflowContext, WorkflowHandle

app = Durable()


@app.task
async def square(n: int) -> float:
    return n * n


@app.task
def ping() -> None: ...


@app.workflow
async def inner(ctx: WorkflowContext, word: str) -> bytes:
    return word.encode()


@app.workflow
async def outer(ctx: WorkflowContext) -> None:
    assert_type(await ctx.map(square, [1, 2]), list[float])
    assert_type(await ctx.map(square, range(9), concurrency=3), list[float])
    assert_type(await ctx.map(inner, (word for word in "abc")), list[bytes])
    assert_type(await ctx.map(square, [1], tolerate_failures=0), list[ChildResult[float]])
    assert_type(await ctx.map(inner, ["a"], tolerate_failures="5%"), list[ChildResult[bytes]])
    await ctx.map(square, ["a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ctx.map(ping, [1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await ctx.start(square, 1), str)
    assert_type(await ctx.start(inner.child("a", delay="1m")), str)
    assert_type(await ctx.child(square.child(1, on_parent_close="abandon")), float)
    await ctx.start(square, "a")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    square.child(1, on_parent_close="forget")  # type: ignore[call-overload]  # pyright: ignore


async def runs_again(handle: WorkflowHandle[bytes]) -> None:
    assert_type(await handle.fork("charge#1"), WorkflowHandle[bytes])
    assert_type(await handle.restart(), WorkflowHandle[bytes])
