"""What is no workflow is refused where it is declared, and a request by the wrong call where it is made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import durable
from durable import ConfigurationError, Durable, StepFailed, WorkflowContext
from durable import TaskContext as Given
from durable.testing import VirtualStorage, app_under_test
from durable.workflow.said import PublishedValues

Context = WorkflowContext


async def test_an_update_is_no_query_and_a_query_no_update(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> None: ...

    @flow.query
    def state(values: PublishedValues) -> str:
        return str(values.get("state"))

    @flow.update
    async def change(ctx: WorkflowContext) -> None: ...

    async with app_under_test(app, storage=storage):
        handle: Any = await flow.enqueue()
        with pytest.raises(ConfigurationError, match=r"Query 'state' .* is asked by handle\.query"):
            await handle.update(state)
        with pytest.raises(ConfigurationError, match=r"Update 'change' .* is asked by handle\.update"):
            await handle.query(change)


async def _of_a_number(x: int) -> None: ...
async def _of_a_text(x: str) -> None: ...
async def _by_name(*, ctx: WorkflowContext) -> None: ...
async def _of_nothing() -> None: ...
def _sync(ctx: WorkflowContext) -> None: ...
async def _of_a_context(ctx: WorkflowContext, x: int) -> None: ...
async def _of_another_name(ctx: Context) -> None: ...


@pytest.mark.parametrize("body", [_of_a_number, _of_a_text, _by_name, _of_nothing, _sync])
def test_a_body_without_a_context_is_refused(app: Durable, body: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match="first parameter is a WorkflowContext"):
        app.workflow(body)


@pytest.mark.parametrize("body", [_of_a_context, _of_another_name])
def test_a_body_with_a_context_is_taken(app: Durable, body: Callable[..., Any]) -> None:
    assert app.workflow(body).name == body.__name__


def test_a_body_without_annotations_is_taken(app: Durable) -> None:
    async def body(ctx: Any) -> None: ...

    body.__annotations__.clear()
    assert app.workflow(body).name == "body"


@pytest.mark.parametrize("bad", [_of_a_number, _by_name, _of_nothing, _sync])
def test_a_handler_or_a_finalize_without_a_context_is_refused(app: Durable, bad: Any) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> None: ...

    with pytest.raises(ConfigurationError, match=r"update '.*' must be an async def whose first parameter is the"):
        flow.update(bad)
    with pytest.raises(ConfigurationError, match="finalize of workflow 'flow' must be an async def that takes the Wor"):
        flow.finalize(bad)


def test_a_finalize_takes_nothing_but_the_context(app: Durable) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> None: ...

    async def fitting(ctx: Context, times: int = 1) -> None: ...

    with pytest.raises(ConfigurationError, match="takes the WorkflowContext alone"):
        flow.finalize(_of_a_context)  # type: ignore[arg-type]  # pyright: ignore
    assert flow.finalize(fitting) is fitting


def plain(n: int) -> int:
    return n


class Called:
    def __call__(self, n: int) -> int:
        return n


_others = Durable("postgresql://nobody@nowhere.invalid/nothing")
door = _others.sleeping("door", int)


@_others.task
def weigh(n: int) -> int:
    return n


lines = _others.sequence("lines", weigh, weigh)
WRONG: list[tuple[Callable[[Any], Any], str]] = [
    (lambda ctx: ctx.child(plain, 1), r"ctx\.child takes a task or a workflow, not a function"),
    (lambda ctx: ctx.start(plain, 1), r"ctx\.start takes a task or a workflow, not a function"),
    (lambda ctx: ctx.step(partial(plain, 1)), "not a partial: call it in a def"),
    (lambda ctx: ctx.step(Called(), 1), "not a Called: call it in a def"),
    (lambda ctx: ctx.step(7), "a step is a function, not int: give it uncalled, with its arguments after it"),
    (lambda ctx: ctx.step(_called()), "a step is a function, not coroutine '_of_nothing': give it uncalled"),
    (lambda ctx: ctx.step(lines), "sequence 'lines' cannot be a step; use ctx.child"),
    (lambda ctx: ctx.step(door), "sleeping 'door' cannot be a step; use ctx.child"),
    (
        lambda ctx: ctx.transaction(lambda connection: None),
        "an async def, and a lambda is none: .* make it an async def",
    ),
    (lambda ctx: ctx.transaction(plain), "an async def, and 'plain' is none: .* give a def to ctx.step"),
    (lambda ctx: ctx.step(_in_a_step, ctx), "a workflow's context is for its body"),
]


def _called() -> Any:
    called = _of_nothing()
    called.close()
    return called


async def _in_a_step(ctx: Any) -> None:
    """A replay would not run it again, and so forget what is to be undone."""
    ctx.on_rollback(plain, 1)


@pytest.mark.parametrize(("ask", "expected"), WRONG)
async def test_what_cannot_be_meant_is_said_in_words(
    app: Durable, storage: VirtualStorage, ask: Callable[[Any], Any], expected: str
) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        with pytest.raises((ConfigurationError, StepFailed), match=expected) as caught:
            await ask(ctx)
        return str(caught.value)

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.result(timeout=0)


def _by_alias(context: Given) -> str:
    return context.task_name


def _by_module(context: durable.TaskContext) -> str:
    return context.task_name


async def test_a_context_is_known_by_any_name(app: Durable, storage: VirtualStorage) -> None:
    tasks = [app.task(_by_alias), app.task(_by_module)]

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[str]:
        return [await ctx.step(_by_alias), await ctx.step(_by_module)]

    async with app_under_test(app, storage=storage) as kit:
        handles = [await flow.enqueue(), *[await task.enqueue() for task in tasks]]
        await kit.drain()
        ends = [await handle.result(timeout=0) for handle in handles]
        assert ends == [["flow", "flow"], "_by_alias", "_by_module"]


def test_what_cannot_be_called_is_no_query_and_no_update(app: Durable) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> None: ...

    declare: Any = flow
    with pytest.raises(ConfigurationError, match="an update is an async def, not 5"):
        declare.update(5)
    with pytest.raises(ConfigurationError, match="a query is a def, not 5"):
        declare.query(5)


async def test_what_cannot_be_awaited_is_refused_by_name(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[str]:
        given: Any = ctx
        found: list[str] = []
        for call in (given.gather(1, 2), given.gather([]), given.wait_first(3), given.shield(4)):
            with pytest.raises(ConfigurationError) as refused:
                await call
            found.append(str(refused.value))
        return found

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        found = await handle.result(timeout=0)
        assert [each.rpartition(" ")[2] for each in found] == ["int", "list", "int", "int"]
