"""Code that says more or less than the code before it: what it says from there on goes out, and once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from durable import Durable, WorkflowContext
from durable.execution import Status
from durable.explain import error_of
from durable.testing import Kit, VirtualStorage, app_under_test
from durable.workflow.requests import Update
from durable.workflow.workflow import Workflow
from tests.flow.place import PATIENCE


def _declared(
    app: Durable, words: list[str], version: int, *, is_silent_in_replays: bool = False
) -> tuple[Workflow[[], str], Update[[str], str]]:
    """Says the words before it waits for its signal, and something after it and after an hour."""

    @app.workflow(version=version)
    async def flow(ctx: WorkflowContext) -> str:
        for word in words:
            if not (is_silent_in_replays and ctx.is_replaying):
                ctx.emit(word)
        ctx.publish("state", "waiting")
        await ctx.wait_signal("go", int)
        ctx.emit("later")
        ctx.publish("state", "later")
        await ctx.sleep("1h")
        ctx.emit("last")
        return "done"

    @flow.update
    async def ask(ctx: WorkflowContext, question: str) -> str:
        return f"to {question}"

    return flow, ask


async def _chunks(kit: Kit, id_: str) -> list[Any]:
    stored = await kit.app.storage.stored_chunks(id_, after=0, limit=100)
    return [kit.app.codec.value(Any).load(chunk.payload, "chunk") for chunk in stored]


def _later() -> Durable:
    return Durable("postgresql://nobody@nowhere.invalid/nothing")


@pytest.mark.parametrize("words", [[], ["b"], ["a", "b", "c"], ["a", "b", "c", "d", "e"]])
async def test_nothing_is_swallowed_and_nothing_doubled(
    app: Durable, storage: VirtualStorage, words: list[str]
) -> None:
    flow, _ = _declared(app, ["a", "b"], 1)
    async with app_under_test(app, storage=storage) as kit:
        id_ = (await flow.enqueue()).execution_id
        await kit.drain()
        assert await _chunks(kit, id_) == ["a", "b"]

    second = _later()
    flow, ask = _declared(second, words, 2)
    async with app_under_test(second, storage=storage) as kit:
        handle = flow.handle(id_)
        asked = asyncio.create_task(handle.update(ask, "be"))
        await handle.signal("go", 1)
        await kit.drain()
        assert await asyncio.wait_for(asked, PATIENCE) == "to be"
        assert (await _chunks(kit, id_), await handle.value("state")) == (["a", "b", "later"], "later")

    # The same code in a process that has nothing in memory.
    third = _later()
    flow, _ = _declared(third, words, 2)
    async with app_under_test(third, storage=storage) as kit:
        await kit.clock.advance("2h")
        assert await flow.handle(id_).result(timeout=0) == "done"
        assert await _chunks(kit, id_) == ["a", "b", "later", "last"]


async def test_the_same_code_that_says_less_in_a_replay_is_kept(app: Durable, storage: VirtualStorage) -> None:
    flow, _ = _declared(app, ["a", "b"], 1, is_silent_in_replays=True)
    async with app_under_test(app, storage=storage) as kit:
        id_ = (await flow.enqueue()).execution_id
        await kit.drain()

    again = _later()
    flow, _ = _declared(again, ["a", "b"], 1, is_silent_in_replays=True)
    async with app_under_test(again, storage=storage) as kit:
        await flow.handle(id_).signal("go", 1)
        await kit.drain()
        record = await flow.handle(id_).execution()
        error = error_of(record)
        assert (record.status, error and error.type) == (Status.READY, "StepMismatch")
        assert "3 published, streamed or answered values" in str(error)
