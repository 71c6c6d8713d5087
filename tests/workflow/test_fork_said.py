"""A fork has said what had been said at its point: values, pieces of the body and of its steps, answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable import Durable, Status, TaskContext, Workflow, WorkflowContext, WorkflowHandle
from durable.testing import VirtualStorage, app_under_test

DSN = "postgresql://nobody@nowhere.invalid/nothing"


def _flow(app: Durable, *, word: str = "", version: int = 1) -> Workflow[[], str]:
    """Publishes and streams before and after each of three steps, which stream themselves."""

    def work(context: TaskContext, name: str) -> str:
        for n in range(2):
            context.emit(f"{name} {n}")
        return name

    @app.workflow(version=version)
    async def flow(ctx: WorkflowContext) -> str:
        for name in "abc":
            ctx.publish("at", f"{word}{name}")
            ctx.publish(f"seen {name}", True)
            ctx.emit(f"before {name}")
            await ctx.with_options(name=name).step(work, name)
            ctx.emit(f"after {name}")
        await ctx.wait_signal("end", str)
        ctx.publish("at", "end")
        return "done"

    return flow


async def _streamed(handle: WorkflowHandle[Any]) -> list[Any]:
    """What is stored of its stream; it must have ended."""
    return [chunk.value async for chunk in handle.stream()]


async def _ended(kit: Any, handle: WorkflowHandle[Any]) -> list[Any]:
    await handle.signal("end", "")
    await kit.drain()
    return await _streamed(handle)


def _pieces(*names: str) -> list[str]:
    return [piece for name in names for piece in (f"before {name}", f"{name} 0", f"{name} 1", f"after {name}")]


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize(("point", "done"), [("a", ""), ("b", "a"), ("c", "ab"), (None, "abc")])
async def test_it_says_again_what_was_said_and_no_more(
    app: Durable, storage: VirtualStorage, point: str | None, done: str, elsewhere: bool
) -> None:
    flow = _flow(app)
    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        forked = await handle.fork(point)
        stored = [chunk.payload for chunk in await app.storage.stored_chunks(forked.execution_id, after=0, limit=99)]
        if not elsewhere:
            await kit.drain()
    # What is copied at once: all that was streamed by then. What the body says again goes out with its first turn.
    before = [f'"{piece}"' for piece in _pieces(*done)]
    assert stored[: len(before)] == before
    async with app_under_test(app, storage=storage) as kit:
        await kit.drain()
        values = await forked.values()
        assert dict(values) == {"at": "c", **{f"seen {name}": True for name in "abc"}}
        streamed = await _ended(kit, forked)
        assert streamed[: len(before)] == _pieces(*done)
        assert sorted(set(streamed)) == sorted(_pieces(*"abc"))
        assert [piece for piece in streamed if "before" in piece or "after" in piece] == [
            piece for piece in _pieces(*"abc") if "before" in piece or "after" in piece
        ]
        assert dict(await handle.values())["at"] == "c"


async def test_its_values_are_those_of_its_point(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        ctx.publish("at", 1)
        await ctx.wait_signal("go", int)
        ctx.publish("at", 2)
        ctx.publish("late", True)
        await ctx.wait_signal("go", int)

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await handle.signal("go", 1)
        await kit.drain()
        assert dict(await handle.values()) == {"at": 2, "late": True}
        forked = await handle.fork("signal:go")
        again = await handle.fork()
        third = await again.fork()
        await kit.drain()
        assert dict(await forked.values()) == {"at": 1}
        assert dict(await again.values()) == dict(await third.values()) == {"at": 2, "late": True}
        assert await forked.status() is Status.WAITING


async def test_values_of_a_fork_are_those_of_the_code_of_today(app: Durable, storage: VirtualStorage) -> None:
    flow = _flow(app)
    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        forked = await handle.fork()
    later = Durable(DSN)
    changed = _flow(later, word="new ", version=2).handle(forked.execution_id)
    async with app_under_test(later, storage=storage) as kit:
        await kit.drain()
        assert await changed.value("at") == "new c"
        # Pieces were copied, and are not said again by other code either.
        assert await _ended(kit, changed) == _pieces(*"abc")


async def test_what_earlier_runs_have_said_is_there_too(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext, n: int) -> int:
        ctx.publish(f"run {n}", n)
        ctx.publish("last", n)
        ctx.emit(n)
        await ctx.wait_signal("go", int)
        if n < 3:
            ctx.continue_as_new(n + 1)
        ctx.publish("last", "over")
        ctx.emit("over")
        return n

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue(1)
        for _ in range(3):
            await kit.clock.advance("1h")
            await handle.signal("go", 1)
        await kit.drain()
        assert await handle.result(timeout=0) == 3
        forked = await handle.fork("signal:go")
        await kit.drain()
        # `last` was published by run 2 before it, and by run 3 again.
        assert dict(await forked.values()) == {"run 1": 1, "run 2": 2, "run 3": 3, "last": 3}
        await forked.signal("go", 1)
        await kit.drain()
        assert await _streamed(forked) == [1, 2, 3, "over"]
        assert await _streamed(await handle.fork()) == [1, 2, 3, "over"]


async def test_answers_of_updates_are_given_again(app: Durable, storage: VirtualStorage) -> None:
    done: list[int] = []

    async def note(n: int) -> int:
        done.append(n)
        return n

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        return await ctx.wait_signal("end", str)

    @flow.update
    async def add(ctx: WorkflowContext, n: int) -> int:
        return await ctx.step(note, n) + 1

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        asked = asyncio.ensure_future(handle.update(add, 4, update_id="one"))
        assert await asked == 5
        forked = await handle.fork()
        await kit.drain()
        assert await forked.update(add, 4, update_id="one") == 5
        assert done == [4]
