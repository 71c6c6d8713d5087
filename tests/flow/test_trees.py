"""Large and deep trees: order, limits, and that every level closes."""

from typing import Any

import pytest

from durable import ChildResult, Durable, ExecutionFailed, Spawn, Status, TaskContext

from .place import PATIENCE, Place, running, until


async def add_up(output: int, ends: list[ChildResult[int]]) -> int:
    return output + sum(end.result() for end in ends)


async def test_a_tree_of_four_levels_gives_its_sum_and_closes(app: Durable, place: Place) -> None:
    @app.task
    async def leaf(n: int) -> int:
        return n

    @app.parent(finalize=add_up)
    async def level_2(n: int) -> Spawn[int]:
        return Spawn(0, [leaf.child(n + k) for k in range(3)])

    @app.parent(finalize=add_up)
    async def level_1(n: int) -> Spawn[int]:
        return Spawn(0, [level_2.child(n + 10 * k) for k in range(3)])

    @app.parent(finalize=add_up)
    async def level_0() -> Spawn[int]:
        return Spawn(0, [level_1.child(100 * k) for k in range(3)])

    async with running(app):
        handle = await level_0.enqueue()
        assert await handle.result(PATIENCE) == sum(
            100 * a + 10 * b + c for a in range(3) for b in range(3) for c in range(3)
        )
        record = await handle.execution()
        assert (record.depth, record.close_status, record.active_children_count) == (0, "closed", 0)
    assert place.count() == 1 + 3 + 9 + 27


async def test_a_task_may_be_its_own_child(app: Durable) -> None:
    @app.parent(finalize=add_up)
    async def countdown(n: int) -> Spawn[int]:
        return Spawn(n, [countdown.child(n - 1)] if n else [])

    async with running(app):
        assert await (await countdown.enqueue(20)).result(PATIENCE) == sum(range(21))


async def test_five_hundred_children_come_back_in_their_order(app: Durable) -> None:
    @app.task
    async def square(n: int) -> int:
        return n * n

    @app.parent()
    async def squares() -> Spawn[None]:
        return Spawn(None, [square.child(n, priority=n % 9 - 4) for n in range(500)])

    async with running(app):
        result = await (await squares.enqueue()).result(PATIENCE)
    assert [end.result() for end in result.children] == [n * n for n in range(500)]


async def test_one_child_too_many_fails_the_parent_and_stores_none(app: Durable, place: Place) -> None:
    @app.task
    async def child() -> None: ...

    @app.parent()
    async def parent(count: int) -> Spawn[None]:
        return Spawn(None, [child.child()] * count)

    async with running(app):
        with pytest.raises(ExecutionFailed, match="returned 10001 children, the limit is 10000"):
            await (await parent.enqueue(10_001)).result(PATIENCE)
    assert place.count() == 1


async def test_a_tree_that_is_too_deep_fails_at_the_bottom(app: Durable, place: Place) -> None:
    depths: list[int] = []

    async def deepest(output: int, ends: list[ChildResult[Any]]) -> list[Any]:
        if ends and ends[0].is_completed:
            inner: list[Any] = ends[0].result()
            return inner
        return [output, str(ends[0].error) if ends else None]

    @app.parent(finalize=deepest)
    async def dig(depth: int) -> Spawn[int]:
        depths.append(depth)
        return Spawn(depth, [dig.child(depth + 1)])

    async with running(app):
        depth, error = await (await dig.enqueue(0)).result(PATIENCE)
    assert (depth, max(depths)) == (99, 100)
    assert "the tree is 101 levels deep, the limit is 100" in error
    assert place.count() == 101


async def test_many_parents_finish_side_by_side(app: Durable, place: Place) -> None:
    @app.task
    async def leaf(n: int) -> int:
        return n

    @app.parent(finalize=add_up)
    async def parent(n: int) -> Spawn[int]:
        return Spawn(n, [leaf.child(k) for k in range(5)])

    async with running(app):
        handles = await parent.enqueue_many(range(60))
        assert [await handle.result(PATIENCE) for handle in handles] == [n + 10 for n in range(60)]
    assert place.count() == 60 * 6


async def test_a_redriven_parent_finalizes_again_and_its_children_stay(app: Durable, place: Place) -> None:
    ran: list[int] = []
    is_mended = False

    @app.task
    async def child(n: int) -> int:
        ran.append(n)
        return n

    async def finalize(output: None, ends: list[ChildResult[int]]) -> int:
        if not is_mended:
            raise ValueError("not yet")
        return sum(end.result() for end in ends)

    @app.parent(finalize=finalize)
    async def parent(ctx: TaskContext) -> Spawn[None]:
        return Spawn(None, [child.child(n) for n in range(3)])

    async with running(app):
        handle = await parent.enqueue()
        with pytest.raises(ExecutionFailed):
            await handle.result(PATIENCE)
        record = await until(app, handle.execution_id, lambda record: record.close_status == "closed")
        assert record.status == Status.FINALIZE_FAILED
        is_mended = True
        assert await app.storage.redrive([handle.execution_id]) == [handle.execution_id]
        assert await handle.result(PATIENCE) == 3
    assert sorted(ran) == [0, 1, 2]
    assert place.count() == 4
