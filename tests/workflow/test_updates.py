"""Updates: validated requests into a running workflow, done once, with an answer that is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from durable import (
    ConfigurationError,
    Durable,
    ExecutionNotFound,
    InvalidInput,
    Status,
    Update,
    UpdateFailed,
    UpdateRefused,
    UpdateTimeout,
    Workflow,
    WorkflowContext,
    WorkflowHandle,
)
from durable.testing import Kit, VirtualStorage, app_under_test
from tests.flow.place import PATIENCE, Place, running, soon
from tests.jobs.crew import client_only, crew, turned

T = TypeVar("T")
NOBODY = "00000000-0000-7000-8000-000000000000"


class Basket:
    """A workflow whose basket is filled by updates, and paid by a signal."""

    def __init__(self, app: Durable) -> None:
        self.calls: list[str] = []

        @app.workflow
        async def basket(ctx: WorkflowContext, most: int) -> list[str]:
            ctx.state["items"] = []
            ctx.state["most"] = most
            await ctx.wait_signal("pay", bool)
            items: list[str] = ctx.state["items"]
            return items

        @basket.update
        async def add(ctx: WorkflowContext, item: str, count: int = 1) -> int:
            ctx.state["items"] += [item.upper()] * count
            now = len(ctx.state["items"])
            await ctx.step(self.look_up, item)
            return now

        @add.validator
        def has_room(ctx: WorkflowContext, item: str, count: int = 1) -> None:
            if len(ctx.state["items"]) + count > ctx.state["most"]:
                raise ValueError("the basket is full")

        @basket.update
        async def burn(ctx: WorkflowContext) -> None:
            raise KeyError("fire")

        self.flow: Workflow[[int], list[str]] = basket
        self.add: Update[[str, int], int] = add  # type: ignore[assignment]  # by place alone
        self.burn: Update[[], None] = burn

    async def look_up(self, item: str) -> None:
        self.calls.append(item)


async def answered(kit: Kit, call: Any) -> Any:
    """The answer to a call that needs the executor."""
    asked = asyncio.create_task(call)
    while not asked.done():
        await kit.drain()
        await asyncio.wait({asked}, timeout=0.001)
    return asked.result()


async def test_an_update_is_done_by_the_workflow_and_answered(app: Durable, storage: VirtualStorage) -> None:
    basket = Basket(app)
    async with app_under_test(app, storage=storage) as kit:
        handle = await basket.flow.enqueue(5)
        assert await answered(kit, handle.update(basket.add, "pear", 1)) == 1
        assert await answered(kit, handle.update(basket.add, "fig", 2)) == 3
        await handle.signal("pay", True)
        await kit.drain()
        assert await handle.result(timeout=0) == ["PEAR", "FIG", "FIG"]


async def test_a_refused_update_disturbs_nobody(app: Durable, storage: VirtualStorage) -> None:
    basket = Basket(app)
    async with app_under_test(app, storage=storage) as kit:
        handle = await basket.flow.enqueue(1)
        asked = [await sent(handle, handle.update(basket.add, item, 1)) for item in ("pear", "fig")]
        await kit.drain()
        answers = await soon(asyncio.gather(*asked, return_exceptions=True))
        assert answers.count(1) == 1  # the validator of the second saw what came of the first
        (refused,) = (each for each in answers if isinstance(each, UpdateRefused))
        assert (refused.update, refused.error.type, refused.error.message) == (
            "add",
            "ValueError",
            "the basket is full",
        )
        await handle.signal("pay", True)
        await kit.drain()
        assert len(await handle.result(timeout=0)) == 1


async def test_the_same_id_is_the_same_update(app: Durable, storage: VirtualStorage) -> None:
    basket = Basket(app)
    async with app_under_test(app, storage=storage) as kit:
        handle = await basket.flow.enqueue(5)
        for _ in range(2):
            assert await answered(kit, handle.update(basket.add, "pear", 1, update_id="one")) == 1
        both = asyncio.gather(*(handle.update(basket.add, "fig", 1, update_id="two") for _ in range(2)))
        assert await answered(kit, _awaited(both)) == [2, 2]
        with app.client() as client:
            calls = client.handle(basket.flow, handle.execution_id)
            assert calls.update(basket.add, "pear", 1, update_id="one") == 1
        await handle.signal("pay", True)
        await kit.drain()
        assert await handle.update(basket.add, "pear", 1, update_id="one") == 1
        assert basket.calls == ["pear", "fig"]


async def sent(handle: WorkflowHandle[Any], call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A call that is under way, once its message has been stored."""
    before = (await handle.execution()).message_count
    asked = asyncio.create_task(call)
    async with asyncio.timeout(PATIENCE):
        while (await handle.execution()).message_count == before:
            await turned()
    return asked


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


