"""What is no workflow is refused where it is declared, and a request by the wrong call where it is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from durable import ConfigurationError, Durable, WorkflowContext
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
