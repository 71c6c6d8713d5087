"""Queries: read-only functions over what a workflow has published, answered without an executor."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from durable import ConfigurationError, Durable, ExecutionNotFound, PublishedValues, WorkflowContext
from durable.testing import VirtualStorage, app_under_test
from tests.jobs.crew import client_only


async def test_a_query_is_answered_without_an_executor(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def importer(ctx: WorkflowContext) -> None:
        ctx.publish("done", 3)
        await ctx.wait_signal("go", bool)

    @importer.query
    def share(state: PublishedValues, of: int, *, digits: int = 1) -> float:
        return round(state["done"] / of, digits)

    async with app_under_test(app, storage=storage) as kit:
        handle = await importer.enqueue()
        await kit.drain()
    async with client_only(storage, app):
        again = importer.handle(handle.execution_id)
        assert await again.query(share, 8) == 0.4
        assert await again.query(share, 8, digits=3) == 0.375
        with app.client() as client:
            assert client.handle(importer, handle.execution_id).query(share, 4) == 0.8
        with pytest.raises(ZeroDivisionError):
            await again.query(share, 0)
        assert share(await again.values(), 3) == 1.0


async def anything(state: PublishedValues) -> None: ...


def taken() -> Callable[[PublishedValues], int]:
    def count(state: PublishedValues) -> int:
        return 0

    return count


async def test_what_is_no_query_of_the_workflow_is_refused(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def one(ctx: WorkflowContext) -> None:
        pass

    @app.workflow
    async def other(ctx: WorkflowContext) -> None:
        pass

    @one.query
    def count(state: PublishedValues) -> int:
        return len(state)

    with pytest.raises(ConfigurationError, match="<Query 'count' of workflow 'one'> already"):
        one.query(taken())
    with pytest.raises(ConfigurationError, match="must be a def"):
        one.query(anything)
    async with client_only(storage, app):
        handle = await other.enqueue()
        with pytest.raises(ConfigurationError, match="other"):
            await handle.query(count)
        with pytest.raises(ConfigurationError, match="str"):
            await handle.query("count")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
        assert await (await one.enqueue()).query(count) == 0
        with pytest.raises(ExecutionNotFound):
            await one.handle("00000000-0000-7000-8000-000000000000").query(count)