async def test_an_answer_outlives_a_crash_of_either_side(app: Durable, storage: VirtualStorage) -> None:
    basket = Basket(app)
    async with client_only(storage, app):
        handle = await basket.flow.enqueue(5)
        with pytest.raises(UpdateTimeout) as late:
            await handle.update(basket.add, "pear", 1, timeout=0)
    async with crew(storage, app) as (kit,):
        await kit.drain()
    async with client_only(storage, app):
        again = basket.flow.handle(handle.execution_id)
        assert await again.update(basket.add, "pear", 1, update_id=late.value.update_id, timeout=0) == 1
    async with crew(storage, app) as (kit,):
        # What an executor has never seen it knows from the history.
        assert await answered(kit, basket.flow.handle(handle.execution_id).update(basket.add, "fig", 1)) == 2
    assert basket.calls == ["pear", "fig"]


async def test_a_handler_that_raises_is_an_error_of_its_caller_alone(app: Durable, storage: VirtualStorage) -> None:
    basket = Basket(app)
    async with app_under_test(app, storage=storage) as kit:
        handle = await basket.flow.enqueue(5)
        with pytest.raises(UpdateFailed, match="fire") as failed:
            await answered(kit, handle.update(basket.burn, update_id="f"))
        assert failed.value.error.type == "KeyError"
        with pytest.raises(UpdateFailed):
            await handle.update(basket.burn, update_id="f")
        assert await handle.status() is Status.WAITING


async def test_bad_arguments_are_refused_before_anything_is_sent(app: Durable, storage: VirtualStorage) -> None:
    basket = Basket(app)

    @app.workflow
    async def other(ctx: WorkflowContext) -> None:
        pass

    async with client_only(storage, app):
        handle = await basket.flow.enqueue(5)
        with pytest.raises(InvalidInput, match="add"):
            await handle.update(basket.add, 7, 1)  # type: ignore[call-overload]  # pyright: ignore
        with pytest.raises(InvalidInput):
            await handle.update(basket.add)  # type: ignore[call-overload]  # pyright: ignore
        with pytest.raises(ConfigurationError, match="timeout"):
            await handle.update(basket.add, "x", 1, timeout=-1)
        with pytest.raises(ConfigurationError, match="update_id"):
            await handle.update(basket.add, "x", 1, update_id="")
        with pytest.raises(ConfigurationError, match="basket"):
            await (await other.enqueue()).update(basket.add, "x", 1)
        assert (await handle.execution()).message_count == 0
        with pytest.raises(ExecutionNotFound):
            await basket.flow.handle(NOBODY).update(basket.add, "x", 1)


async def test_a_workflow_that_has_ended_refuses(app: Durable, storage: VirtualStorage) -> None:
    basket = Basket(app)
    async with app_under_test(app, storage=storage) as kit:
        handle = await basket.flow.enqueue(5)
        await handle.signal("pay", True)
        await kit.drain()
        with pytest.raises(UpdateRefused, match="ended"):
            await handle.update(basket.add, "x", 1)


