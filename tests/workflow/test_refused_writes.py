"""A storage that refuses what a workflow writes: it is kept, not failed without its undoing, and goes on later."""

from __future__ import annotations

import pytest

from durable import ConfigurationError, Durable, Status, Workflow, WorkflowContext
from durable.errors import StorageError
from durable.testing import VirtualStorage, app_under_test
from tests.jobs.crew import Failing

Flow = Workflow[[], str]


def _flow(app: Durable, log: list[str], *, timeout: str | None = None) -> Flow:
    async def note(text: str) -> str:
        log.append(text)
        return text

    @app.workflow(timeout=timeout)
    async def flow(ctx: WorkflowContext) -> str:
        await ctx.step(note, "charged")
        ctx.on_rollback(note, "refunded")
        await ctx.sleep("30m")
        return await ctx.step(note, "shipped")

    return flow


def _refused() -> StorageError:
    return StorageError("a trigger of theirs says no")


async def test_the_end_of_a_turn_is_written_later(app: Durable, storage: VirtualStorage) -> None:
    log: list[str] = []
    flow = _flow(app, log)
    async with app_under_test(app, storage=storage) as kit:
        Failing(kit.app.storage, "settle", _refused(), times=1)
        handle = await flow.enqueue()
        await kit.drain()
        record = await handle.execution()
        assert (record.status, record.reason) == (Status.READY, "storage_refused")
        assert "a trigger of theirs says no" in (record.error or "")
        await kit.clock.advance("31m")
        assert await handle.result(timeout=0) == "shipped"
    assert log == ["charged", "shipped"]


async def test_a_step_is_not_run_again_only_to_be_refused_again(app: Durable, storage: VirtualStorage) -> None:
    log: list[str] = []
    flow = _flow(app, log)
    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("29m")
        Failing(kit.app.storage, "checkpoint", _refused(), times=3)
        await kit.clock.advance("61s")
        record = await handle.execution()
        assert (record.status, record.reason, record.deliveries) == (Status.READY, "storage_refused", 0)
        await kit.clock.advance("2m")
        assert await handle.result(timeout=0) == "shipped"
    assert log == ["charged", "shipped", "shipped"]


async def test_its_timeout_comes_when_its_writes_are_taken_again(app: Durable, storage: VirtualStorage) -> None:
    log: list[str] = []
    flow = _flow(app, log, timeout="1h")
    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("29m")
        Failing(kit.app.storage, "checkpoint", _refused(), times=100)
        await kit.clock.advance("45m")
        assert await handle.status() is Status.READY
        await kit.clock.advance("2h")
        record = await handle.execution()
        assert record.status is Status.TIMED_OUT
    assert (log[0], log[-1]) == ("charged", "refunded")


@pytest.mark.parametrize("bad", ["order-42", "", 7])
async def test_a_signal_to_what_is_no_execution_is_refused_at_the_call(
    app: Durable, storage: VirtualStorage, bad: str
) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        try:
            await ctx.signal(bad, "go", 1)
        except ConfigurationError as error:
            return str(error)
        return "sent"

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.result(timeout=0) == f"execution_id is {bad!r}, which is no id of an execution"


async def test_a_signal_finds_its_receiver_in_every_form_of_the_id(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        await ctx.signal(ctx.execution_id.upper().replace("-", ""), "go", 7)
        return await ctx.wait_signal("go", int)

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.result(timeout=0) == 7
