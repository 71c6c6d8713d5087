"""What a workflow stored for some arguments is never given to others: on each storage, for each kind of command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from durable import Durable, NonRetryable, Retry, Status, Workflow, WorkflowContext, constant
from durable.testing import VirtualStorage, replay_histories
from tests.jobs.crew import client_only, crew

_PAUSE = "30s"
"""After which a workflow that does not fit its history is tried again."""
KINDS: Final = {
    "step": "step 'echo#1'",
    "transaction": "step 'write#1'",
    "attempt": "step 'shaky#1'",
    "child": "child 'child#1'",
    "child with options": "child 'child#1'",
    "gather": "child 'child#1'",
    "start": "start 'start:child#1'",
    "signal": "message 'send:note#1'",
    "map": "map 'map:child#1'",
    "map that has more items": "map 'map:child#1'",
}


def _body(app: Durable, kind: str, items: list[str]) -> Callable[[WorkflowContext], Awaitable[object]]:
    """Hands the items, which others change, to commands of one kind."""

    @app.task
    async def child(item: str) -> str:
        return item

    async def echo(item: str) -> str:
        return item

    async def shaky(item: str) -> str:
        raise ConnectionError(item)

    async def write(connection: object, item: str) -> str:
        return item

    async def body(ctx: WorkflowContext) -> object:
        match kind:
            case "step":
                return [await ctx.step(echo, item) for item in items]
            case "transaction":
                return [await ctx.transaction(write, item) for item in items]
            case "attempt":
                return await ctx.with_options(retry=Retry(2, constant("1h"), jitter=0)).step(shaky, items[0])
            case "child":
                return [await ctx.child(child, item) for item in items]
            case "child with options":
                return [await ctx.child(child.child(item, priority=1)) for item in items]
            case "gather":
                return await ctx.gather(*(ctx.child(child, item) for item in items))
            case "start":
                return [await ctx.start(child, item) for item in items]
            case "signal":
                for item in items:
                    await ctx.signal(ctx.execution_id, "note", item)
                return None
            case "map" | "map that has more items":
                return await ctx.map(child, items)
            case _:
                raise NonRetryable(kind)

    return body


def _flow(app: Durable, kind: str, items: list[str], *, version: int = 1) -> Workflow[[], None]:
    body = _body(app, kind, items)

    @app.workflow(version=version)
    async def flow(ctx: WorkflowContext) -> None:
        try:
            await body(ctx)
        finally:
            await ctx.sleep("2h")

    return flow


@pytest.mark.parametrize("kind", KINDS)
async def test_other_arguments_under_the_same_code_are_a_mismatch(
    app: Durable, storage: VirtualStorage, kind: str
) -> None:
    items = ["a", "b"]
    flow = _flow(app, kind, items)
    async with crew(storage, app) as (kit,):
        handle = flow.handle((await flow.enqueue()).execution_id)
        await kit.drain()
    items[:] = ["a", "b", "c"] if "more" in kind else ["b", "a"]
    async with crew(storage, app) as (kit,):
        await kit.clock.advance("2h")
        record = await handle.execution()
        assert (record.status, record.reason) == (Status.READY, "step_mismatch")
        assert record.error is not None
        assert KINDS[kind] in record.error
        assert "arguments that differ" in record.error
        # As it was: it goes on.
        items[:] = ["a", "b"]
        await kit.clock.advance(_PAUSE)
        await kit.clock.advance("4h")
        assert await handle.status() is (Status.FAILED if kind == "attempt" else Status.COMPLETED)


async def test_a_map_that_goes_on_finds_the_items_that_it_has_started(app: Durable, storage: VirtualStorage) -> None:
    """Of what can be iterated over once alone, nothing is known before the map needs its next item."""
    items = ["a", "b", "c"]
    lengths: list[int] = []

    @app.workflow
    async def wait(ctx: WorkflowContext, item: str) -> str:
        await ctx.sleep("1h")
        return item

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[str]:
        found = await ctx.map(wait, iter(items), concurrency=2)
        lengths.append(len(found))
        return found

    async with crew(storage, app) as (kit,):
        handle = flow.handle((await flow.enqueue()).execution_id)
        await kit.drain()
    items[0] = "z"
    async with crew(storage, app) as (kit,):
        await kit.clock.advance("1h")
        record = await handle.execution()
        assert record.reason == "step_mismatch"
        assert "a map of task 'wait'" in (record.error or "")
        assert "arguments" not in (record.error or "")
        items[0] = "a"
        await kit.clock.advance("3h")
        assert await handle.result(timeout=0) == ["a", "b", "c"]


@pytest.mark.parametrize("kind", ["step", "child", "start", "signal", "map"])
async def test_changed_code_may_have_other_arguments(app: Durable, storage: VirtualStorage, kind: str) -> None:
    flow = _flow(app, kind, ["a", "b"])
    async with crew(storage, app) as (kit,):
        handle = await flow.enqueue()
        await kit.drain()
    later = Durable("postgresql://nobody@nowhere.invalid/nothing")
    changed = _flow(later, kind, ["b", "a"], version=2)
    async with client_only(storage, later):
        (found,) = await replay_histories(later, later.storage, limit=1)
        assert found.problem is None
    async with crew(storage, later) as (kit,):
        await kit.clock.advance("2h")
        assert await changed.handle(handle.execution_id).status() is Status.COMPLETED


async def test_a_history_that_new_code_has_gone_on_with_is_held_to_its_arguments(
    app: Durable, storage: VirtualStorage
) -> None:
    """Only what the old code has written may differ."""
    items: list[str] = ["a"]

    async def echo(item: str) -> str:
        return item

    def flow_of(app: Durable, version: int) -> Workflow[[], None]:
        @app.workflow(version=version)
        async def flow(ctx: WorkflowContext) -> None:
            await ctx.step(echo, f"version {version}")
            await ctx.wait_signal("half", bool)
            await ctx.step(echo, items[0])
            await ctx.wait_signal("go", bool)

        return flow

    old = flow_of(app, 1)
    async with crew(storage, app) as (kit,):
        handle = await old.enqueue()
        await kit.drain()
    later = Durable("postgresql://nobody@nowhere.invalid/nothing")
    new = flow_of(later, 2)
    async with crew(storage, later) as (kit,):
        await new.handle(handle.execution_id).signal("half", True)
        await kit.drain()
    items[0] = "b"
    async with crew(storage, later) as (kit,):
        await new.handle(handle.execution_id).signal("go", True)
        await kit.drain()
        record = await new.handle(handle.execution_id).execution()
        assert record.reason == "step_mismatch"
        assert "step 'echo#2'" in (record.error or "")


async def test_arguments_that_a_step_changes_count_as_they_were_given(app: Durable, storage: VirtualStorage) -> None:
    async def add(to: list[int], number: int) -> None:
        to.append(number)

    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        numbers: list[int] = []
        await ctx.step(add, numbers, 1)
        numbers = [0, 1]
        await ctx.step(add, numbers, 2)
        await ctx.wait_signal("go", bool)
        return 1

    async with crew(storage, app) as (kit,):
        handle = flow.handle((await flow.enqueue()).execution_id)
        await kit.drain()
    async with crew(storage, app) as (kit,):
        await handle.signal("go", True)
        await kit.drain()
        assert await handle.result(timeout=0) == 1


async def test_a_set_is_the_same_in_every_process(app: Durable, storage: VirtualStorage) -> None:
    """Of the same parts in another order, as sets have them in another process."""
    orders = [["x", "y", "z"], ["z", "x", "y"]]

    class Parts(set[str]):
        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter(orders[0])

    async def count(parts: set[str]) -> int:
        return len(parts)

    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        found = await ctx.step(count, Parts(orders[0]))
        await ctx.wait_signal("go", bool)
        return found

    async with crew(storage, app) as (kit,):
        handle = flow.handle((await flow.enqueue()).execution_id)
        await kit.drain()
    del orders[0]
    async with crew(storage, app) as (kit,):
        await handle.signal("go", True)
        await kit.drain()
        assert await handle.result(timeout=0) == 3


async def test_a_fork_is_held_to_the_arguments_of_its_source(app: Durable, storage: VirtualStorage) -> None:
    items = ["a", "b"]

    async def echo(item: str) -> str:
        return item

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[str]:
        return [await ctx.step(echo, item) for item in items]

    async with crew(storage, app) as (kit,):
        handle = await flow.enqueue()
        await kit.drain()
        items[:] = ["c", "d"]
        fork = await flow.handle(handle.execution_id).fork("echo#2")
        await kit.drain()
        assert (await fork.execution()).reason == "step_mismatch"
        items[:] = ["a", "d"]
        await kit.clock.advance(_PAUSE)
        assert await fork.result(timeout=0) == ["a", "d"]
