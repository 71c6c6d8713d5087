"""What a body takes from outside and hands to sleeps, waits, options and what it says: noticed, on each storage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

import pytest

from durable import Durable, Status, Workflow, WorkflowContext
from durable.child import Child
from durable.digests import digest
from durable.testing import VirtualStorage
from tests.jobs.crew import client_only, crew

Body = Callable[[WorkflowContext, Durable], Awaitable[object]]


class Outside:
    """What another process, a file or a set decides; it is changed between two runs of the body."""

    def __init__(self) -> None:
        self.number = 1


async def _undo(number: int) -> None: ...


def _bodies(outside: Outside, child: Any) -> dict[str, tuple[Callable[[WorkflowContext], Awaitable[object]], str]]:
    """The body of each kind, and of what the error tells. Each comes to the end of an hour."""

    async def sleep(ctx: WorkflowContext) -> None:
        await ctx.sleep(timedelta(hours=1, seconds=outside.number))

    async def until(ctx: WorkflowContext) -> None:
        await ctx.sleep_until(ctx.now() + timedelta(hours=1, seconds=outside.number))

    async def wait(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("go", int, timeout=timedelta(hours=3, seconds=outside.number))

    async def wait_at_all(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("go", int, timeout=None if outside.number == 1 else "5h")

    async def options(ctx: WorkflowContext) -> None:
        await ctx.child(child.child(1, priority=outside.number))

    async def start_options(ctx: WorkflowContext) -> None:
        await ctx.start(child.child(1, delay=timedelta(hours=outside.number)))

    async def publish(ctx: WorkflowContext) -> None:
        ctx.publish("number", outside.number)

    async def emit(ctx: WorkflowContext) -> None:
        ctx.emit({"number": outside.number})

    async def register(ctx: WorkflowContext) -> None:
        ctx.on_rollback(_undo, outside.number)

    return {
        "sleep": (sleep, "sleep 'sleep#1' with other arguments"),
        "until": (until, "sleep 'sleep#1' with other arguments"),
        "wait": (wait, "wait 'signal:go#1' with other arguments"),
        "wait at all": (wait_at_all, "wait 'signal:go#1' with other arguments"),
        "options": (options, "child 'child#1' with other arguments"),
        "start options": (start_options, "start 'start:child#1' with other arguments"),
        "publish": (publish, "step 'abs#1' after other published, streamed or registered values"),
        "emit": (emit, "step 'abs#1' after other published, streamed or registered values"),
        "register": (register, "step 'abs#1' after other published, streamed or registered values"),
    }


KINDS: Final = tuple(_bodies(Outside(), None))


def _flow(app: Durable, kind: str, outside: Outside, *, version: int = 1) -> tuple[Workflow[[], int], str]:
    @app.task
    async def child(number: int) -> int:
        return number

    body, told = _bodies(outside, child)[kind]

    @app.workflow(version=version)
    async def flow(ctx: WorkflowContext) -> int:
        await body(ctx)
        await ctx.step(abs, -1)
        await ctx.sleep("1h")
        return 7

    return flow, told


async def _begun(storage: VirtualStorage, app: Durable, flow: Workflow[[], int], kind: str) -> str:
    """It has come to its long sleep, or waits in the middle of one of another kind."""
    async with crew(storage, app) as (kit,):
        handle = await flow.enqueue()
        await kit.drain()
        if "wait" in kind:
            await handle.signal("go", 1)
        await kit.drain()
        return handle.execution_id


@pytest.mark.parametrize("kind", KINDS)
async def test_another_value_under_the_same_code_is_a_mismatch(
    app: Durable, storage: VirtualStorage, kind: str
) -> None:
    outside = Outside()
    flow, told = _flow(app, kind, outside)
    handle = flow.handle(await _begun(storage, app, flow, kind))
    outside.number = 2
    async with crew(storage, app) as (kit,):
        await kit.clock.advance("61m")
        record = await handle.execution()
        assert (record.status, record.reason) == (Status.READY, "step_mismatch")
        assert told in (record.error or "")
        outside.number = 1
        await kit.clock.advance("3h")
        assert await handle.result(timeout=0) == 7


@pytest.mark.parametrize("kind", KINDS)
async def test_changed_code_keeps_what_is_stored(app: Durable, storage: VirtualStorage, kind: str) -> None:
    outside = Outside()
    flow, _ = _flow(app, kind, outside)
    id_ = await _begun(storage, app, flow, kind)
    outside.number = 2
    later = Durable("postgresql://nobody@nowhere.invalid/nothing")
    changed, _ = _flow(later, kind, outside, version=2)
    async with crew(storage, later) as (kit,):
        await kit.clock.advance("3h")
        assert await changed.handle(id_).result(timeout=0) == 7


async def test_a_sleep_that_has_begun_keeps_its_end_when_the_code_changes(
    app: Durable, storage: VirtualStorage
) -> None:
    def declared(app: Durable, hours: int, *, version: int) -> Workflow[[], None]:
        @app.workflow(version=version)
        async def flow(ctx: WorkflowContext) -> None:
            await ctx.sleep(timedelta(hours=hours))

        return flow

    flow = declared(app, 1, version=1)
    async with crew(storage, app) as (kit,):
        handle = await flow.enqueue()
        await kit.drain()
    later = Durable("postgresql://nobody@nowhere.invalid/nothing")
    changed = declared(later, 9, version=2).handle(handle.execution_id)
    async with crew(storage, later) as (kit,):
        await kit.clock.advance("59m")
        assert await changed.status() is Status.READY
        await kit.clock.advance("1m")
        assert await changed.status() is Status.COMPLETED


async def test_a_child_outside_of_workflows_has_no_digest_made(app: Durable, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def counted(*given: Any) -> str:
        made.append(given)
        return digest(*given)

    monkeypatch.setattr("durable.child.digest", counted)

    @app.task
    async def child(number: int) -> int:
        return number

    call: Child[int] = child.child(1, priority=2)
    assert made == []
    assert call.digest() == child.child(1, priority=2).digest() != child.child(1, priority=3).digest()
    assert len({call, call}) == 1


async def test_what_waits_ahead_of_the_body_is_no_other_value(app: Durable, storage: VirtualStorage) -> None:
    """Values are noticed by the command that follows them, whichever task of the body gives it."""

    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        async def report(name: str) -> int:
            total = 0
            for n in range(3):
                ctx.publish(name, n)
                ctx.emit([name, n])
                total += await ctx.step(abs, -n)
                await ctx.sleep("1h")
            return total

        return sum(await ctx.gather(report("a"), report("b"), report("c")))

    async with client_only(storage, app):
        handle = await flow.enqueue()
    for _ in range(4):
        async with crew(storage, app) as (kit,):
            await kit.clock.advance("1h")
            assert (await handle.execution()).reason is None
    async with crew(storage, app) as (kit,):
        assert await handle.result(timeout=0) == 9
        assert sorted([(await handle.values())[name] for name in "abc"]) == [2, 2, 2]
