"""Debounce: when a batch opens, when it flushes and why, and what its reducer sees."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest

from durable import ConfigurationError, Durable
from durable.jobs import AddResult, ClearResult, DebounceContext, FlushResult, JobValidationError, ShownStatus
from durable.testing import VirtualStorage, app_under_test

from .stage import gathering, times

TEN = timedelta(seconds=10)
MICROSECOND = timedelta(microseconds=1)


async def test_deb_01_the_first_event_starts_the_window_and_later_ones_do_not_move_it(
    app: Durable, storage: VirtualStorage
) -> None:
    batcher, flushes = gathering(app)
    async with app_under_test(app, storage=storage) as kit:
        start = kit.clock.now()
        opened = AddResult("debounce:batcher:k", 1, start + TEN, created=True, duplicate=False)
        assert await batcher.add("k", 1) == opened
        await kit.clock.advance("8s")
        assert await batcher.add("k", 2) == AddResult("debounce:batcher:k", 2, start + TEN, created=False)
        status = await batcher.status("k")
        assert (status.status, status.event_count) == (ShownStatus.DEBOUNCING, 2)
        assert (status.started_at, status.will_flush_at, status.next_run_at) == (start, start + TEN, start + TEN)
        await kit.clock.advance(timedelta(seconds=2) - MICROSECOND)
        assert flushes == []
        await kit.clock.advance(MICROSECOND)
        assert times(flushes) == [([1, 2], "flush_after")]
        assert flushes[0].started_at == start
        idle = await batcher.status("k")
        assert (idle.status, idle.event_count, idle.will_flush_at) == (ShownStatus.IDLE, 0, None)


async def test_deb_01_the_next_batch_has_a_window_of_its_own(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = gathering(app)
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        await kit.clock.advance("1h")
        added = await batcher.add("k", 2)
        assert (added.created, added.event_count, added.will_flush_at) == (True, 1, kit.clock.now() + TEN)
        await kit.clock.advance("10s")
        assert [flush.state for flush in flushes] == [[1], [2]]
        assert flushes[0].batch_id != flushes[1].batch_id


async def test_deb_02_a_sliding_window_moves_with_each_event(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = gathering(app, window="last")
    async with app_under_test(app, storage=storage) as kit:
        for event in range(5):
            added = await batcher.add("k", event)
            assert added.will_flush_at == kit.clock.now() + TEN
            assert (await batcher.status("k")).event_count == event + 1
            await kit.clock.advance(TEN - MICROSECOND)
        assert flushes == []
        await kit.clock.advance(MICROSECOND)
        assert times(flushes) == [([0, 1, 2, 3, 4], "flush_after")]


async def test_deb_02_max_wait_ends_a_sliding_window(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = gathering(app, window="last", max_wait="25s")
    async with app_under_test(app, storage=storage) as kit:
        start = kit.clock.now()
        for event in range(3):
            await kit.clock.advance_to(start + event * timedelta(seconds=9))
            await batcher.add("k", event)
        added = await batcher.add("k", 3)
        assert added.will_flush_at == start + timedelta(seconds=25)
        await kit.clock.advance_to(start + timedelta(seconds=25) - MICROSECOND)
        assert flushes == []
        await kit.clock.advance(MICROSECOND)
        assert times(flushes) == [([0, 1, 2, 3], "flush_after")]


async def test_deb_02_the_status_shows_the_moment_that_a_sliding_window_has_moved_to(
    app: Durable, storage: VirtualStorage
) -> None:
    batcher, _ = gathering(app, window="last")
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        await kit.clock.advance("8s")
        added = await batcher.add("k", 2)
        status = await batcher.status("k")
        assert (added.will_flush_at, status.will_flush_at) == (kit.clock.now() + TEN, kit.clock.now() + TEN)


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "def"])
async def test_deb_03_without_a_reducer_the_state_is_the_latest_event(
    app: Durable, storage: VirtualStorage, is_async: bool
) -> None:
    seen: list[tuple[str, list[str], int]] = []

    def note(ctx: DebounceContext[str, str]) -> None:
        seen.append((ctx.state, list(ctx.events), ctx.event_count))

    async def note_async(ctx: DebounceContext[str, str]) -> None:
        note(ctx)

    latest = app.debounce(event=str, flush_after="10s", name="latest")(note_async if is_async else note)
    async with app_under_test(app, storage=storage) as kit:
        for event in ("a", "b", "c"):
            await latest.add("k", event)
        assert await latest.state("k") == "c"
        assert await latest.events("k") == ["a", "b", "c"]
        await kit.clock.advance("10s")
        assert seen == [("c", ["a", "b", "c"], 3)]
        assert await latest.state("k") is None
        assert await latest.events("k") == []


@dataclass
class Change:
    field: str
    by: int


@dataclass
class Totals:
    changes: int
    sums: dict[str, int]


async def test_deb_04_the_reducer_begins_each_batch_with_none(app: Durable, storage: VirtualStorage) -> None:
    began_with: list[Totals | None] = []
    flushed: list[Totals] = []

    def add_up(state: Totals | None, event: Change) -> Totals:
        began_with.append(state)
        before = state or Totals(0, {})
        sums = {**before.sums, event.field: before.sums.get(event.field, 0) + event.by}
        return Totals(before.changes + 1, sums)

    @app.debounce(event=Change, state=Totals, reducer=add_up, flush_after="10s")
    async def totals(ctx: DebounceContext[Totals, Change]) -> None:
        flushed.append(ctx.state)

    async with app_under_test(app, storage=storage) as kit:
        for field, by in [("a", 1), ("b", 2), ("a", 3)]:
            await totals.add("k", Change(field, by))
        await kit.clock.advance("10s")
        await totals.add("k", Change("a", 5))
        await kit.clock.advance("10s")
    assert flushed == [Totals(3, {"a": 4, "b": 2}), Totals(1, {"a": 5})]
    assert began_with == [None, Totals(1, {"a": 1}), Totals(2, {"a": 1, "b": 2}), None]


async def test_deb_04_a_declared_initial_state_begins_each_batch_as_it_was_declared(
    app: Durable, storage: VirtualStorage
) -> None:
    flushed: list[list[int]] = []

    def append(state: list[int] | None, event: int) -> list[int]:
        assert state is not None
        state.append(event)
        return state

    @app.debounce(event=int, state=list[int], reducer=append, initial_state=[0], flush_after="10s")
    async def gather(ctx: DebounceContext[list[int], int]) -> None:
        flushed.append(ctx.state)

    async with app_under_test(app, storage=storage) as kit:
        for event in (1, 2):
            await gather.add("k", event)
            assert await gather.state("k") == [0, event]
            await kit.clock.advance("10s")
    assert flushed == [[0, 1], [0, 2]]


async def test_deb_05_so_many_events_flush_at_once_and_together(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = gathering(app, max_events=3)
    async with app_under_test(app, storage=storage) as kit:
        start = kit.clock.now()
        for event in (1, 2):
            await batcher.add("k", event)
            await kit.drain()
        assert flushes == []
        assert await batcher.add("k", 3) == AddResult("debounce:batcher:k", 3, start, created=False)
        await kit.drain()
        assert times(flushes) == [([1, 2, 3], "max_events")]
        await kit.clock.advance("1h")
        assert len(flushes) == 1


async def test_deb_06_one_event_is_enough_for_a_flush_of_its_own(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = gathering(app, max_events=1)
    async with app_under_test(app, storage=storage) as kit:
        for event in range(5):
            await batcher.add("k", event)
        await kit.drain()
        assert times(flushes) == [([event], "max_events") for event in range(5)]


async def test_deb_07_the_reason_says_why_a_batch_was_flushed(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = gathering(app, max_events=3)
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        await kit.clock.advance("10s")
        await batcher.add("k", 2)
        await batcher.add("k", 3)
        flushed = await batcher.flush("k")
        assert flushed == FlushResult(
            "debounce:batcher:k", flushed=True, requested=True, event_count=2, reason="manual"
        )
        for event in (4, 5, 6):
            await batcher.add("k", event)
        await kit.drain()
        assert times(flushes) == [([1], "flush_after"), ([2, 3], "manual"), ([4, 5, 6], "max_events")]
        await kit.clock.advance("1h")
        assert len(flushes) == 3


async def test_deb_07_a_flush_of_nothing_calls_no_handler(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = gathering(app)
    nothing = FlushResult("debounce:batcher:k", flushed=False, requested=False, event_count=0, reason="empty")
    async with app_under_test(app, storage=storage) as kit:
        assert await batcher.flush("k") == nothing
        assert (await batcher.status("k")).status is ShownStatus.NOT_FOUND
        await batcher.add("k", 1)
        assert (await batcher.flush("k", wait=True)).flushed
        assert await batcher.flush("k") == nothing
        assert await batcher.flush("k", wait=False) == nothing
        await kit.clock.advance("1h")
        assert times(flushes) == [([1], "manual")]


async def test_deb_07_a_flush_that_is_not_waited_for_does_not_say_that_it_has_happened(
    app: Durable, storage: VirtualStorage
) -> None:
    batcher, flushes = gathering(app)
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        done = await batcher.flush("k", wait=False)
        assert (done.flushed, done.requested, done.event_count, done.reason) == (False, True, 1, "manual")
        await kit.drain()
        assert times(flushes) == [([1], "manual")]


async def test_deb_08_a_clear_throws_the_open_batch_away(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = gathering(app)
    async with app_under_test(app, storage=storage) as kit:
        assert await batcher.clear("k") == ClearResult("debounce:batcher:k", cleared=False, discarded_events=0)
        for event in (1, 2, 3):
            await batcher.add("k", event, event_id=str(event))
        cleared = await batcher.clear("k")
        assert cleared == ClearResult("debounce:batcher:k", cleared=True, discarded_events=3, in_flight=False)
        assert (await batcher.status("k")).status is ShownStatus.NOT_FOUND
        assert await batcher.events("k") == []
        await kit.clock.advance("1h")
        assert flushes == []

        assert (await batcher.add("k", 4, event_id="3")).created
        await kit.clock.advance("10s")
        assert times(flushes) == [([4], "flush_after")]


async def test_deb_19_an_event_that_does_not_fit_leaves_no_trace(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = gathering(app)
    async with app_under_test(app, storage=storage) as kit:
        with pytest.raises(JobValidationError, match=r"debounce:batcher:k.*event"):
            await batcher.add("k", "no number")  # type: ignore[arg-type]
        assert (await batcher.status("k")).status is ShownStatus.NOT_FOUND
        assert await app.jobs.count() == 0
        assert (await batcher.add("k", 1)).will_flush_at == kit.clock.now() + TEN
        with pytest.raises(JobValidationError):
            await batcher.add("k", None)  # type: ignore[arg-type]
        assert (await batcher.status("k")).event_count == 1
        await kit.clock.advance("10s")
        assert times(flushes) == [([1], "flush_after")]


async def test_deb_19_a_reducer_that_fails_fails_the_flush_and_not_the_add(
    app: Durable, storage: VirtualStorage
) -> None:
    def divide(state: float | None, event: int) -> float:
        return (1.0 if state is None else state) / event

    flushed: list[float] = []

    @app.debounce(event=int, state=float, reducer=divide, flush_after="10s", max_events=2)
    async def divided(ctx: DebounceContext[float, int]) -> None:
        flushed.append(ctx.state)

    async with app_under_test(app, storage=storage) as kit:
        await divided.add("k", 0)
        with pytest.raises(ZeroDivisionError):
            await divided.state("k")
        await kit.clock.advance("1h")
        error = (await divided.status("k")).last_error
        assert error is not None
        assert error.type == "ZeroDivisionError"
        await divided.add("k", 2)
        await kit.clock.advance("10s")
        assert flushed == [0.5]


async def test_deb_04_an_asynchronous_reducer_is_refused_at_its_declaration(app: Durable) -> None:
    async def reducer(state: list[int] | None, event: int) -> list[int]:
        return [event]

    with pytest.raises(ConfigurationError, match="reducer"):
        app.debounce(event=int, state=list[int], reducer=reducer, flush_after="10s")  # type: ignore[arg-type]
