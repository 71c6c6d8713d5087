"""What ends a workflow that is kept because its code does not fit it: its timeout, and a cancel by force."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from durable import ConfigurationError, Durable, Status, Workflow, WorkflowContext
from durable.execution import Execution
from durable.explain import error_of
from durable.testing import VirtualStorage, app_under_test

DSN = "postgresql://nobody@nowhere.invalid/nothing"
Flow = Workflow[[int], int]


class Undone:
    def __init__(self) -> None:
        self.log: list[int] = []

    async def refund(self, number: int) -> None:
        self.log.append(number)


def _old(app: Durable, undone: Undone, *, timeout: str | None = "1h") -> Flow:
    @app.task
    async def slow(number: int) -> int:
        return number

    @app.workflow(timeout=timeout)
    async def flow(ctx: WorkflowContext, number: int) -> int:
        ctx.on_rollback(undone.refund, number)
        await ctx.step(abs, number)
        ctx.on_rollback(undone.refund, number + 1)
        await ctx.child(slow.child(number, delay="1d"))
        return await ctx.wait_signal("more", int)

    return flow


def _renamed(app: Durable, undone: Undone) -> Flow:
    """The child is a step now."""

    @app.workflow
    async def flow(ctx: WorkflowContext, number: int) -> int:
        ctx.on_rollback(undone.refund, number)
        await ctx.step(abs, number)
        ctx.on_rollback(undone.refund, number + 1)
        return await ctx.with_options(name="slow").step(abs, number)

    return flow


def _without_input(app: Durable, undone: Undone) -> Workflow[[int, str], int]:
    @app.workflow
    async def flow(ctx: WorkflowContext, number: int, more: str) -> int:
        return number

    return flow


async def _begun(app: Durable, storage: VirtualStorage, undone: Undone, *, timeout: str | None = "1h") -> str:
    flow = _old(app, undone, timeout=timeout)
    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue(1)
        await kit.drain()
        return handle.execution_id


async def _stands(storage: VirtualStorage, id_: str, declare: Callable[[Durable], object], *times: str) -> Execution:
    """After these times with that code."""
    app = Durable(DSN)
    declare(app)
    async with app_under_test(app, storage=storage) as kit:
        for time in times:
            await kit.clock.advance(time)
        await kit.drain()
        (record,) = await app.storage.get([id_])
        assert record is not None
        return record


@pytest.mark.parametrize(
    ("declare", "told"),
    [
        (_renamed, "these were registered to undo its work: refund, refund. the history has child 'slow#1'"),
        (_without_input, "it is not known what would. the history has an input that no longer fits"),
    ],
)
async def test_its_timeout_ends_it_and_says_what_was_not_undone(
    app: Durable, storage: VirtualStorage, declare: Callable[[Durable, Undone], object], told: str
) -> None:
    undone = Undone()
    id_ = await _begun(app, storage, undone)
    kept = await _stands(storage, id_, lambda later: declare(later, undone), "119m")
    assert (kept.status, kept.reason) == (Status.READY, "step_mismatch")
    ended = await _stands(storage, id_, lambda later: declare(later, undone), "90s")
    error = error_of(ended)
    assert (ended.status, error and error.type) == (Status.TIMED_OUT, "timed_out")
    assert "nothing was undone; " + told in str(error)
    assert undone.log == []
    # Its child ends with it, as with any parent.
    assert ended.active_children_count == 0


async def test_what_undoes_its_work_has_no_timeout(app: Durable, storage: VirtualStorage) -> None:
    undone = Undone()

    @app.workflow(timeout="1h")
    async def flow(ctx: WorkflowContext, number: int) -> int:
        try:
            return await ctx.wait_signal("more", int)
        finally:
            await ctx.sleep("30m")
            await ctx.step(undone.refund, number)

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue(1)
        await kit.clock.advance("61m")
    assert undone.log == []

    def changed(app: Durable) -> None:
        @app.workflow(name="flow")
        async def other(ctx: WorkflowContext, number: int, more: str) -> int:
            return number

    kept = await _stands(storage, handle.execution_id, changed, "3h")
    assert (kept.status, kept.reason) == (Status.READY, "step_mismatch")
    async with app_under_test(app, storage=storage) as kit:
        await kit.clock.advance("1m")
        assert await handle.status() is Status.TIMED_OUT
    assert undone.log == [1]


async def test_a_cancel_waits_for_code_that_fits(app: Durable, storage: VirtualStorage) -> None:
    undone = Undone()
    id_ = await _begun(app, storage, undone, timeout=None)
    later = Durable(DSN)
    changed = _renamed(later, undone)
    async with app_under_test(later, storage=storage) as kit:
        handle = changed.handle(id_)
        assert (await handle.cancel()).outcome == "requested"
        await kit.clock.advance("10m")
        assert await handle.status() is Status.READY
    assert undone.log == []
    ended = await _stands(storage, id_, lambda fits: _old(fits, undone), "1m")
    assert (ended.status, undone.log) == (Status.CANCELLED, [2, 1])


@pytest.mark.parametrize("by", ["handle", "client"])
async def test_a_cancel_by_force_does_not_ask_it(app: Durable, storage: VirtualStorage, by: str) -> None:
    undone = Undone()
    id_ = await _begun(app, storage, undone, timeout=None)
    later = Durable(DSN)
    changed = _renamed(later, undone)

    def from_a_thread() -> str:
        with later.client() as client:
            return client.handle(changed, id_).cancel(reason="enough", running="force").outcome

    async with app_under_test(later, storage=storage) as kit:
        await kit.clock.advance("1m")
        handle = changed.handle(id_)
        if by == "handle":
            outcome: str = (await handle.cancel(reason="enough", running="force")).outcome
        else:
            outcome = await asyncio.to_thread(from_a_thread)
        record = await handle.execution()
        assert (outcome, record.status, record.reason) == ("cancelled", Status.CANCELLED, "enough")
        await kit.drain()
        assert [child.status for child in await handle.children()] == [Status.CANCELLED]
        with pytest.raises(ConfigurationError, match="running must be"):
            await later.cancel_all(running="force")  # type: ignore[arg-type]
    assert undone.log == []
