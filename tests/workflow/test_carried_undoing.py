"""What a run has registered to undo its work goes with it when it continues as new, or is let go of by name."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from durable import Durable, ExecutionFailed, Status, Workflow, WorkflowContext
from durable.testing import VirtualStorage, app_under_test
from durable.workflow.undoing import input_of

DSN = "postgresql://nobody@nowhere.invalid/nothing"


class Bank:
    def __init__(self) -> None:
        self.log: list[object] = []


def _flow(
    app: Durable, bank: Bank, *, runs: int, has_refund: bool = True, forgets: bool = False
) -> Workflow[[int], int]:
    @app.task(name="refund" if has_refund else "other")
    async def refund(amount: Decimal, *, note: str = "") -> None:
        bank.log.append((amount, note))

    @app.workflow
    async def flow(ctx: WorkflowContext, n: int) -> int:
        await ctx.wait_signal("go", int)
        ctx.on_rollback(refund, Decimal(n), note=f"run {n}")
        if forgets:
            ctx.forget_rollback()
        if n < runs:
            ctx.continue_as_new(n + 1)
        if n < 10:
            raise ValueError("no more")
        return n

    return flow


async def _gone(app: Durable, storage: VirtualStorage, flow: Workflow[[int], int], count: int) -> str:
    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue(1)
        for _ in range(count):
            await handle.signal("go", 1)
            await kit.drain()
        return handle.execution_id


async def test_the_last_run_undoes_what_all_have_done(app: Durable, storage: VirtualStorage) -> None:
    bank = Bank()
    id_ = await _gone(app, storage, _flow(app, bank, runs=3), 2)
    # Another process, which has nothing in memory.
    later = Durable(DSN)
    flow = _flow(later, bank, runs=3)
    async with app_under_test(later, storage=storage) as kit:
        handle = flow.handle(id_)
        assert input_of((await handle.execution()).run_output or "") == '{"n":3}'
        await handle.signal("go", 1)
        await kit.drain()
        with pytest.raises(ExecutionFailed, match="no more"):
            await handle.result(timeout=0)
    assert bank.log == [(Decimal(3), "run 3"), (Decimal(2), "run 2"), (Decimal(1), "run 1")]


async def test_what_was_let_go_of_stays_done(app: Durable, storage: VirtualStorage) -> None:
    bank = Bank()
    flow = _flow(app, bank, runs=2, forgets=True)
    id_ = await _gone(app, storage, flow, 2)
    async with app_under_test(app, storage=storage):
        assert await flow.handle(id_).status() is Status.FAILED
    assert bank.log == []


@pytest.mark.parametrize("way", ["cancel", "complete"])
async def test_it_is_undone_when_a_later_run_is_cancelled_and_not_when_it_completes(
    app: Durable, storage: VirtualStorage, way: str
) -> None:
    bank = Bank()
    flow = _flow(app, bank, runs=10)
    id_ = await _gone(app, storage, flow, 10 if way == "complete" else 2)
    async with app_under_test(app, storage=storage) as kit:
        if way == "cancel":
            await flow.handle(id_).cancel()
            await kit.drain()
        status = await flow.handle(id_).status()
    expected = [] if way == "complete" else [(Decimal(2), "run 2"), (Decimal(1), "run 1")]
    assert (status, bank.log) == (Status.COMPLETED if way == "complete" else Status.CANCELLED, expected)


async def test_without_its_task_the_workflow_is_kept(app: Durable, storage: VirtualStorage) -> None:
    bank = Bank()
    id_ = await _gone(app, storage, _flow(app, bank, runs=2), 1)
    later = Durable(DSN)
    flow = _flow(later, bank, runs=2, has_refund=False)
    async with app_under_test(later, storage=storage) as kit:
        handle = flow.handle(id_)
        await handle.signal("go", 1)
        await kit.drain()
        record = await handle.execution()
        assert (record.status, record.reason) == (Status.READY, "step_mismatch")
        assert "a call of task 'refund' that undoes the work of an earlier run" in (record.error or "")
    again = Durable(DSN)
    flow = _flow(again, bank, runs=2)
    async with app_under_test(again, storage=storage) as kit:
        await kit.clock.advance("1m")
        assert await flow.handle(id_).status() is Status.FAILED
    assert bank.log == [(Decimal(2), "run 2"), (Decimal(1), "run 1")]


async def test_a_function_that_is_no_task_is_refused_and_runs(app: Durable, storage: VirtualStorage) -> None:
    bank = Bank()

    async def refund(amount: int) -> None:
        bank.log.append(amount)

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        ctx.on_rollback(refund, 7)
        ctx.continue_as_new()

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        with pytest.raises(ExecutionFailed, match="cannot take along 'refund', registered by on_rollback: only a task"):
            await handle.result(timeout=0)
    assert bank.log == [7]


async def test_what_cannot_be_stored_is_refused(app: Durable, storage: VirtualStorage) -> None:
    bank = Bank()

    @app.task
    async def refund(amount: int) -> None:
        bank.log.append(amount)

    @app.workflow
    async def flow(ctx: WorkflowContext, count: int) -> None:
        for n in range(count):
            ctx.on_rollback(refund, n)
        if count == 1:
            ctx.on_rollback(refund, "much")
        ctx.continue_as_new(0)

    async with app_under_test(app, storage=storage) as kit:
        many, wrong = await flow.enqueue(1001), await flow.enqueue(1)
        await kit.drain()
        with pytest.raises(ExecutionFailed, match="1001 calls are registered by on_rollback"):
            await many.result(timeout=0)
        with pytest.raises(ExecutionFailed, match="InvalidInput"):
            await wrong.result(timeout=0)
    assert len(bank.log) == 1003


async def test_a_handler_of_an_update_may_register_until_the_run_ends(app: Durable, storage: VirtualStorage) -> None:
    bank, begun = Bank(), asyncio.Event()

    @app.task
    async def refund(amount: int) -> None:
        bank.log.append(amount)

    async def begin() -> None:
        begun.set()

    @app.workflow
    async def flow(ctx: WorkflowContext, n: int) -> None:
        if n == 0:
            await ctx.wait_signal("go", int)
            ctx.continue_as_new(1)
        raise ValueError("no more")

    @flow.update
    async def pay(ctx: WorkflowContext, amount: int) -> None:
        await ctx.step(begin)
        await ctx.sleep("1h")
        ctx.on_rollback(refund, amount)

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue(0)
        await kit.drain()
        asked = asyncio.ensure_future(handle.update(pay, 9))
        await begun.wait()
        await handle.signal("go", 1)
        await kit.clock.advance("1h")
        await asked
        assert await handle.status() is Status.FAILED
    assert bank.log == [9]
