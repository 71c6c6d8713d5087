"""What undoes or finalizes a workflow and fails: the body's end stays the end, and the record tells of the rest."""

from __future__ import annotations

import pytest

from durable import ConfigurationError, Durable, Retry, Status, WorkflowContext, constant
from durable.testing import VirtualStorage, app_under_test
from tests.jobs.crew import crew


class Log(list[str]):
    async def note(self, text: str) -> None:
        self.append(text)

    async def fail(self, text: str) -> None:
        self.append(text)
        raise ValueError(f"{text} failed")


@pytest.mark.parametrize("end", ["failed", "cancelled", "timed_out"])
async def test_the_end_is_that_of_the_body(app: Durable, storage: VirtualStorage, end: str) -> None:
    log = Log()

    @app.workflow(timeout="1h")
    async def flow(ctx: WorkflowContext) -> None:
        ctx.on_rollback(log.note, "first")
        ctx.on_rollback(log.fail, "second")
        if end == "failed":
            raise KeyError("the error of the body")
        await ctx.wait_signal("never", int)

    @flow.finalize
    async def tidy(ctx: WorkflowContext) -> None:
        await ctx.step(log.fail, "tidying")

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        if end == "cancelled":
            await handle.cancel(reason="changed my mind")
        if end == "timed_out":
            await kit.clock.advance("1h")
    # The rest runs elsewhere, over the history.
    async with crew(storage, app) as (kit,):
        await kit.drain()
        record = await flow.handle(handle.execution_id).execution()
    why = {"failed": "the error of the body", "cancelled": "changed my mind", "timed_out": "longer than its timeout"}
    assert record.status == end
    for text in (
        why[end],
        "undoing failed as well: ",
        "second failed",
        "finalize failed as well: StepFailed: step 'fail#1' failed: ValueError: tidying failed",
    ):
        assert text in (record.error or "")
    assert log == ["second", "first", "tidying"]


async def test_a_finalize_that_fails_after_a_return_fails_the_workflow_and_its_work_is_undone(
    app: Durable, storage: VirtualStorage
) -> None:
    log = Log()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        ctx.on_rollback(log.note, "undone")
        return "done"

    @flow.finalize
    async def tidy(ctx: WorkflowContext) -> None:
        ctx.on_rollback(log.note, "untidied")
        await ctx.step(log.fail, "tidying")

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        record = await handle.execution()
    assert (record.status, log) == (Status.FAILED, ["tidying", "untidied", "undone"])
    assert "tidying failed" in (record.error or "")


async def test_what_has_no_name_is_refused_where_it_is_registered(app: Durable, storage: VirtualStorage) -> None:
    log = Log()

    @app.workflow
    async def flow(ctx: WorkflowContext, with_name: bool) -> None:
        undo = lambda: log.append("undone")  # noqa: E731 - what this is about
        named = ctx.with_options(name="undo") if with_name else ctx
        try:
            named.on_rollback(undo)
        except ConfigurationError:
            log.append("refused")
        raise ValueError

    async with app_under_test(app, storage=storage) as kit:
        for with_name in (False, True):
            await flow.enqueue(with_name)
            await kit.drain()
    assert log == ["refused", "undone"]


async def test_its_options_count_also_after_it_was_carried_over(app: Durable, storage: VirtualStorage) -> None:
    log = Log()

    @app.task
    async def refund(number: int) -> None:
        log.append(f"refund {number}")
        if len(log) < 3:
            raise ValueError("not yet")

    @app.workflow
    async def flow(ctx: WorkflowContext, number: int) -> None:
        if number == 0:
            options = ctx.with_options(name="giving back").with_options(retry=Retry(3, constant("1m"), jitter=0))
            options.on_rollback(refund, 7)
            ctx.continue_as_new(1)
        raise ValueError

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue(0)
        await kit.clock.advance("5m")
        assert await handle.status() is Status.FAILED
        (history,) = await kit.app.storage.histories([(handle.execution_id, 0, 0)])
    undoing = [(entry.kind, entry.key) for entry in history.entries if entry.key.startswith("rollback:")]
    key = "rollback:giving back#1"
    assert undoing == [("attempt", key), ("step", key)]
    assert log == ["refund 7"] * 3
