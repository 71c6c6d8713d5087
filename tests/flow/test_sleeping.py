"""Sleeping tasks: woken early, late, twice, as a failure, or never."""

import asyncio
from typing import Any

import pytest

from durable import (
    ChildResult,
    Durable,
    ExecutionCancelled,
    ExecutionFailed,
    ExecutionTimedOut,
    SerializationError,
    SleepingIdConflict,
    Spawn,
    Status,
)

from .place import PATIENCE, Place, running, until


async def test_a_wakeup_completes_what_sleeps_under_the_id(app: Durable) -> None:
    approval = app.sleeping("approval", int)
    async with app:
        handle = await approval.enqueue("order-1")
        assert await handle.status() == Status.WAITING
        woken = await approval.wakeup("order-1", 5)
        assert (woken.execution_id, woken.status) == (handle.execution_id, Status.COMPLETED)
        assert await handle.result(PATIENCE) == 5


async def test_a_wakeup_that_comes_first_is_kept(app: Durable) -> None:
    approval = app.sleeping("approval", dict[str, int])
    async with app:
        assert (await approval.wakeup("order-1", {"a": 1})).execution_id is None
        assert await (await approval.enqueue("order-1")).result(PATIENCE) == {"a": 1}


async def test_the_first_wakeup_wins(app: Durable) -> None:
    approval = app.sleeping("approval", str)
    async with app:
        handle = await approval.enqueue("order-1")
        answers = await asyncio.gather(*(approval.wakeup("order-1", f"answer {n}") for n in range(10)))
        assert {answer.status for answer in answers} == {Status.COMPLETED}
        result = await handle.result(PATIENCE)
        assert (await approval.wakeup_failed("order-1", "too late")).status == Status.COMPLETED
        assert await handle.result(0) == result


async def test_of_two_wakeups_before_the_task_the_first_is_kept(app: Durable) -> None:
    approval = app.sleeping("approval", str)
    async with app:
        await approval.wakeup("order-1", "first")
        await approval.wakeup("order-1", "second")
        assert await (await approval.enqueue("order-1")).result(PATIENCE) == "first"


async def test_it_can_be_woken_as_a_failure(app: Durable) -> None:
    approval = app.sleeping("approval", str)
    async with app:
        handle = await approval.enqueue("order-1")
        assert (await approval.wakeup_failed("order-1", "refused by the bank")).status == Status.FAILED
        with pytest.raises(ExecutionFailed, match="refused by the bank"):
            await handle.result(PATIENCE)


async def test_nobody_wakes_it_before_its_deadline(app: Durable) -> None:
    approval = app.sleeping("approval", str, timeout="50ms")
    async with running(app):
        handle = await approval.enqueue("order-1")
        with pytest.raises(ExecutionTimedOut, match="nothing woke it"):
            await handle.result(PATIENCE)
        assert (await handle.execution()).reason == "expired"
        assert (await approval.wakeup("order-1", "late")).status == Status.TIMED_OUT


async def test_a_cancelled_one_stays_cancelled(app: Durable) -> None:
    approval = app.sleeping("approval", str)
    async with app:
        handle = await approval.enqueue("order-1")
        assert (await handle.cancel()).is_cancelled
        assert (await approval.wakeup("order-1", "late")).status == Status.CANCELLED
        with pytest.raises(ExecutionCancelled):
            await handle.result(PATIENCE)


async def test_an_id_can_be_used_once_and_belongs_to_its_task(app: Durable, place: Place) -> None:
    approval, other = app.sleeping("approval", str), app.sleeping("other", str)
    async with app:
        await approval.enqueue("order-1")
        with pytest.raises(SleepingIdConflict, match="order-1"):
            await approval.enqueue("order-1")
        await other.wakeup("order-1", "for the other")
        handle = await other.enqueue("order-1")
        assert await handle.result(PATIENCE) == "for the other"
    assert place.count() == 2


async def test_an_output_of_another_type_is_refused_and_nothing_wakes(app: Durable) -> None:
    approval = app.sleeping("approval", int)
    async with app:
        handle = await approval.enqueue("order-1")
        with pytest.raises(SerializationError, match="result"):
            await approval.wakeup("order-1", "five")  # type: ignore[arg-type]
        assert await handle.status() == Status.WAITING


async def test_as_a_child_it_keeps_its_parent_waiting(app: Durable) -> None:
    approval = app.sleeping("approval", int)
    deadline = app.sleeping("deadline", int, timeout="50ms")

    async def sort_out(output: None, ends: list[ChildResult[Any]]) -> list[list[Any]]:
        return [[end.status, end.output] for end in ends]

    @app.parent(finalize=sort_out)
    async def parent() -> Spawn[None]:
        return Spawn(None, [approval.child(name) for name in ("a", "b", "early")] + [deadline.child("d")])

    async with running(app):
        await approval.wakeup("early", 3)
        handle = await parent.enqueue()
        await until(app, handle.execution_id, lambda record: record.active_children_count == 2)
        await approval.wakeup("a", 1)
        await approval.wakeup_failed("b", "no")
        assert await handle.result(PATIENCE) == [
            ["completed", 1],
            ["failed", None],
            ["completed", 3],
            ["timed_out", None],
        ]


async def test_a_child_whose_id_is_taken_fails_its_parent_alone(app: Durable, place: Place) -> None:
    approval = app.sleeping("approval", int)

    @app.parent()
    async def parent(name: str) -> Spawn[None]:
        return Spawn(None, [approval.child(name), approval.child(f"{name} too")])

    async with running(app):
        await approval.enqueue("taken")
        fine, conflicting = await app.enqueue_calls([parent.child("free"), parent.child("taken")])
        with pytest.raises(ExecutionFailed, match="SleepingIdConflict"):
            await conflicting.result(PATIENCE)
        await approval.wakeup("free", 1)
        await approval.wakeup("free too", 2)
        result = await fine.result(PATIENCE)
    assert [end.output for end in result.children] == [1, 2]
    assert place.count() == 1 + 2 + 2


async def test_wakeups_and_tasks_that_race_always_meet(app: Durable, place: Place) -> None:
    approval = app.sleeping("approval", int)
    async with app:
        wakes = [approval.wakeup(f"order-{n}", n) for n in range(60)]
        sleeps = [approval.enqueue(f"order-{n}") for n in range(60)]
        calls: list[Any] = [call for pair in zip(wakes, sleeps, strict=True) for call in pair]
        handles = (await asyncio.gather(*calls))[1::2]
        assert [await handle.result(PATIENCE) for handle in handles] == list(range(60))
    assert place.count() == 60


async def test_a_delayed_one_can_be_woken_at_once(app: Durable) -> None:
    approval = app.sleeping("approval", int, timeout="1h")
    async with app:
        handle = await approval.enqueue("order-1", delay="1h")
        record = await handle.execution()
        assert record.wait_expires_at is not None
        assert (record.wait_expires_at - record.created_at).total_seconds() == 7200
        await approval.wakeup("order-1", 1)
        assert await handle.result(PATIENCE) == 1
