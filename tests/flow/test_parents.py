"""Parents and their children: every way to finalize, whatever way the children end."""

import asyncio
from typing import Any

import pytest

from durable import (
    Child,
    ChildResult,
    Durable,
    ExecutionCancelled,
    ExecutionFailed,
    ExecutionTimedOut,
    ParentResult,
    Retry,
    Spawn,
    Status,
    TaskContext,
    constant,
)

from .place import PATIENCE, Place, running, soon, until


async def total(output: str, ends: list[ChildResult[int]]) -> str:
    return f"{output} {sum(end.result() for end in ends)}"


def total_in_thread(output: str, ends: list[ChildResult[int]]) -> str:
    return f"{output} {sum(end.result() for end in ends)}"


async def fail_to_finalize(output: str, ends: list[ChildResult[Any]]) -> str:
    raise ValueError("no sum")


async def test_without_finalize_the_result_holds_the_children_in_order(app: Durable) -> None:
    @app.task
    async def double(n: int) -> int:
        return 2 * n

    @app.parent()
    async def doubles(count: int) -> Spawn[str]:
        return Spawn("all", [double.child(n) for n in range(count)])

    async with running(app):
        handle = await doubles.enqueue(3)
        result = await handle.result(PATIENCE)
        record = await handle.execution()
    assert isinstance(result, ParentResult)
    assert result.output == "all"
    assert [(child.status, child.result(), child.task_name) for child in result.children] == [
        (Status.COMPLETED, 2 * n, "double") for n in range(3)
    ]
    assert (record.children_count, record.active_children_count, record.waiting_for_finalize_at) == (3, 0, None)
    assert record.waiting_for_children_at is not None


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("finalize", [total, total_in_thread], ids=["async", "thread"])
async def test_a_function_finalizes(app: Durable, count: int, finalize: Any) -> None:
    @app.task
    async def double(n: int) -> int:
        return 2 * n

    @app.parent(finalize=finalize)
    async def doubles(count: int) -> Spawn[str]:
        return Spawn("sum", [double.child(n) for n in range(count)])

    async with running(app):
        assert await (await doubles.enqueue(count)).result(PATIENCE) == f"sum {sum(2 * n for n in range(count))}"


@pytest.mark.parametrize("count", [0, 1, 5])
async def test_a_task_finalizes_as_an_execution_of_its_own(app: Durable, count: int) -> None:
    seen: list[tuple[bool, str | None, str]] = []

    @app.task
    async def double(n: int) -> int:
        return 2 * n

    @app.task(retry=Retry(2, constant(0)))
    async def add_up(ctx: TaskContext, output: str, ends: list[ChildResult[int]]) -> int:
        seen.append((ctx.is_finalize, ctx.parent_id, ctx.root_id))
        if ctx.attempt == 1:
            raise ValueError("again")
        return sum(end.result() for end in ends)

    @app.parent(finalize=add_up)
    async def doubles(count: int) -> Spawn[str]:
        return Spawn("sum", [double.child(n) for n in range(count)])

    async with running(app):
        handle = await doubles.enqueue(count)
        assert await handle.result(PATIENCE) == sum(2 * n for n in range(count))
        record = await handle.execution()
        assert [child.task_name for child in await handle.children()] == ["double"] * count
    assert seen == [(True, handle.execution_id, handle.execution_id)] * 2
    assert record.waiting_for_finalize_at is not None
    assert (record.children_count, record.active_children_count) == (count, 0)


async def test_a_parent_finalizes_a_parent(app: Durable) -> None:
    @app.task
    async def double(n: int) -> int:
        return 2 * n

    async def last(output: int, ends: list[ChildResult[int]]) -> int:
        return output + sum(end.result() for end in ends)

    @app.parent(finalize=last)
    async def gather(output: str, ends: list[ChildResult[int]]) -> Spawn[int]:
        return Spawn(100, [double.child(end.result()) for end in ends])

    @app.parent(finalize=gather)
    async def start(count: int) -> Spawn[str]:
        return Spawn("", [double.child(n) for n in range(count)])

    async with running(app):
        assert await (await start.enqueue(3)).result(PATIENCE) == 100 + 4 * (0 + 1 + 2)


