"""A deployment while workflows wait: what the new code cannot take keeps them, and code that fits lets them go on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from durable import Durable, Retry, WorkflowContext
from durable.execution import Execution, Status
from durable.explain import error_of
from durable.testing import VirtualStorage, app_under_test
from tests.jobs.crew import client_only

Declare = Callable[[Durable], object]


async def _enqueued(app: Durable, storage: VirtualStorage, undone: list[int], *, begins: bool = True) -> str:
    """The old code: it takes one number, has something to undo, and waits for what has come when the new code runs."""

    async def undo(x: int) -> None:
        undone.append(x)

    @app.workflow
    async def flow(ctx: WorkflowContext, x: int) -> int:
        ctx.on_rollback(undo, x)
        await ctx.step(abs, x)
        return x + await ctx.wait_signal("more", int)

    async with client_only(storage, app):
        handle = await flow.enqueue(1)
    if begins:
        async with app_under_test(app, storage=storage) as kit:
            await kit.drain()
    async with client_only(storage, app):
        handle = flow.handle(handle.execution_id)
        await handle.signal("more", 2)
        return handle.execution_id


async def _deployed(storage: VirtualStorage, id_: str, declare: Declare) -> Execution:
    """How the execution stands after a minute with that code."""
    later = Durable("postgresql://nobody@nowhere.invalid/nothing")
    declare(later)
    async with app_under_test(later, storage=storage) as kit:
        await kit.clock.advance("1m")
        await kit.drain()
        (record,) = await kit.app.storage.get([id_])
        assert record is not None
        return record


def _wants_more(app: Durable) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext, x: int, y: str) -> int:
        return x


def _wants_less(app: Durable) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        return 0


def _is_a_task(app: Durable) -> None:
    @app.task(retry=Retry(max_attempts=1))
    async def flow(x: int) -> int:
        return x


def _has_a_default(app: Durable) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext, x: int, y: int = 10) -> int:
        await ctx.step(abs, x)
        return x + y + await ctx.wait_signal("more", int)


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (_wants_more, ("no longer fits the parameters of 'flow'", "y", "give a new parameter a default", "old code")),
        (_wants_less, ("no longer fits the parameters of 'flow'", "x", "old code")),
        (_is_a_task, ("has a workflow 'flow'", "a task of that name", "declare the workflow under its name again")),
    ],
)
async def test_one_that_has_begun_is_kept_until_code_comes_that_takes_its_input(
    app: Durable, storage: VirtualStorage, declare: Declare, said: tuple[str, ...]
) -> None:
    undone: list[int] = []
    id_ = await _enqueued(app, storage, undone)
    kept = await _deployed(storage, id_, declare)
    error = error_of(kept)
    assert (kept.status, error and error.type) == (Status.READY, "StepMismatch")
    assert [part for part in said if part not in str(error)] == []

    ended = await _deployed(storage, id_, _has_a_default)
    assert (ended.status, ended.output, undone) == (Status.COMPLETED, "13", [])


@pytest.mark.parametrize(("declare", "type_"), [(_wants_more, "InvalidInput"), (_is_a_task, "ConfigurationError")])
async def test_one_that_has_not_begun_fails(
    app: Durable, storage: VirtualStorage, declare: Declare, type_: str
) -> None:
    id_ = await _enqueued(app, storage, [], begins=False)
    failed = await _deployed(storage, id_, declare)
    error = error_of(failed)
    assert (failed.status, error and error.type) == (Status.FAILED, type_)


async def test_what_one_has_continued_as_is_kept_too(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext, x: int) -> int:
        if x == 0:
            ctx.continue_as_new(1)
        return x + await ctx.wait_signal("more", int)

    async with app_under_test(app, storage=storage) as kit:
        id_ = (await flow.enqueue(0)).execution_id
        await kit.drain()
    async with client_only(storage, app):
        await flow.handle(id_).signal("more", 2)
    assert (await _deployed(storage, id_, _wants_more)).status is Status.READY
