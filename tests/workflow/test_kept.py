"""Workflows that wait stay in memory for a while: what lets them go, and that they go on as if they had stayed."""

from __future__ import annotations

from typing import Any, Final

import pytest

from durable import Durable, Workflow, WorkflowContext
from durable.testing import Kit, VirtualStorage, app_under_test
from tests.jobs.crew import Watch

_NOWHERE: Final = "postgresql://nobody@nowhere.invalid/nothing"


class Shop:
    """Its orders wait for their payment, and note each run of their body, each end of one, and each step."""

    def __init__(self, storage: VirtualStorage) -> None:
        self.watch = Watch(storage)
        self.app = Durable(_NOWHERE, clock=self.watch)
        self.begun: list[str] = []
        self.left: list[str] = []
        self.booked: list[str] = []

        @self.app.workflow
        async def order(ctx: WorkflowContext, name: str, size: int = 1) -> list[Any]:
            self.begun.append(name)
            try:
                text = await ctx.step(self.book, name, size, ctx.random.random())
                paid = await ctx.wait_signal("paid", int)
            except GeneratorExit:
                self.left.append(name)
                raise
            return [name, len(text), paid]

        self.order: Workflow[[str, int], list[Any]] = order

    async def book(self, name: str, size: int, luck: float) -> str:
        self.booked.append(name)
        return "x" * size


@pytest.fixture
def shop(storage: VirtualStorage) -> Shop:
    return Shop(storage)


async def after_upkeep(kit: Kit) -> None:
    kit.executor.wake()
    await kit.drain()


async def test_one_that_goes_on_soon_is_not_replayed(shop: Shop, storage: VirtualStorage) -> None:
    async with app_under_test(shop.app, storage=storage) as kit:
        handle = await shop.order.enqueue("a", 1)
        await after_upkeep(kit)
        await handle.signal("paid", 7)
        await kit.drain()
        assert await handle.result(timeout=0) == ["a", 1, 7]
    assert (shop.begun, shop.left, shop.booked) == (["a"], [], ["a"])


async def test_one_that_waits_for_long_is_let_go_by_upkeep_and_goes_on_the_same(
    shop: Shop, storage: VirtualStorage
) -> None:
    async with app_under_test(shop.app, storage=storage) as kit:
        handle = await shop.order.enqueue("a", 1)
        await kit.drain()
        shop.watch.take(minutes=1)
        await after_upkeep(kit)
        assert shop.left == ["a"]
        await handle.signal("paid", 7)
        await kit.drain()
        assert await handle.result(timeout=0) == ["a", 1, 7]
    assert (shop.begun, shop.booked) == (["a", "a"], ["a"])


async def test_how_long_it_stays_is_a_setting_of_the_executor(shop: Shop, storage: VirtualStorage) -> None:
    async with app_under_test(shop.app, storage=storage, keep_waiting="2m") as kit:
        await shop.order.enqueue("a", 1)
        await kit.drain()
        shop.watch.take(minutes=1)
        await after_upkeep(kit)
        assert shop.left == []
        shop.watch.take(minutes=1)
        await after_upkeep(kit)
        assert shop.left == ["a"]


async def test_none_stays_where_the_time_is_none(shop: Shop, storage: VirtualStorage) -> None:
    async with app_under_test(shop.app, storage=storage, keep_waiting=0) as kit:
        handle = await shop.order.enqueue("a", 1)
        await kit.drain()
        assert shop.left == ["a"]
        await handle.signal("paid", 7)
        await kit.drain()
        assert await handle.result(timeout=0) == ["a", 1, 7]


async def test_where_memory_is_short_the_one_that_waits_longest_is_let_go_and_goes_on_the_same(
    shop: Shop, storage: VirtualStorage
) -> None:
    async with app_under_test(shop.app, storage=storage, keep_waiting_mib=1) as kit:
        for name, size in (("small", 1), ("large", 60_000), ("larger", 90_000)):
            await shop.order.enqueue(name, size)
            await kit.drain()
        assert shop.left == ["small", "large"]
        handles = [shop.order.handle(call.execution_id) for call in kit.enqueued()]
        for handle in handles:
            await handle.signal("paid", 7)
        await kit.drain()
        assert [await handle.result(timeout=0) for handle in handles] == [
            ["small", 1, 7], ["large", 60_000, 7], ["larger", 90_000, 7]
        ]  # fmt: skip
    assert sorted(shop.begun) == ["large", "large", "larger", "small", "small"]
    assert shop.booked == ["small", "large", "larger"]


async def test_one_that_sleeps_for_longer_is_not_kept_and_one_that_may_be_woken_sooner_is(
    storage: VirtualStorage,
) -> None:
    app, left = Durable(_NOWHERE), list[str]()

    @app.task
    async def never() -> None: ...

    @app.workflow
    async def waits(ctx: WorkflowContext, what: str) -> str:
        others: dict[str, Any] = {
            "nap": lambda: ctx.sleep("5s"),
            "signal": lambda: ctx.wait_signal("go", str, timeout="2d"),
            "child": lambda: ctx.child(never.child(delay="3d")),
        }
        try:
            await ctx.gather(ctx.sleep("1d"), *(others[each]() for each in what.split()))
        except GeneratorExit:
            left.append(what)
            raise
        return what

    @app.workflow
    async def hears(ctx: WorkflowContext) -> None:
        try:
            await ctx.sleep("1d")
        except GeneratorExit:
            left.append("update")
            raise

    @hears.update
    async def ask(ctx: WorkflowContext) -> None: ...

    async with app_under_test(app, storage=storage) as kit:
        handles = [await waits.enqueue(what) for what in ("", "nap", "signal", "child")]
        await hears.enqueue()
        await kit.drain()
        assert left == [""]
        await kit.clock.advance("1d")
        assert await handles[0].result(timeout=0) == ""