async def test_finalize_sees_every_child_however_it_ended(app: Durable) -> None:
    @app.task
    async def works() -> str:
        return "fine"

    @app.task
    async def fails() -> None:
        raise ValueError("broken")

    @app.task(timeout="10ms")
    async def hangs() -> None:
        await asyncio.Event().wait()

    @app.task
    async def waits() -> None:
        is_waiting.set()
        await asyncio.Event().wait()

    is_waiting = asyncio.Event()

    @app.parent(finalize=fail_to_finalize)
    async def crumbles() -> Spawn[str]:
        return Spawn("", [])

    async def sort_out(output: str, ends: list[ChildResult[Any]]) -> list[list[Any]]:
        return [[end.task_name, end.status, end.output, end.error and end.error.type] for end in ends]

    @app.parent(finalize=sort_out)
    async def parent() -> Spawn[str]:
        return Spawn("", [works.child(), fails.child(), hangs.child(), waits.child(), crumbles.child()])

    async with running(app):
        handle = await parent.enqueue()
        await soon(is_waiting.wait())
        children = await handle.children()
        assert (await app.cancel(children[3].execution_id)).is_cancelled
        assert await handle.result(PATIENCE) == [
            ["works", "completed", "fine", None],
            ["fails", "failed", None, "ValueError"],
            ["hangs", "timed_out", None, "timed_out"],
            ["waits", "cancelled", None, "cancelled"],
            ["crumbles", "finalize_failed", None, "ValueError"],
        ]
        children = await handle.children()
        for child, error in zip(
            children, (None, ExecutionFailed, ExecutionTimedOut, ExecutionCancelled, ExecutionFailed), strict=True
        ):
            if error is not None:
                with pytest.raises(error):
                    child.result()


async def test_failing_children_do_not_fail_a_parent_without_finalize(app: Durable) -> None:
    @app.task
    async def fails(n: int) -> None:
        raise ValueError(f"broken {n}")

    @app.parent()
    async def parent() -> Spawn[None]:
        return Spawn(None, [fails.child(n) for n in range(3)])

    async with running(app):
        result = await (await parent.enqueue()).result(PATIENCE)
    assert [str(child.error) for child in result.children] == [f"ValueError: broken {n}" for n in range(3)]


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("as_task", [True, False], ids=["task", "function"])
async def test_a_failing_finalize_fails_the_parent(app: Durable, count: int, as_task: bool) -> None:
    ran: list[int] = []

    @app.task
    async def child(n: int) -> None:
        ran.append(n)

    finalize: Any = app.task(name="finalize")(fail_to_finalize) if as_task else fail_to_finalize

    @app.parent(finalize=finalize)
    async def parent() -> Spawn[str]:
        return Spawn("", [child.child(n) for n in range(count)])

    async with running(app):
        handle = await parent.enqueue()
        with pytest.raises(ExecutionFailed, match="ValueError: no sum"):
            await handle.result(PATIENCE)
        assert (await handle.execution()).status == Status.FINALIZE_FAILED
    assert sorted(ran) == list(range(count))


async def test_a_finalize_function_is_repeated_by_the_parents_policy_without_running_children_again(
    app: Durable,
) -> None:
    ran: list[int] = []
    tries: list[int] = []

    @app.task
    async def child(n: int) -> None:
        ran.append(n)

    async def finalize(output: str, ends: list[Any]) -> str:
        tries.append(len(ends))
        if len(tries) < 3:
            raise ValueError("again")
        return "at last"

    @app.parent(finalize=finalize, retry=Retry(3, constant(0)))
    async def parent() -> Spawn[str]:
        return Spawn("", [child.child(n) for n in range(2)])

    async with running(app):
        assert await (await parent.enqueue()).result(PATIENCE) == "at last"
    assert (sorted(ran), tries) == ([0, 1], [2, 2, 2])


async def test_a_parent_that_fails_before_it_returns_starts_no_child_and_is_repeated(app: Durable) -> None:
    ran: list[int] = []

    @app.task
    async def child(n: int) -> None:
        ran.append(n)

    @app.parent(retry=Retry(2, constant(0)))
    async def parent(ctx: TaskContext) -> Spawn[str]:
        children = [child.child(ctx.attempt)]
        if ctx.attempt == 1:
            raise ValueError("not yet")
        return Spawn("", children)

    async with running(app):
        handle = await parent.enqueue()
        await handle.result(PATIENCE)
        assert (await handle.execution()).children_count == 1
    assert ran == [2]


