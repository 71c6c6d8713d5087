"""A message is delivered once, whatever becomes of the answer to who sent it, and however often it is sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from typing import Any

import pytest

from durable import Durable, StorageUnavailable, WorkflowContext
from durable.storage import Operation, Storage
from durable.testing import VirtualStorage, app_under_test
from durable.workflow_rows import SendOutcome


class Unanswered:
    """An operation whose answer is lost if it is the first of its verb; something may happen before its next try."""

    def __init__(self, operation: Operation[Any], calls: list[bool], between: Callable[[], Awaitable[None]]) -> None:
        self._operation = operation
        self._calls = calls
        self._between = between

    def __await__(self) -> Generator[Any, None, Any]:
        done = yield from self._operation.__await__()
        self._calls.append(True)
        if len(self._calls) == 1:
            yield from self._between().__await__()
            raise StorageUnavailable("the answer was lost")
        return done

    def run(self) -> Any:
        done = self._operation.run()
        self._calls.append(True)
        if len(self._calls) == 1:
            raise StorageUnavailable("the answer was lost")
        return done


async def nothing() -> None:
    """Happens between."""


def lose_an_answer(
    monkeypatch: pytest.MonkeyPatch, storage: Storage, verb: str, between: Callable[[], Awaitable[None]] = nothing
) -> list[bool]:
    """The first call is carried out, and its caller hears that the storage is away; gives a mark for each call."""
    make, calls = getattr(storage, verb), list[bool]()
    monkeypatch.setattr(storage, verb, lambda *args, **options: Unanswered(make(*args, **options), calls, between))
    return calls


@pytest.mark.parametrize("signal_id", [None, "given"])
async def test_a_signal_whose_answer_was_lost_is_delivered_once(
    app: Durable, storage: VirtualStorage, monkeypatch: pytest.MonkeyPatch, signal_id: str | None
) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[int]:
        got: list[int] = []
        try:
            while True:
                got.append(await ctx.wait_signal("x", int, timeout="1m"))
        except TimeoutError:
            return got

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        calls = lose_an_answer(monkeypatch, kit.app.storage, "send_messages")
        sent = await handle.signal("x", 1, signal_id=signal_id)
        # With an id of the caller's own it may as well have been another call's.
        assert sent is (SendOutcome.ACCEPTED if signal_id is None else SendOutcome.DUPLICATE)
        await handle.signal("x", 1)
        await kit.clock.advance("2m")
        assert (await handle.result(timeout=0), len(calls)) == ([1, 1], 3)


@pytest.mark.parametrize("verb", ["cancel", "send_messages"])
async def test_a_request_to_stop_whose_answer_was_lost_is_heard_once(
    app: Durable, storage: VirtualStorage, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Of the verbs, the second sends what comes after a request that the body has passed over."""
    heard: list[str] = []

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        while True:
            try:
                await ctx.wait_signal("never", int)
            except asyncio.CancelledError as error:
                heard.append(str(error))

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        if verb == "send_messages":
            await handle.cancel(reason="first")
            await kit.drain()
        calls = lose_an_answer(monkeypatch, kit.app.storage, verb, kit.drain)
        await handle.cancel(reason="once")
        await kit.drain()
        assert (len(calls), heard.count("once")) == (2, 1)


async def test_a_request_of_a_blocking_client_whose_answer_was_lost_is_one(
    app: Durable, storage: VirtualStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        while True:
            with suppress(asyncio.CancelledError):
                await ctx.wait_signal("never", int)

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        with kit.app.client() as client:
            calls = lose_an_answer(monkeypatch, client._storage, "cancel")
            result = await asyncio.to_thread(client.cancel, handle.execution_id)
        assert (len(calls), result.outcome) == (2, "requested")
        (history,) = await kit.app.storage.histories([(handle.execution_id, 0, 0)])
        assert len(history.messages) == 1


async def test_a_signal_id_counts_in_all_runs_of_a_workflow(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext, total: int, n: int) -> int:
        total += await ctx.wait_signal("pay", int)
        if n < 3:
            ctx.continue_as_new(total, n + 1)
        return total

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue(0, 1)
        for number in (1, 2, 3):
            for payment in range(1, number + 1):
                sent = await handle.signal("pay", 5, signal_id=f"p{payment}")
                assert sent is (SendOutcome.ACCEPTED if payment == number else SendOutcome.DUPLICATE)
                await kit.drain()
        assert await handle.result(timeout=0) == 15
