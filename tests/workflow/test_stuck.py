"""A body that waits for nothing that could come fails as other bodies do: its work is undone, and it is finalized."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final, NamedTuple

import pytest

from durable import Durable, Execution, Retry, Status, UpdateFailed, Workflow, WorkflowContext, constant
from durable.testing import VirtualStorage, app_under_test, crash_everywhere, replay_histories, virtual_storage
from durable.workflow_rows import Entry
from tests.jobs.crew import client_only, crew

_WHY: Final = "the body waits for something that no step, timer, signal or child will bring"


class Log(list[str]):
    async def note(self, text: str) -> None:
        self.append(text)


class Stuck(NamedTuple):
    record: Execution
    entries: tuple[Entry, ...]

    @property
    def error(self) -> str:
        return self.record.error or ""

    @property
    def tellings(self) -> int:
        return sum((entry.kind, entry.key) == ("cancel", "stuck") for entry in self.entries)


async def end_of(flow: Workflow[[], Any], storage: VirtualStorage) -> Stuck:
    """It has ended, and its history gives the same end once more."""
    app = flow.app
    assert isinstance(app, Durable)
    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        record = await handle.execution()
        (history,) = await kit.app.storage.histories([(handle.execution_id, 0, 0)])
    async with client_only(storage, app):
        (again,) = await replay_histories(app, app.storage, limit=1, include_finished=True)
    assert (again.problem, again.ignored, again.waits_for) == (None, (), ())
    assert (again.end == "completed") == (record.status is Status.COMPLETED)
    return Stuck(record, tuple(history.entries))


async def never() -> None:
    await asyncio.Event().wait()


async def test_its_work_is_undone_and_it_is_finalized_and_fails(app: Durable, storage: VirtualStorage) -> None:
    log = Log()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        for what in ("flight", "hotel"):
            await ctx.step(log.note, f"book {what}")
            ctx.on_rollback(log.note, f"cancel {what}")
        try:
            await never()
        finally:
            await ctx.step(log.note, "leave the body")

    @flow.finalize
    async def tidy(ctx: WorkflowContext) -> None:
        await ctx.step(log.note, "finalize")

    stuck = await end_of(flow, storage)
    assert log == ["book flight", "book hotel", "leave the body", "cancel hotel", "cancel flight", "finalize"]
    assert (stuck.record.status, stuck.tellings) == (Status.FAILED, 1)
    assert app.codec.load_error(stuck.error).type == "stuck"
    assert app.codec.load_error(stuck.error).message == _WHY


@pytest.mark.parametrize("place", ["memory", "postgres"])
async def test_a_crash_anywhere_on_the_way_to_its_end_changes_nothing(
    app: Durable, place: str, request: pytest.FixtureRequest
) -> None:
    log = Log()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        for what in ("flight", "hotel", "car"):
            await ctx.step(log.note, f"book {what}")
            ctx.on_rollback(log.note, f"cancel {what}")
        queue = asyncio.Queue[int]()
        await ctx.shield(queue.get())

    @flow.finalize
    async def tidy(ctx: WorkflowContext) -> None:
        await ctx.step(log.note, "finalize")
        await never()

    dsn = request.getfixturevalue("durable_postgres_dsn") if place == "postgres" else "memory:"
    report = await crash_everywhere(flow, storage=lambda: virtual_storage(dsn))
    assert (report.status, report.error) == (Status.FAILED, f"stuck: {_WHY}")
    assert report.undone == ("rollback:note#1 (done)", "rollback:note#2 (done)", "rollback:note#3 (done)")
    assert len(report.steps) == 7
    assert report.crash_count >= 7


async def test_what_is_left_to_be_undone_is_undone_elsewhere(app: Durable, storage: VirtualStorage) -> None:
    log = Log()
    is_away = True

    async def refund() -> None:
        if is_away:
            raise ConnectionError("the bank is away")
        log.append("refunded")

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        ctx.with_options(retry=Retry(max_attempts=5, delay=constant("1h"))).on_rollback(refund)
        ctx.on_rollback(log.note, "released")
        await never()

    async with crew(storage, app) as (kit,):
        handle = await flow.enqueue()
        await kit.drain()
    is_away = False
    async with crew(storage, app) as (kit,):
        assert (await flow.handle(handle.execution_id).status(), log) == (Status.READY, ["released"])
        await kit.clock.advance("1h")
        record = await flow.handle(handle.execution_id).execution()
    assert (record.status, log) == (Status.FAILED, ["released", "refunded"])
    assert _WHY in (record.error or "")


async def test_a_body_that_catches_it_and_goes_on_ends_as_it_does(app: Durable, storage: VirtualStorage) -> None:
    log = Log()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        ctx.on_rollback(log.note, "undone")
        try:
            await never()
        except asyncio.CancelledError as told:
            await ctx.step(log.note, "caught")
            return str(told)
        return "it came"

    stuck = await end_of(flow, storage)
    assert (stuck.record.status, stuck.record.output, log) == (Status.COMPLETED, f'"{_WHY}"', ["caught"])


async def test_a_body_that_was_told_can_time_out_all_the_same(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow(timeout="2h")
    async def flow(ctx: WorkflowContext) -> None:
        try:
            await never()
        except asyncio.CancelledError:
            await ctx.sleep("1d")

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("2h")
        assert await handle.status() is Status.TIMED_OUT


async def test_it_is_told_wherever_it_is_stuck_on_its_way_out(app: Durable, storage: VirtualStorage) -> None:
    log = Log()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        ctx.on_rollback(log.note, "undone")
        try:
            try:
                await never()
            finally:
                await never()
        finally:
            await ctx.step(log.note, "left")
            await never()

    stuck = await end_of(flow, storage)
    assert (stuck.record.status, stuck.tellings, log) == (Status.FAILED, 3, ["left", "undone"])
    assert _WHY in stuck.error


@pytest.mark.parametrize("way", ["catches", "shields", "asks for steps", "fails", "returns"])
async def test_one_that_waits_on_whatever_it_is_told_is_dropped_and_its_work_undone(
    app: Durable, storage: VirtualStorage, way: str
) -> None:
    log = Log()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        await ctx.step(log.note, "booked")
        ctx.on_rollback(log.note, "undone first")
        ctx.on_rollback(log.note, "undone last")
        while way == "catches":
            with suppress(asyncio.CancelledError):
                await never()
        try:
            await ctx.shield(never())
        except BaseException:
            if way == "asks for steps":
                await ctx.step(log.note, "in vain")
            if way == "fails":
                raise ValueError("in vain") from None
            if way == "returns":
                return "in vain"
            raise
        return "never"

    @flow.finalize
    async def tidy(ctx: WorkflowContext) -> None:
        await ctx.step(log.note, "finalized")

    stuck = await end_of(flow, storage)
    assert log == ["booked", "undone last", "undone first", "finalized"]
    assert (stuck.record.status, stuck.tellings) == (Status.FAILED, 11)
    assert app.codec.load_error(stuck.error).type == "stuck"


@pytest.mark.parametrize("is_deaf", [False, True])
@pytest.mark.parametrize("end", ["returns", "fails", "is stuck"])
async def test_a_finalize_that_is_stuck_ends(app: Durable, storage: VirtualStorage, end: str, is_deaf: bool) -> None:
    log = Log()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        ctx.on_rollback(log.note, "undone")
        if end == "fails":
            raise KeyError("of the body")
        if end == "is stuck":
            await never()

    @flow.finalize
    async def tidy(ctx: WorkflowContext) -> None:
        await ctx.step(log.note, "finalizes")
        while is_deaf:
            with suppress(asyncio.CancelledError):
                await never()
        await never()

    stuck = await end_of(flow, storage)
    error = app.codec.load_error(stuck.error)
    assert stuck.record.status is Status.FAILED
    assert (error.type, log) == {
        "returns": ("stuck", ["finalizes", "undone"]),
        "fails": ("KeyError", ["undone", "finalizes"]),
        "is stuck": ("stuck", ["undone", "finalizes"]),
    }[end]
    assert ("finalize failed as well" in stuck.error) == (end != "returns")


async def test_one_that_was_cancelled_stays_cancelled_where_its_finalize_is_stuck(
    app: Durable, storage: VirtualStorage
) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("never", int)

    @flow.finalize
    async def tidy(ctx: WorkflowContext) -> None:
        await never()

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        await handle.cancel(reason="changed my mind")
        await kit.drain()
        record = await handle.execution()
    assert record.status is Status.CANCELLED
    assert "changed my mind" in (record.error or "")
    assert f"finalize failed as well: CancelledError: {_WHY}" in (record.error or "")


@pytest.mark.parametrize("end", ["returns", "fails"])
async def test_handlers_of_updates_that_are_stuck_do_not_keep_the_body_from_its_end(
    app: Durable, storage: VirtualStorage, end: str
) -> None:
    log = Log()

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        ctx.on_rollback(log.note, "undone")
        await ctx.wait_signal("go", bool)
        if end == "fails":
            raise KeyError("of the body")

    @flow.update
    async def hang(ctx: WorkflowContext, is_deaf: bool) -> None:
        while is_deaf:
            with suppress(asyncio.CancelledError):
                await never()
        await never()

    @flow.finalize
    async def tidy(ctx: WorkflowContext) -> None:
        await ctx.step(log.note, "finalized")

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        asked = [asyncio.create_task(handle.update(hang, is_deaf)) for is_deaf in (True, False)]
        while len((await kit.app.storage.histories([(handle.execution_id, 0, 0)]))[0].entries) < 3:
            await kit.drain()
        await handle.signal("go", True)
        await kit.drain()
        record = await handle.execution()
        for each in asked:
            with pytest.raises(UpdateFailed):
                await each
    assert record.status is Status.FAILED
    assert app.codec.load_error(record.error or "").type == ("stuck" if end == "returns" else "KeyError")
    assert log == ["undone", "finalized"]


async def test_what_earlier_runs_have_done_is_undone_as_well(app: Durable, storage: VirtualStorage) -> None:
    log = Log()

    @app.task
    async def undo(month: int) -> None:
        log.append(f"undo {month}")

    @app.workflow
    async def months(ctx: WorkflowContext, month: int = 1) -> None:
        ctx.on_rollback(undo, month)
        if month < 3:
            ctx.continue_as_new(month + 1)
        await never()

    async with app_under_test(app, storage=storage) as kit:
        handle = await months.enqueue()
        await kit.drain()
        assert (await handle.status(), log) == (Status.FAILED, ["undo 3", "undo 2", "undo 1"])


async def test_a_body_that_waits_for_an_update_is_not_stuck(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        ctx.state["came"] = asyncio.Event()
        await ctx.state["came"].wait()
        return "came"

    @flow.update
    async def come(ctx: WorkflowContext) -> None:
        ctx.state["came"].set()

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.status() is Status.WAITING
        asked = asyncio.create_task(handle.update(come))
        while not asked.done():
            await kit.drain()
        assert await handle.result(timeout=0) == "came"


async def test_a_fork_of_it_goes_on_where_it_was_stuck(app: Durable, storage: VirtualStorage) -> None:
    log = Log()
    is_mended = False

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        await ctx.step(log.note, "booked")
        ctx.on_rollback(log.note, "undone")
        if not is_mended:
            await never()
        return "done"

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        is_mended = True
        fork = await handle.fork()
        await kit.drain()
        assert await fork.result(timeout=0) == "done"
    assert log == ["booked", "undone"]