async def test_options_of_a_child_are_those_it_was_made_with(app: Durable) -> None:
    @app.task(queue="a", priority=1, timeout="9s")
    async def child() -> None: ...

    @app.parent()
    async def parent() -> Spawn[None]:
        return Spawn(None, [child.child(), child.child(queue="default", priority=-2, timeout=None, max_deliveries=7)])

    async with running(app, queues=["default", "a"]):
        result = await (await parent.enqueue()).result(PATIENCE)
        records = [await app.execution(end.execution_id) for end in result.children]
    assert [(r.queue, r.priority, r.timeout, r.max_deliveries) for r in records] == [
        ("a", 1, 9.0, 5),
        ("default", -2, None, 7),
    ]


async def test_a_child_knows_its_place_in_the_tree(app: Durable) -> None:
    places: list[tuple[str | None, str, int | None]] = []

    @app.task
    async def leaf(ctx: TaskContext) -> None:
        places.append((ctx.parent_id, ctx.root_id, ctx.child_index))

    @app.parent()
    async def middle(ctx: TaskContext) -> Spawn[str]:
        return Spawn(ctx.execution_id, [leaf.child(), leaf.child()])

    @app.parent()
    async def top() -> Spawn[None]:
        return Spawn(None, [middle.child()])

    async with running(app):
        handle = await top.enqueue()
        result = await handle.result(PATIENCE)
    (below,) = result.children
    assert sorted(places, key=str) == [(below.execution_id, handle.execution_id, n) for n in (0, 1)]


async def test_what_a_parent_must_return_is_said_when_it_does_not(app: Durable) -> None:
    @app.parent()
    async def wrong() -> Spawn[None]:
        return 5  # type: ignore[return-value]

    @app.parent()
    async def wrong_child() -> Spawn[None]:
        return Spawn(None, ["x"])  # type: ignore[list-item]

    async with running(app):
        with pytest.raises(ExecutionFailed, match=r"it must return Spawn\(output, children\)"):
            await (await wrong.enqueue()).result(PATIENCE)
        with pytest.raises(ExecutionFailed, match=r"children are made by task.child"):
            await (await wrong_child.enqueue()).result(PATIENCE)


async def test_while_children_run_the_parent_holds_no_slot(app: Durable) -> None:
    @app.task
    async def child() -> str:
        return "ran"

    @app.parent()
    async def parent() -> Spawn[None]:
        return Spawn(None, [child.child()])

    async with running(app, concurrency=1):
        result = await (await parent.enqueue()).result(PATIENCE)
    assert [end.result() for end in result.children] == ["ran"]


async def test_a_child_that_no_executor_knows_keeps_its_parent_waiting_until_one_comes(place: Place) -> None:
    one, other = place.app(), place.app()

    @other.task(name="rare")
    async def rare() -> str:
        return "known here"

    @one.task(name="rare", queue="elsewhere")
    async def known_by_name_only() -> str:
        raise AssertionError

    @one.parent()
    async def parent() -> Spawn[None]:
        return Spawn(None, [known_by_name_only.child()])

    async with running(one):
        handle = await parent.enqueue()
        await until(one, handle.execution_id, lambda record: record.status == Status.WAITING_FOR_CHILDREN)
        async with running(other, queues=["elsewhere"]):
            result = await handle.result(PATIENCE)
    assert [end.output for end in result.children] == ["known here"]


async def test_a_child_may_carry_an_idempotency_key_of_nobody_else(app: Durable) -> None:
    """Options that make sense for roots only are refused where the child is made, before the parent's turn ends."""

    @app.task
    async def child() -> None: ...

    made: list[Child[None]] = []

    @app.parent()
    async def parent() -> Spawn[None]:
        made.append(child.child(delay="1ms"))
        return Spawn(None, made)

    async with running(app):
        assert len((await (await parent.enqueue()).result(PATIENCE)).children) == 1


async def test_a_parent_whose_child_record_is_gone_fails_and_says_so(app: Durable, place: Place) -> None:
    """A result made from the children that are left would be wrong without a sign of it."""
    door = app.sleeping("door", int)

    @app.parent()
    async def family() -> Spawn[str]:
        return Spawn("all", [door.child("one"), door.child("two")])

    async with running(app):
        handle = await family.enqueue()
        await until(app, handle.execution_id, lambda record: record.status == Status.WAITING_FOR_CHILDREN)
        lost, _ = await handle.children()
        place.is_spoiled = True
        place.tamper(lost.execution_id, parent_id="00000000-0000-7000-8000-000000000000")
        place.tamper(handle.execution_id, active_children_count=1)
        await door.wakeup("two", 2)
        with pytest.raises(ExecutionFailed, match="2 children were started, 1 are stored"):
            await handle.result(PATIENCE)
