"""`with_options`: what is given twice is merged, and a call that would do nothing with it refuses it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from durable import ConfigurationError, Durable, Retry, StepFailed, TaskContext, WorkflowContext, constant
from durable.testing import VirtualStorage, app_under_test

_TWICE = Retry(2, constant("1m"), jitter=0)


async def test_options_are_merged_and_the_later_wins(app: Durable, storage: VirtualStorage) -> None:
    async def fail() -> None:
        raise ValueError

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        named = ctx.with_options(name="a", retry=Retry(5)).with_options(retry=_TWICE).with_options()
        with suppress(StepFailed):
            await named.step(fail)
        await ctx.with_options(name="b").with_options(name="c").sleep("1m")
        return "done"

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("1h")
        assert await handle.result(timeout=0) == "done"
        (history,) = await kit.app.storage.histories([(handle.execution_id, 0, 0)])
    keys = [(entry.kind, entry.key) for entry in history.entries if "#" in entry.key]
    assert keys == [("attempt", "a#1"), ("step", "a#1"), ("sleeping", "c#1"), ("slept", "c#1")]


_CALLS: dict[str, Callable[[WorkflowContext, Any], Awaitable[Any]]] = {
    "wait_signal": lambda ctx, _: ctx.wait_signal("go", int),
    "signal": lambda ctx, _: ctx.signal(ctx.execution_id, "go"),
    "approval": lambda ctx, _: ctx.approval("refund"),
    "child": lambda ctx, kid: ctx.child(kid, 1),
    "start": lambda ctx, kid: ctx.start(kid, 1),
    "map": lambda ctx, kid: ctx.map(kid, [1]),
}


@pytest.mark.parametrize("call", list(_CALLS))
async def test_a_call_refuses_what_it_would_do_nothing_with(app: Durable, storage: VirtualStorage, call: str) -> None:
    @app.task
    async def kid(number: int) -> int:
        return number

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[str]:
        told: list[str] = []
        for options in (ctx.with_options(name="x"), ctx.with_options(retry=_TWICE, timeout="1m")):
            try:
                await _CALLS[call](options, kid)
            except ConfigurationError as error:
                told.append(str(error))
        return told

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        rest = "it is for step, transaction and on_rollback, and its name for sleep and timeout"
        assert await handle.result(timeout=0) == [
            f"with_options(name=…) does nothing for {call}: {rest}",
            f"with_options(retry=…, timeout=…) does nothing for {call}: {rest}",
        ]


async def test_a_sleep_has_a_name_and_no_other_option(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[str]:
        told: list[str] = []
        options = ctx.with_options(name="x", timeout="1m")
        for call in (lambda: options.sleep("1h"), lambda: options.sleep_until(ctx.now())):
            try:
                await call()
            except ConfigurationError as error:
                told.append(str(error).partition(":")[0])
        try:
            async with options.timeout("1h"):
                pass
        except ConfigurationError as error:
            told.append(str(error).partition(":")[0])
        return told

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.result(timeout=0) == [
            f"with_options(timeout=…) does nothing for {call}" for call in ("sleep", "sleep", "timeout")
        ]


async def test_a_step_knows_its_own_attempt(app: Durable, storage: VirtualStorage) -> None:
    seen: list[tuple[int, int, str | None]] = []

    @app.task(retry=Retry(3, constant("1m"), jitter=0))
    async def flaky(context: TaskContext) -> int:
        error = context.previous_error
        seen.append((context.attempt, context.max_attempts, error and error.message))
        if context.attempt < 3:
            raise ValueError(f"no {context.attempt}")
        return context.attempt

    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        return await ctx.step(flaky)

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.clock.advance("1h")
        assert await handle.result(timeout=0) == 3
        by_itself = await flaky.enqueue()
        await kit.clock.advance("1h")
        assert await by_itself.result(timeout=0) == 3
    assert seen == [(1, 3, None), (2, 3, "no 1"), (3, 3, "no 2")] * 2


async def test_a_transaction_refuses_a_plain_function(app: Durable, storage: VirtualStorage) -> None:
    def write(connection: object) -> None:
        raise AssertionError("it is not called")

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        try:
            await ctx.transaction(write)  # type: ignore[arg-type]  # pyright: ignore
        except ConfigurationError as error:
            return str(error).partition(":")[0]
        return "called"

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.result(timeout=0) == "transaction takes an async def, and 'write' is none"


@pytest.mark.parametrize("name", ["x" * 201, "x" * 600])
async def test_a_name_has_one_limit_however_long_it_is(app: Durable, storage: VirtualStorage, name: str) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        try:
            await ctx.wait_signal(name, int)
        except ConfigurationError as error:
            return str(error)
        return "waited"

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.result(timeout=0) == f"name has {len(name)} characters; it must have 1 to 200"
