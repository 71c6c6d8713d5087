"""Virtual time: what is due runs at its moment and in order, nothing before it, and no test waits for any of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from durable import (
    Again,
    ChildResult,
    ConfigurationError,
    Done,
    Durable,
    Retry,
    Spawn,
    Status,
    Task,
    TaskContext,
    exponential,
    linear,
)
from durable.testing import Kit, VirtualStorage, app_under_test

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Diary:
    """What ran, and at which moment of virtual time."""

    def __init__(self) -> None:
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.entries: list[tuple[str, timedelta]] = []
        self._start: datetime | None = None

    def begin(self, kit: Kit) -> Kit:
        self.now, self._start = kit.clock.now, kit.clock.now()
        return kit

    def note(self, name: str) -> None:
        assert self._start is not None
        self.entries.append((name, self.now() - self._start))


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
def note(app: Durable, diary: Diary) -> Task[[str], str]:
    @app.task
    async def note(name: str) -> str:
        diary.note(name)
        return name

    return note


async def test_nothing_runs_before_its_moment_and_everything_at_it(
    app: Durable, storage: VirtualStorage, diary: Diary, note: Task[[str], str]
) -> None:
    async with app_under_test(app, storage=storage) as kit:
        diary.begin(kit)
        handle = await note.enqueue("late", delay="3d")
        await kit.clock.advance(3 * DAY - timedelta(microseconds=1))
        assert (diary.entries, await handle.status()) == ([], Status.READY)
        await kit.clock.advance(timedelta(microseconds=1))
        assert (diary.entries, await handle.status()) == ([("late", 3 * DAY)], Status.COMPLETED)


async def test_what_is_due_at_different_moments_runs_in_their_order(
    app: Durable, storage: VirtualStorage, diary: Diary, note: Task[[str], str]
) -> None:
    async with app_under_test(app, storage=storage) as kit:
        start = diary.begin(kit).clock.now()
        await note.enqueue("c", run_at=start + 3 * HOUR, priority=4)
        await note.enqueue("b", delay="2h", queue="default")
        await note.enqueue("a", delay="1h", priority=-4)
        await note.enqueue("d", delay="4h")
        assert await kit.clock.advance("3h30m") == start + timedelta(hours=3.5)
        assert diary.entries == [("a", HOUR), ("b", 2 * HOUR), ("c", 3 * HOUR)]


async def test_an_execution_that_is_enqueued_on_the_way_runs_on_the_way(
    app: Durable, storage: VirtualStorage, diary: Diary, note: Task[[str], str]
) -> None:
    @app.task
    async def remind(name: str) -> None:
        diary.note("remind")
        await note.enqueue(name, delay="1h")

    async with app_under_test(app, storage=storage) as kit:
        diary.begin(kit)
        await note.enqueue("after", delay="150m")
        await remind.enqueue("chained", delay="1h")
        await kit.clock.advance("1d")
    assert diary.entries == [("remind", HOUR), ("chained", 2 * HOUR), ("after", 2.5 * HOUR)]


async def test_retries_back_off_over_virtual_hours(app: Durable, storage: VirtualStorage, diary: Diary) -> None:
    @app.task(retry=Retry(max_attempts=4, delay=exponential("1h", max="1d"), jitter=0))
    async def flaky(ctx: TaskContext) -> str:
        diary.note(f"attempt {ctx.attempt}")
        if ctx.attempt < 4:
            raise ValueError("not yet")
        return "done"

    async with app_under_test(app, storage=storage) as kit:
        diary.begin(kit)
        handle = await flaky.enqueue()
        await kit.clock.advance("1d")
        assert await handle.result(timeout=0) == "done"
    assert diary.entries == [(f"attempt {n}", hours * HOUR) for n, hours in [(1, 0), (2, 1), (3, 3), (4, 7)]]


async def test_max_duration_of_a_retry_is_virtual_time(app: Durable, storage: VirtualStorage, diary: Diary) -> None:
    @app.task(retry=Retry(max_attempts=100, delay=linear("1h"), jitter=0, max_duration="4h"))
    async def hopeless() -> None:
        diary.note("try")
        raise ValueError("never")

    async with app_under_test(app, storage=storage) as kit:
        diary.begin(kit)
        handle = await hopeless.enqueue()
        await kit.clock.advance("30d")
        assert await handle.status() == Status.FAILED
    assert [at for _, at in diary.entries] == [0 * HOUR, 1 * HOUR, 3 * HOUR]


async def test_a_loop_takes_its_thirty_turns_of_a_day_each_in_order(
    app: Durable, storage: VirtualStorage, diary: Diary
) -> None:
    @app.loop(max_iterations=1000, every="1d")
    async def watch(ctx: TaskContext) -> Done[None] | Again:
        diary.note(f"turn {ctx.iteration}")
        return Again()

    async with app_under_test(app, storage=storage) as kit:
        diary.begin(kit)
        handle = await watch.enqueue()
        await kit.drain()
        await kit.clock.advance("30d")
        assert (await handle.execution()).iteration == 31
    assert diary.entries == [(f"turn {day}", day * DAY) for day in range(31)]


async def test_the_deadline_of_a_sleeping_task_passes_and_its_parent_goes_on(
    app: Durable, storage: VirtualStorage, diary: Diary
) -> None:
    approval = app.sleeping("approval", bool, timeout="2d")

    def judge(order: str, ends: list[ChildResult[bool]]) -> str:
        return f"{order}: {ends[0].status}"

    @app.parent(finalize=judge)
    async def order(name: str) -> Spawn[str]:
        return Spawn(name, [approval.child(name)])

    async with app_under_test(app, storage=storage) as kit:
        first, second = await order.enqueue("first"), await order.enqueue("second")
        await kit.clock.advance("1d")
        await approval.wakeup("first", True)
        await kit.drain()
        assert await first.result(timeout=0) == "first: completed"
        await kit.clock.advance("23h")
        assert await second.status() == Status.WAITING_FOR_CHILDREN
        await kit.clock.advance("1h")
        assert await second.result(timeout=0) == "second: timed_out"


async def test_a_parent_ends_at_the_moment_of_its_last_child(
    app: Durable, storage: VirtualStorage, diary: Diary, note: Task[[str], str]
) -> None:
    def count(_: None, ends: list[ChildResult[str]]) -> int:
        diary.note("finalize")
        return len(ends)

    @app.parent(finalize=count)
    def family() -> Spawn[None]:
        return Spawn(None, [note.child("far", delay="2d"), note.child("near", delay="1d")])

    async with app_under_test(app, storage=storage) as kit:
        diary.begin(kit)
        handle = await family.enqueue(delay="1h")
        await kit.clock.advance("3d")
        assert await handle.result(timeout=0) == 2
    assert diary.entries == [("near", DAY + HOUR), ("far", 2 * DAY + HOUR), ("finalize", 2 * DAY + HOUR)]


async def test_a_tree_whose_root_is_cancelled_is_closed_by_a_drain(
    app: Durable, storage: VirtualStorage, diary: Diary, note: Task[[str], str]
) -> None:
    @app.parent()
    def family() -> Spawn[None]:
        return Spawn(None, [note.child("far", delay="2d")])

    async with app_under_test(app, storage=storage) as kit:
        handle = await family.enqueue()
        await kit.drain()
        await handle.cancel()
        await kit.clock.advance("3d")
        assert {call.status for call in kit.enqueued()} == {Status.CANCELLED}
    assert diary.entries == []


async def test_the_times_of_a_record_are_virtual_time(
    app: Durable, storage: VirtualStorage, diary: Diary, note: Task[[str], str]
) -> None:
    async with app_under_test(app, storage=storage) as kit:
        start = diary.begin(kit).clock.now()
        await kit.clock.advance("12h")
        handle = await note.enqueue("one", delay="1h")
        await kit.clock.advance("5h")
        record = await handle.execution()
        assert (record.created_at, record.due_at) == (start + 12 * HOUR, start + 13 * HOUR)
        assert record.started_at == record.finished_at == record.closed_at == start + 13 * HOUR
        assert await app.storage.now() == kit.clock.now() == start + 17 * HOUR


async def test_work_that_this_app_does_not_serve_does_not_hold_time_back(
    app: Durable, storage: VirtualStorage, diary: Diary, note: Task[[str], str]
) -> None:
    async with app_under_test(app, storage=storage, queues=["default"]) as kit:
        start = diary.begin(kit).clock.now()
        elsewhere = await note.enqueue("elsewhere", queue="other")
        await note.enqueue("here", delay="1h")
        assert await kit.clock.advance("2h") == start + 2 * HOUR
        assert await elsewhere.status() == Status.READY
    assert diary.entries == [("here", HOUR)]


async def test_the_queues_of_all_definitions_are_served(app: Durable, storage: VirtualStorage) -> None:
    @app.task(queue="mail")
    async def send() -> str:
        return "sent"

    async with app_under_test(app, storage=storage) as kit:
        handle = await send.enqueue()
        await kit.drain()
        assert await handle.result(timeout=0) == "sent"


async def test_advance_to_goes_to_a_moment_and_never_back(app: Durable, storage: VirtualStorage) -> None:
    start = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
    async with app_under_test(app, storage=storage, at=start) as kit:
        assert await app.storage.now() == start
        assert await kit.clock.advance_to(start + DAY) == start + DAY
        with pytest.raises(ConfigurationError, match="already"):
            await kit.clock.advance_to(start)
        with pytest.raises(ConfigurationError, match="no time zone"):
            await kit.clock.advance_to(datetime(2027, 1, 1))  # noqa: DTZ001 - the point of it
        with pytest.raises(ConfigurationError, match="duration is '3 days'"):
            await kit.clock.advance("3 days")
        with pytest.raises(ConfigurationError, match="duration is -1"):
            await kit.clock.advance(-1)
        assert kit.clock.now() == start + DAY


async def test_the_same_test_runs_alike_each_time(app: Durable, diary: Diary) -> None:
    @app.task(retry=Retry(max_attempts=5, delay=exponential("1h", max="1d")))
    async def flaky(ctx: TaskContext) -> None:
        diary.note(f"attempt {ctx.attempt}")
        raise ValueError("never")

    runs: list[list[tuple[str, timedelta]]] = []
    for seed in (1, 1, 2):
        async with app_under_test(app, seed=seed) as kit:
            diary.begin(kit)
            await flaky.enqueue()
            await kit.clock.advance("30d")
        runs.append(diary.entries.copy())
        diary.entries.clear()
    assert len(runs[0]) == 5
    assert runs[0] == runs[1] != runs[2]


async def test_a_thousand_moments_pass_one_by_one(
    app: Durable, storage: VirtualStorage, diary: Diary, note: Task[[str], str]
) -> None:
    count = 1_000 if storage.storage.is_shared is False else 50
    async with app_under_test(app, storage=storage) as kit:
        diary.begin(kit)
        await app.enqueue_calls([note.child(str(n), delay=n) for n in range(1, count + 1)])
        await kit.clock.advance("1d")
    assert diary.entries == [(str(n), timedelta(seconds=n)) for n in range(1, count + 1)]
