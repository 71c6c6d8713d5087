"""A message is delivered once, whatever becomes of the answer to who sent it, and however often it is sent again."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from durable import Durable, StorageUnavailable, WorkflowContext
from durable.storage import Operation, Storage
from durable.testing import VirtualStorage, app_under_test
from durable.workflow_rows import SendOutcome


class Unanswered:
    """An operation, as far as these tests run it."""

    def __init__(self, operation: Operation[Any], calls: list[bool]) -> None:
        self._operation = operation
        self._calls = calls

    def __await__(self) -> Generator[Any, None, Any]:
        done = yield from self._operation.__await__()
        self._calls.append(True)
        if len(self._calls) == 1:
            raise StorageUnavailable("the answer was lost")
        return done


def lose_an_answer(monkeypatch: pytest.MonkeyPatch, storage: Storage, verb: str) -> list[bool]:
    """The first call is carried out, and its caller hears that the storage is away; gives a mark for each call."""
    verbs, calls = getattr(storage, verb), list[bool]()
    monkeypatch.setattr(storage, verb, lambda *args, **options: Unanswered(verbs(*args, **options), calls))
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


async def test_a_signal_id_counts_in_all_runs_of_a_workflow(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext, total: int, n: int) -> int:
        total += await ctx.wait_signal("pay", int)
        if n == 3:
            return total
        ctx.continue_as_new(total, n + 1)

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue(0, 1)
        for number in (1, 2, 3):
            for payment in range(1, number + 1):
                sent = await handle.signal("pay", 5, signal_id=f"p{payment}")
                assert sent is (SendOutcome.ACCEPTED if payment == number else SendOutcome.DUPLICATE)
                await kit.drain()
        assert await handle.result(timeout=0) == 15
