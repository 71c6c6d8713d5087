"""A deployment while a workflow undoes its work: no code sends it forward again; one that agrees goes on undoing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from durable import Durable, Retry, StepFailed, Workflow, WorkflowContext, constant
from durable.execution import Execution, Status
from durable.explain import error_of
from durable.testing import VirtualStorage, app_under_test, replay_histories
from tests.jobs.crew import client_only


class World:
    """What steps do, and whether the goods can be released yet."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.is_open = False

    async def charge(self) -> None:
        self.ran.append("charge")

    async def ship(self) -> None:
        self.ran.append("ship")
        raise ValueError("no stock")

    async def ship_otherwise(self) -> None:
        self.ran.append("ship otherwise")

    async def refund(self) -> None:
        self.ran.append("refund")

    async def release(self) -> None:
        if not self.is_open:
            raise OSError("not yet")
        self.ran.append("release")


Declare = Callable[[World, Durable], Workflow[[], str]]


@pytest.fixture
def world() -> World:
    return World()


def _registered(ctx: WorkflowContext, world: World) -> None:
    ctx.with_options(retry=Retry(100, constant("1h"), jitter=0)).on_rollback(world.release)


def _fails(world: World, app: Durable) -> Workflow[[], str]:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        _registered(ctx, world)
        await ctx.step(world.charge)
        ctx.on_rollback(world.refund)
        await ctx.step(world.ship)
        return "shipped"

    return flow


def _returns(world: World, app: Durable) -> Workflow[[], str]:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        _registered(ctx, world)
        await ctx.step(world.charge)
        ctx.on_rollback(world.refund)
        return "shipped"

    return flow


def _ships_otherwise(world: World, app: Durable) -> Workflow[[], str]:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        _registered(ctx, world)
        await ctx.step(world.charge)
        ctx.on_rollback(world.refund)
        try:
            await ctx.step(world.ship)
        except StepFailed:
            await ctx.step(world.ship_otherwise)
        return "shipped"

    return flow


def _undoes_less(world: World, app: Durable) -> Workflow[[], str]:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        await ctx.step(world.charge)
        ctx.on_rollback(world.refund)
        await ctx.step(world.ship)
        return "shipped"

    return flow


def _fails_otherwise(world: World, app: Durable) -> Workflow[[], str]:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        _registered(ctx, world)
        await ctx.step(world.charge)
        ctx.on_rollback(world.refund)
        raise KeyError("other")

    return flow


def _agrees(world: World, app: Durable) -> Workflow[[], str]:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        ctx.publish("by", "new code")
        _registered(ctx, world)
        await ctx.step(world.charge)
        ctx.on_rollback(world.refund)
        await ctx.step(world.ship)
        return "shipped"

    return flow


def _patched(world: World, app: Durable) -> Workflow[[], str]:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        _registered(ctx, world)
        await ctx.step(world.charge)
        ctx.on_rollback(world.refund)
        if ctx.patched("otherwise"):
            await ctx.step(world.ship_otherwise)
        else:
            await ctx.step(world.ship)
        return "shipped"

    return flow


def _later() -> Durable:
    return Durable("postgresql://nobody@nowhere.invalid/nothing")


async def _undoing(storage: VirtualStorage, app: Durable, world: World) -> str:
    """A workflow that has refunded, and waits for the next attempt to release."""
    flow = _fails(world, app)
    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.status() is Status.READY
    assert world.ran == ["charge", "ship", "refund"]
    return handle.execution_id


async def _deployed(storage: VirtualStorage, world: World, id_: str, declare: Declare) -> Execution:
    """How the execution stands two hours after that code has come, and goods can be released."""
    later = _later()
    flow = declare(world, later)
    world.is_open = True
    async with app_under_test(later, storage=storage) as kit:
        await kit.clock.advance("2h")
        return await flow.handle(id_).execution()


