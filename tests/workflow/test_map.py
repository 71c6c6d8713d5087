"""A workflow maps a task over many items: in windows, in order, with few entries, and across crashes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from durable import ChildResult, ConfigurationError, Durable, MapFailed, Status, StorageUnavailable, WorkflowContext
from durable.testing import VirtualStorage, app_under_test
from durable.workflow import maps
from durable.workflow_rows import Entry
from tests.jobs.crew import Failing, crew


@dataclass(frozen=True)
class Doubled:
    of: int
    value: int


async def _history(storage: VirtualStorage, execution_id: str) -> list[Entry]:
    (history,) = await storage.storage.histories([(execution_id, 0, 0)])
    return history.entries


async def test_the_results_stand_in_the_order_of_the_items(app: Durable, storage: VirtualStorage) -> None:
    @app.task
    async def double(n: int) -> Doubled:
        return Doubled(n, 2 * n)

    @app.workflow
    async def flow(ctx: WorkflowContext, count: int) -> list[int]:
        results = await ctx.map(double, range(count), concurrency=10)
        assert all(isinstance(result, Doubled) and result.of == index for index, result in enumerate(results))
        return [result.value for result in results]

    async with app_under_test(app, storage=storage) as kit:
        handles = [await flow.enqueue(count) for count in (0, 1, 5, 10, 11, 73)]
        await kit.drain()
        for handle, count in zip(handles, (0, 1, 5, 10, 11, 73), strict=True):
            assert await handle.result(timeout=0) == [2 * n for n in range(count)]
        assert await kit.app.storage.defects(limit=10) == []


async def test_there_are_a_few_entries_per_wave_and_never_too_many_children(
    app: Durable, storage: VirtualStorage
) -> None:
    running: set[int] = set()
    most = 0

    @app.task
    async def work(n: int) -> int:
        nonlocal most
        running.add(n)
        most = max(most, len(running))
        running.discard(n)
        return n

    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        return sum(await ctx.map(work, (n for n in range(400)), concurrency=40))

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        waves: list[int] = []
        await kit.drain()
        assert await handle.result(timeout=0) == sum(range(400))
        entries = await _history(storage, handle.execution_id)
        waves = [entry.seq for entry in entries if entry.kind == "wave"]
        assert 10 <= len(waves) <= 20
        assert len(entries) <= len(waves) + 3
        assert most <= 40
        assert (await handle.execution()).children_count == 400


async def test_only_so_many_children_are_there_at_a_time(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def inner(ctx: WorkflowContext, n: int) -> int:
        await ctx.sleep("1m" if n % 2 else "2m")
        return n

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[int]:
        return await ctx.map(inner, range(20), concurrency=8)

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        record = await handle.execution()
        assert (record.children_count, record.active_children_count) == (8, 8)
        await kit.clock.advance("1m")
        record = await handle.execution()
        assert (record.children_count, record.active_children_count) == (12, 8)
        await kit.clock.advance("1h")
        assert await handle.result(timeout=0) == list(range(20))


@pytest.mark.parametrize("restart_every", [1, 2])
async def test_a_map_goes_on_where_it_was_over_restarts_of_the_executor(
    app: Durable, storage: VirtualStorage, restart_every: int
) -> None:
    starts: list[int] = []

    @app.workflow
    async def inner(ctx: WorkflowContext, n: int) -> int:
        await ctx.step(starts.append, n)
        await ctx.sleep("1m")
        return 10 * n

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[int]:
        return await ctx.map(inner, (n for n in range(7)), concurrency=2)

    async with crew(storage, app) as (kit,):
        handle = await flow.enqueue()
        await kit.drain()
    for _ in range(8):
        async with crew(storage, app) as (kit,):
            for _ in range(restart_every):
                await kit.clock.advance("1m")
    async with crew(storage, app) as (kit,):
        await kit.drain()
        assert await flow.handle(handle.execution_id).result(timeout=0) == [10 * n for n in range(7)]
    assert sorted(starts) == list(range(7))


async def test_too_many_failures_end_the_map_and_cancel_the_others(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def inner(ctx: WorkflowContext, n: int) -> int:
        if n in (3, 5):
            raise ValueError(f"no {n}")
        await ctx.sleep("1h")
        return n

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[str]:
        try:
            await ctx.map(inner, range(100), concurrency=4)
        except MapFailed as failed:
            errors = [f"{index}: {error}" for index, error in failed.errors]
            return [failed.task, str(failed.failed), str(failed.started), *errors]
        return []

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.result(timeout=0) == ["inner", "1", "4", "3: ValueError: no 3"]
        await kit.drain()
        record = await handle.execution()
        assert (record.children_count, record.active_children_count) == (4, 0)


async def test_what_runs_is_cancelled_when_half_of_it_has_ended(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def inner(ctx: WorkflowContext, n: int) -> int:
        if n < 5:
            raise ValueError(f"no {n}")
        await ctx.sleep("30d")
        return n

    @app.workflow
    async def flow(ctx: WorkflowContext) -> int:
        try:
            return len(await ctx.map(inner, range(30), concurrency=10, tolerate_failures=3))
        except MapFailed as failed:
            return failed.failed

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.result(timeout=0) == 5
        statuses = [child.status for child in await handle.children()]
        assert statuses == [Status.FAILED] * 5 + [Status.CANCELLED] * 5


@pytest.mark.parametrize("allowed", [4, "20%", "100%"])
async def test_tolerated_failures_are_given_beside_the_results(
    app: Durable, storage: VirtualStorage, allowed: int | str
) -> None:
    @app.task
    async def work(n: int) -> Doubled:
        if n % 5 == 0:
            raise ValueError(f"no {n}")
        return Doubled(n, 2 * n)

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[str]:
        results: list[ChildResult[Doubled]] = await ctx.map(work, range(20), concurrency=3, tolerate_failures=allowed)
        return [str(result.output.value) if result.output else str(result.error) for result in results]

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        expected = [f"ValueError: no {n}" if n % 5 == 0 else str(2 * n) for n in range(20)]
        assert await handle.result(timeout=0) == expected


async def test_one_failure_more_than_the_share_fails_the_map(app: Durable, storage: VirtualStorage) -> None:
    @app.task
    async def work(n: int) -> None:
        if n % 5 == 0:
            raise ValueError

    @app.workflow
    async def flow(ctx: WorkflowContext, *, is_known: bool) -> int:
        try:
            items = range(20) if is_known else iter(range(20))
            await ctx.map(work, items, concurrency=3, tolerate_failures="19%")
        except MapFailed as failed:
            return failed.failed
        return 0

    async with app_under_test(app, storage=storage) as kit:
        known, unknown = await flow.enqueue(is_known=True), await flow.enqueue(is_known=False)
        await kit.drain()
        assert (await known.result(timeout=0), await unknown.result(timeout=0)) == (4, 4)


async def test_items_that_break_or_do_not_fit_fail_the_map(app: Durable, storage: VirtualStorage) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    def broken() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    @app.workflow
    async def flow(ctx: WorkflowContext, *, is_broken: bool) -> str:
        items = broken() if is_broken else [0, 1, "two"]
        try:
            return str(await ctx.map(work, items, concurrency=1))  # type: ignore[arg-type]  # pyright: ignore
        except MapFailed as failed:
            return str(failed)

    async with app_under_test(app, storage=storage) as kit:
        breaking, unfit = await flow.enqueue(is_broken=True), await flow.enqueue(is_broken=False)
        await kit.drain()
        assert "items[1]: OSError: the disk is gone" in await breaking.result(timeout=0)
        assert "items[2]: InvalidInput" in await unfit.result(timeout=0)


async def test_maps_children_and_steps_go_on_beside_each_other(app: Durable, storage: VirtualStorage) -> None:
    @app.task
    async def add(n: int) -> int:
        return n + 1

    async def slow() -> str:
        return "stepped"

    @app.workflow
    async def flow(ctx: WorkflowContext) -> tuple[list[int], list[int], int, str]:
        return await ctx.gather(
            ctx.map(add, range(30), concurrency=4),
            ctx.map(add, range(100, 117), concurrency=3),
            ctx.child(add, 1000),
            ctx.step(slow),
        )

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.result(timeout=0) == (
            [*range(1, 31)], [*range(101, 118)], 1001, "stepped",
        )  # fmt: skip
        assert await kit.app.storage.defects(limit=10) == []


async def test_a_map_that_is_given_up_cancels_its_children(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def inner(ctx: WorkflowContext, n: int) -> int:
        await ctx.sleep("30d")
        return n

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        try:
            async with ctx.timeout("1m"):
                await ctx.map(inner, range(50), concurrency=6)
        except TimeoutError:
            await ctx.sleep("1m")
            return "gave up"
        return "done"

    async with crew(storage, app) as (kit,):
        handle = await flow.enqueue()
        await kit.drain()
    async with crew(storage, app) as (kit,):
        await kit.clock.advance("1m")
        children = await flow.handle(handle.execution_id).children()
        assert [child.status for child in children] == [Status.CANCELLED] * 6
        await kit.clock.advance("1m")
        assert await flow.handle(handle.execution_id).result(timeout=0) == "gave up"


async def test_changed_code_that_maps_another_task_is_a_mismatch(app: Durable, storage: VirtualStorage) -> None:
    @app.workflow
    async def inner(ctx: WorkflowContext, n: int) -> int:
        await ctx.sleep("1h")
        return n

    @app.workflow(name="flow")
    async def before(ctx: WorkflowContext) -> int:
        return len(await ctx.map(inner, range(5), concurrency=2))

    async with crew(storage, app) as (kit,):
        handle = await before.enqueue()
        await kit.drain()

    later = Durable("postgresql://nobody@nowhere.invalid/nothing")

    @later.workflow(name="inner")
    async def same(ctx: WorkflowContext, n: int) -> int:
        await ctx.sleep("1h")
        return n

    @later.workflow(name="flow", version=2)
    async def after(ctx: WorkflowContext) -> int:
        return len(await ctx.map(same, range(1), concurrency=2))

    async with crew(storage, later) as (kit,):
        await kit.clock.advance("1h")
        record = await after.handle(handle.execution_id).execution()
        assert record.error is not None
        assert "a map of at least 2 items" in record.error
        assert not record.is_finished


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"concurrency": 10_001}, {"tolerate_failures": "x%"},
                                     {"tolerate_failures": -1}, {"tolerate_failures": "101%"}])  # fmt: skip
async def test_what_cannot_be_meant_is_refused_at_the_call(
    app: Durable, storage: VirtualStorage, options: dict[str, int]
) -> None:
    @app.task
    async def work(n: int) -> int:
        return n

    @app.workflow
    async def flow(ctx: WorkflowContext) -> str:
        try:
            await ctx.map(work, [1], **options)
        except ConfigurationError as error:
            return str(error)
        return ""

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert next(iter(options)) in await handle.result(timeout=0)


@pytest.mark.parametrize("is_done", [True, False])
async def test_a_page_whose_write_failed_is_neither_lost_nor_there_twice(
    app: Durable, storage: VirtualStorage, monkeypatch: pytest.MonkeyPatch, *, is_done: bool
) -> None:
    monkeypatch.setattr(maps, "_PAGE", 4)

    @app.task
    async def work(n: int) -> int:
        return n

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[int]:
        return await ctx.map(work, iter(range(30)), concurrency=10)

    async with app_under_test(app, storage=storage) as kit:
        failing = Failing(kit.app.storage, "checkpoint", StorageUnavailable("gone"), times=2, is_done=is_done)
        handle = await flow.enqueue()
        await kit.drain()
        assert failing.failed.is_set()
        assert await handle.result(timeout=0) == list(range(30))
        pages = [entry for entry in await _history(storage, handle.execution_id) if entry.kind == "page"]
        assert len(pages) == 8


@pytest.mark.parametrize("is_sized", [True, False])
async def test_the_item_that_is_refused_is_named(app: Durable, storage: VirtualStorage, *, is_sized: bool) -> None:
    @app.task
    async def double(n: int) -> int:
        return 2 * n

    @app.workflow
    async def flow(ctx: WorkflowContext) -> list[object]:
        items: list[Any] = [1, 2, 3, "four", 5]
        with pytest.raises(MapFailed, match=r"items\[3\]: InvalidInput") as whole:
            await ctx.map(double, items if is_sized else iter(items))
        # The first two are started before the third is looked at.
        with pytest.raises(MapFailed, match=r"items\[3\]: InvalidInput") as later:
            await ctx.map(double, items if is_sized else iter(items), concurrency=2)
        return [whole.value.errors[0][0], whole.value.started, later.value.errors[0][0], later.value.started]

    async with app_under_test(app, storage=storage) as kit:
        handle = await flow.enqueue()
        await kit.drain()
        assert await handle.result(timeout=0) == [3, 0, 3, 2]