async def test_a_return_waits_for_the_updates_that_run(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        await ctx.wait_signal("end", bool)
        return str(ctx.now())

    @flow.update
    async def slow(ctx: WorkflowContext) -> str:
        await ctx.sleep("1h")
        return "slept"

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        asked = await sent(handle, handle.update(slow))
        await kit.drain()
        await handle.signal("end", True)
        await kit.drain()
        assert await handle.status() is Status.READY
        late = await sent(handle, handle.update(slow))
        await kit.clock.advance("1h")
        assert await soon(asked) == "slept"
        with pytest.raises(UpdateFailed, match="without an answer"):
            await soon(late)
        assert await handle.status() is Status.COMPLETED


@pytest.mark.parametrize("way", ["cancel", "fail"])
async def test_updates_that_run_are_cancelled_with_their_workflow(
    app: Durable, storage: VirtualStorage, way: str
) -> None:
    undone: list[str] = []

    async def undo() -> None:
        undone.append("undone")

    @app.workflow
    async def flow(ctx: WorkflowContext) -> None:
        await ctx.wait_signal("fail", bool)
        raise ValueError("failed")

    @flow.update
    async def slow(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep("1h")
        finally:
            await ctx.step(undo)

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        asked = await sent(handle, handle.update(slow))
        await kit.drain()
        await (handle.cancel() if way == "cancel" else handle.signal("fail", True))
        await kit.drain()
        with pytest.raises(UpdateFailed) as failed:
            await soon(asked)
        assert (failed.value.error.type, undone) == ("cancelled", ["undone"])
        assert await handle.status() is (Status.CANCELLED if way == "cancel" else Status.FAILED)


async def test_a_body_may_wait_for_nothing_but_updates(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        ctx.state["done"] = done = asyncio.Event()
        await done.wait()
        return "done"

    @flow.update
    async def end(ctx: WorkflowContext) -> None:
        ctx.state["done"].set()

    async with crew(storage, app) as (kit,):
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.status() is Status.WAITING
    async with crew(storage, app) as (kit,):
        await answered(kit, flow.handle(handle.execution_id).update(end))
        assert await flow.handle(handle.execution_id).result(timeout=0) == "done"


async def test_updates_and_their_answers_survive_a_new_run(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def flow(ctx: WorkflowContext, total: int) -> int:
        ctx.state["total"] = total
        if await ctx.wait_signal("again", bool):
            ctx.continue_as_new(ctx.state["total"])
        return int(ctx.state["total"])

    @flow.update
    async def add(ctx: WorkflowContext, n: int) -> int:
        ctx.state["total"] += n
        return int(ctx.state["total"])

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue(0)
        assert await answered(kit, handle.update(add, 1, update_id="a")) == 1
        await handle.signal("again", True)
        await kit.drain()
        assert await answered(kit, handle.update(add, 1, update_id="a")) == 1
        assert await answered(kit, handle.update(add, 5, update_id="b")) == 6
        await handle.signal("again", False)
        await kit.drain()
        assert await handle.result(timeout=0) == 6


async def test_an_unknown_update_is_refused_with_those_that_are_known(app: Durable, storage: VirtualStorage) -> None:
    """As one of a newer version of the code would be by an older executor."""
    basket, newer = Basket(app), Durable("postgresql://nobody@nowhere.invalid/nothing")
    flow = Basket(newer).flow

    @flow.update
    async def extra(ctx: WorkflowContext) -> None:
        pass

    async with crew(storage, app) as (kit,):
        handle = await basket.flow.enqueue(1)
        async with client_only(storage, newer):
            with pytest.raises(UpdateRefused, match="add, burn"):
                await answered(kit, flow.handle(handle.execution_id).update(extra))


async def test_declarations_that_cannot_be_meant(app: Durable) -> None:
    flow = Basket(app).flow

    def sync(ctx: WorkflowContext) -> None: ...

    async def add(ctx: WorkflowContext) -> None: ...

    async def timed(ctx: WorkflowContext, timeout: int) -> None: ...

    for bad, words in ((sync, "async def"), (add, "already"), (timed, "'timeout'")):
        with pytest.raises(ConfigurationError, match=words):
            flow.update(bad)  # type: ignore[arg-type]  # pyright: ignore


async def test_a_validator_takes_what_its_handler_takes(app: Durable) -> None:
    basket = Basket(app)

    def bare(item: str, count: int = 1) -> None: ...

    def named(ctx: WorkflowContext, thing: str, count: int) -> None: ...

    async def slow(ctx: WorkflowContext) -> None: ...

    def fitting(ctx: WorkflowContext) -> None: ...

    for update, bad, words in (
        (basket.add, bare, r"takes \(item, count\); .* of the handler: \(ctx, item, count\)"),
        (basket.add, named, "item, count"),
        (basket.burn, slow, "must be a def"),
        (basket.add, fitting, "item, count"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            update.validator(bad)  # type: ignore[arg-type]  # pyright: ignore
    basket.burn.validator(fitting)
    with pytest.raises(ConfigurationError, match="already"):
        basket.burn.validator(fitting)


async def test_an_update_in_real_time_from_both_clients(place: Place) -> None:
    app = place.app()
    basket = Basket(app)

    def ask(execution_id: str) -> int:
        with app.client() as client:
            return client.handle(basket.flow, execution_id).update(basket.add, "fig", 1)

    async with running(app):
        handle = await basket.flow.enqueue(5)
        assert await soon(handle.update(basket.add, "pear", 1)) == 1
        assert await soon(asyncio.to_thread(ask, handle.execution_id)) == 2