@pytest.mark.parametrize(
    ("declare", "came_to"),
    [
        (_returns, "the end of the workflow"),
        (_ships_otherwise, "step 'ship_otherwise#1'"),
        (_undoes_less, "a body that failed with StepFailed and undoes refund"),
        (_fails_otherwise, "a body that failed with KeyError and undoes refund, release"),
    ],
)
async def test_no_code_goes_back_from_undoing(
    app: Durable, storage: VirtualStorage, world: World, declare: Declare, came_to: str
) -> None:
    id_ = await _undoing(storage, app, world)
    later = _later()
    declare(world, later)
    async with client_only(storage, later):
        (found,) = await replay_histories(later, later.storage)
    assert not found.fits
    kept = await _deployed(storage, world, id_, declare)
    error = error_of(kept)
    assert (kept.status, error and error.type) == (Status.READY, "StepMismatch")
    for told in (str(error), found.problem or ""):
        assert "a body that failed with StepFailed and undoes refund, release, the code came to" in told
        assert came_to in told
        assert "ctx.patched" in told
        assert "fork" in told
    assert world.ran == ["charge", "ship", "refund"]

    ended = await _deployed(storage, world, id_, _agrees)
    assert (ended.status, world.ran) == (Status.FAILED, ["charge", "ship", "refund", "release"])
    assert "no stock" in (ended.error or "")


@pytest.mark.parametrize("declare", [_agrees, _patched])
async def test_code_that_fails_in_the_same_way_goes_on_undoing(
    app: Durable, storage: VirtualStorage, world: World, declare: Declare
) -> None:
    id_ = await _undoing(storage, app, world)
    later = _later()
    declare(world, later)
    async with client_only(storage, later):
        (found,) = await replay_histories(later, later.storage)
    assert (found.problem, found.waits_for) == (None, ("step 'rollback:release#1'",))
    ended = await _deployed(storage, world, id_, declare)
    assert (ended.status, world.ran) == (Status.FAILED, ["charge", "ship", "refund", "release"])


async def test_nothing_goes_back_before_the_first_thing_is_undone(
    app: Durable, storage: VirtualStorage, world: World
) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        _registered(ctx, world)
        raise ValueError("a bug")

    later = _later()

    @later.workflow(name="flow")
    async def mended(ctx: WorkflowContext) -> str:
        _registered(ctx, world)
        return "shipped"

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        (history,) = await kit.app.storage.histories([(handle.execution_id, 0, 0)])
    assert [entry.kind for entry in history.entries] == ["code", "failed", "attempt"]
    async with app_under_test(later, storage=storage) as kit:
        await kit.clock.advance("2h")
        kept = await mended.handle(handle.execution_id).execution()
    assert (kept.status, kept.reason, world.ran) == (Status.READY, "step_mismatch", [])


async def test_it_is_stored_before_the_first_thing_is_undone(app: Durable, storage: VirtualStorage) -> None:
    seen: list[list[str]] = []

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        async def look() -> None:
            (history,) = await app.storage.histories([(ctx.execution_id, 0, 0)])
            seen.append([entry.kind for entry in history.entries])

        ctx.on_rollback(look)
        raise ValueError("a bug")

    async with app_under_test(app, storage=storage) as kit:
        await flow.enqueue()
        await kit.drain()
    assert seen == [["code", "failed"]]


async def test_what_finalizes_a_failure_is_no_way_back_either(
    app: Durable, storage: VirtualStorage, world: World
) -> None:
    def declare(app: Durable, body: Callable[[], str]) -> Workflow[[], str]:
        @app.workflow
        async def flow(ctx: WorkflowContext) -> str:
            return body()

        @flow.finalize
        async def release(ctx: WorkflowContext) -> None:
            await ctx.with_options(retry=Retry(100, constant("1h"), jitter=0)).step(world.release)

        return flow

    def fails() -> str:
        raise ValueError("a bug")

    flow = declare(app, fails)
    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
    later = _later()
    mended = declare(later, lambda: "shipped")
    async with app_under_test(later, storage=storage) as kit:
        await kit.clock.advance("2h")
        kept = await mended.handle(handle.execution_id).execution()
        assert (kept.status, kept.reason) == (Status.READY, "step_mismatch")
        assert "a body that failed with ValueError, the code came to" in (kept.error or "")


async def test_a_body_with_nothing_to_undo_has_no_entry_of_its_failure(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.step(abs, -1)
        raise ValueError("a bug")

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        (history,) = await kit.app.storage.histories([(handle.execution_id, 0, 0)])
    assert [entry.kind for entry in history.entries] == ["code", "step"]


async def test_a_fork_of_one_that_undoes_goes_on_from_before(
    app: Durable, storage: VirtualStorage, world: World
) -> None:
    id_ = await _undoing(storage, app, world)
    later = _later()
    flow = _ships_otherwise(world, later)
    async with app_under_test(later, storage=storage) as kit:
        await flow.handle(id_).cancel(running="force")
        forked = await flow.handle(id_).fork("charge")
        await kit.drain()
        assert await forked.result(timeout=0) == "shipped"
