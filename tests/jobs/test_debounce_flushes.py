"""Debounce: what happens to events, calls and failures around a flush that runs, is retried, or has failed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from durable import Durable, NonRetryable, Retry
from durable.jobs import ClearResult, Debounce, DebounceContext, JobExecutionError, ShownStatus
from durable.testing import VirtualStorage, app_under_test
from tests.flow.place import soon

from .stage import TWICE, Flush, Gate, appended, failing, flush_of, gathering, lose_lease, times

TEN = timedelta(seconds=10)


def gated(app: Durable, **options: Any) -> tuple[Debounce[list[int], int], list[Flush], Gate]:
    """A Debounce whose first flush stops at a gate."""
    flushes: list[Flush] = []
    gate = Gate()

    @app.debounce(event=int, state=list[int], reducer=appended, **{"flush_after": "10s", **options})
    async def batcher(ctx: DebounceContext[list[int], int]) -> None:
        flushes.append(flush_of(ctx))
        if len(flushes) == 1:
            await gate.hold()

    return batcher, flushes, gate


async def test_deb_09_an_event_during_a_flush_opens_the_next_batch(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes, gate = gated(app)
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        running = asyncio.ensure_future(kit.clock.advance("10s"))
        await gate.reached()
        added = await batcher.add("k", 2)
        assert (added.created, added.event_count, added.will_flush_at) == (True, 1, None)
        gate.open()
        now = await running
        status = await batcher.status("k")
        assert (status.event_count, status.will_flush_at) == (1, now + TEN)
        await kit.clock.advance("10s")
        assert times(flushes) == [([1], "flush_after"), ([2], "flush_after")]
        assert [flush.state for flush in flushes] == [[1], [2]]


async def test_deb_10_enough_events_during_a_flush_are_flushed_right_after_it(
    app: Durable, storage: VirtualStorage
) -> None:
    batcher, flushes, gate = gated(app, max_events=2)
    async with app_under_test(app, storage=storage) as kit:
        for event in (1, 2):
            await batcher.add("k", event)
        await gate.reached()
        for event in (3, 4):
            await batcher.add("k", event)
        assert times(flushes) == [([1, 2], "max_events")]
        gate.open()
        await kit.drain()
        assert times(flushes) == [([1, 2], "max_events"), ([3, 4], "max_events")]


async def test_deb_11_the_status_during_a_flush_is_that_of_the_open_batch(
    app: Durable, storage: VirtualStorage
) -> None:
    batcher, _, gate = gated(app, max_events=2)
    async with app_under_test(app, storage=storage) as kit:
        for event in (1, 2):
            await batcher.add("k", event)
        await gate.reached()
        status = await batcher.status("k")
        assert (status.event_count, status.started_at, status.is_turn_running) == (0, None, True)
        assert (status.attempt, status.next_run_at, status.last_error) == (1, None, None)
        await batcher.add("k", 3)
        status = await batcher.status("k")
        assert (status.status, status.event_count) == (ShownStatus.DEBOUNCING, 1)
        assert (status.started_at, status.will_flush_at) == (kit.clock.now(), None)
        gate.open()
        await kit.drain()
        assert (await batcher.status("k")).will_flush_at == kit.clock.now() + TEN


async def test_deb_16_a_retry_flushes_the_same_batch_for_the_same_reason(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = failing(app, 1, ValueError("no"), retry=TWICE, max_events=2)
    async with app_under_test(app, storage=storage) as kit:
        for event in (1, 2):
            await batcher.add("k", event)
        await kit.drain()
        retry_at = kit.clock.now() + timedelta(minutes=1)
        for event in (3, 4, 5):
            added = await batcher.add("k", event)
            assert added.will_flush_at is None
        await kit.drain()
        status = await batcher.status("k")
        assert (status.attempt, status.next_run_at, status.event_count) == (1, retry_at, 3)
        assert status.last_error is not None
        assert (status.last_error.type, status.last_error.message) == ("ValueError", "no")

        await kit.clock.advance(timedelta(minutes=1) - timedelta(microseconds=1))
        assert len(flushes) == 1
        await kit.clock.advance(timedelta(microseconds=1))
        # The window of the last event has ended during the backoff.
        ends = [([1, 2], "max_events"), ([1, 2], "max_events"), ([3, 4], "max_events"), ([5], "flush_after")]
        assert times(flushes) == ends
        assert [flush.attempt for flush in flushes] == [1, 2, 1, 1]
        assert flushes[0].batch_id == flushes[1].batch_id != flushes[2].batch_id
        assert (await batcher.status("k")).last_error is None


async def test_a_batch_that_waits_for_another_try_is_no_idle_job(app: Durable, storage: VirtualStorage) -> None:
    batcher, _ = failing(app, 1, ValueError("no"), retry=TWICE)
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        await kit.clock.advance("10s")
        status = await batcher.status("k")
        assert (status.status, status.event_count, status.attempt) == (ShownStatus.DEBOUNCING, 0, 1)
        assert [line.status for line in await app.jobs.list(status="debouncing")] == [ShownStatus.DEBOUNCING]
        await kit.clock.advance("1m")
        assert (await batcher.status("k")).status is ShownStatus.IDLE


async def test_a_flush_tells_what_it_flushed_and_not_what_came_meanwhile(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes, gate = gated(app, max_events=3)
    async with app_under_test(app, storage=storage) as kit:
        for event in (1, 2):
            await batcher.add("k", event)
        flushed = asyncio.ensure_future(batcher.flush("k"))
        await gate.reached()
        await batcher.add("k", 3)
        behind = await batcher.flush("k", wait=False)
        assert (behind.requested, behind.event_count) == (True, 1)
        gate.open()
        assert (await soon(flushed)).event_count == 2
        await kit.drain()
        assert [flush.events for flush in flushes] == [[1, 2], [3]]


async def test_a_flush_of_a_batch_between_attempts_tells_the_events_of_that(
    app: Durable, storage: VirtualStorage
) -> None:
    batcher, flushes = failing(app, 1, ValueError("no"), retry=TWICE)
    async with app_under_test(app, storage=storage) as kit:
        for event in (1, 2, 3):
            await batcher.add("k", event)
        await kit.clock.advance("10s")
        await batcher.add("k", 4)
        asked = await batcher.flush("k", wait=False)
        assert (asked.requested, asked.event_count) == (True, 3)
        await kit.drain()
        assert [flush.events for flush in flushes] == [[1, 2, 3], [1, 2, 3]]


async def test_deb_16_a_flush_by_hand_of_a_batch_between_attempts_is_its_next_attempt(
    app: Durable, storage: VirtualStorage
) -> None:
    batcher, flushes = failing(app, 2, ValueError("no"), retry=TWICE, max_events=2)
    async with app_under_test(app, storage=storage) as kit:
        for event in (1, 2):
            await batcher.add("k", event)
        await kit.drain()
        with pytest.raises(JobExecutionError):
            await batcher.flush("k")
        assert times(flushes) == [([1, 2], "max_events")] * 2
        assert [flush.attempt for flush in flushes] == [1, 2]
        assert (await batcher.status("k")).dead_letters == 2


async def test_a_look_at_a_window_that_has_moved_on_leaves_the_last_error(
    app: Durable, storage: VirtualStorage
) -> None:
    batcher, flushes = failing(app, 1, ValueError("no"), retry=Retry(1), window="last", max_wait="10m")
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        await kit.clock.advance("10s")
        error = (await batcher.status("k")).last_error
        assert error is not None
        await batcher.add("k", 2)
        await kit.clock.advance("5s")
        await batcher.add("k", 3)
        await kit.clock.advance("6s")
        assert len(flushes) == 1
        assert (await batcher.status("k")).last_error == error
        await kit.clock.advance("10s")
        assert (flushes[1].events, (await batcher.status("k")).last_error) == ([2, 3], None)


async def test_state_and_events_are_of_the_open_batch_while_a_flush_runs(app: Durable, storage: VirtualStorage) -> None:
    batcher, _, gate = gated(app)
    async with app_under_test(app, storage=storage) as kit:
        for event in (1, 2):
            await batcher.add("k", event)
        running = asyncio.ensure_future(kit.clock.advance("10s"))
        await gate.reached()
        status = await batcher.status("k")
        assert (status.event_count, status.in_flight_count) == (0, 2)
        assert (await batcher.events("k"), await batcher.state("k")) == ([], None)
        await batcher.add("k", 3)
        status = await batcher.status("k")
        assert (status.event_count, status.in_flight_count) == (1, 2)
        assert (await batcher.events("k"), await batcher.state("k")) == ([3], [3])
        gate.open()
        await running
        assert (await batcher.status("k")).in_flight_count == 0


async def test_deb_18_a_flush_that_fails_without_retry_holds_nothing_up(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = failing(app, 1, ValueError("no"), retry=Retry(max_attempts=1))
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        await kit.clock.advance("1h")
        assert times(flushes) == [([1], "flush_after")]
        assert (await batcher.add("k", 2)).will_flush_at == kit.clock.now() + TEN
        await kit.clock.advance("10s")
        assert times(flushes)[1:] == [([2], "flush_after")]
        assert (await batcher.redrive("k")).redriven
        await kit.drain()
        assert times(flushes)[2:] == [([1], "manual")]


async def test_deb_18_a_flush_is_tried_five_times_unless_told_otherwise(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = failing(app, 4, ValueError("no"))
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        await kit.clock.advance("1h")
    assert [flush.attempt for flush in flushes] == [1, 2, 3, 4, 5]
    assert {flush.batch_id for flush in flushes} == {flushes[0].batch_id}


async def test_deb_21_a_crash_before_the_commit_flushes_the_same_batch_again(
    app: Durable, storage: VirtualStorage
) -> None:
    flushes: list[Flush] = []

    @app.debounce(event=int, state=list[int], reducer=appended, flush_after="10s")
    async def batcher(ctx: DebounceContext[list[int], int]) -> None:
        flushes.append(flush_of(ctx))
        if len(flushes) == 1:
            await lose_lease(kit, storage)

    async with app_under_test(app, storage=storage) as kit:
        for event in (1, 2):
            await batcher.add("k", event)
        await kit.clock.advance("10s")
        assert times(flushes) == [([1, 2], "flush_after")] * 2
        assert flushes[0].batch_id == flushes[1].batch_id
        assert kit.executor.refused_count == 1
        assert await batcher.events("k") == []
        await kit.clock.advance("1d")
        assert len(flushes) == 2


async def test_deb_22_a_flush_that_races_the_timer_gives_one(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes, gate = gated(app)
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        running = asyncio.ensure_future(kit.clock.advance("10s"))
        await gate.reached()
        late = await batcher.flush("k")
        assert (late.flushed, late.requested, late.event_count, late.reason) == (False, False, 0, "empty")
        gate.open()
        await running
        await kit.clock.advance("1h")
        assert times(flushes) == [([1], "flush_after")]


async def test_deb_22_many_flushes_at_once_give_one(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = gathering(app)
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        done = await asyncio.gather(*(batcher.flush("k") for _ in range(10)))
        assert any(flush.flushed for flush in done)
        assert {(flush.flushed, flush.reason) for flush in done} <= {(True, "manual"), (False, "empty")}
        await kit.clock.advance("1h")
        assert times(flushes) == [([1], "manual")]


async def test_deb_22_a_flush_asked_for_during_a_flush_takes_what_came_meanwhile(
    app: Durable, storage: VirtualStorage
) -> None:
    batcher, flushes, gate = gated(app)
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        first = asyncio.ensure_future(batcher.flush("k"))
        await gate.reached()
        await batcher.add("k", 2)
        second = await batcher.flush("k", wait=False)
        assert (second.requested, second.event_count) == (True, 1)
        gate.open()
        assert (await soon(first)).flushed
        await kit.drain()
        assert times(flushes) == [([1], "manual"), ([2], "manual")]


async def test_deb_23_a_clear_during_a_flush_leaves_the_flush_and_says_so(
    app: Durable, storage: VirtualStorage
) -> None:
    batcher, flushes, gate = gated(app)
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        flushed = asyncio.ensure_future(batcher.flush("k"))
        await gate.reached()
        for event in (2, 3):
            await batcher.add("k", event)
        cleared = await batcher.clear("k")
        assert cleared == ClearResult("debounce:batcher:k", cleared=True, discarded_events=2, in_flight=True)
        gate.open()
        assert (await soon(flushed)).flushed
        await kit.clock.advance("1h")
        assert times(flushes) == [([1], "manual")]
        status = await batcher.status("k")
        assert (status.event_count, status.last_error) == (0, None)


async def test_deb_08_a_clear_remembers_the_ids_of_flushed_events(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes, gate = gated(app, dedupe_window="1h")
    gate.open()
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1, event_id="a")
        assert (await batcher.flush("k")).flushed
        await batcher.clear("k")
        assert (await batcher.add("k", 1, event_id="a")).duplicate
        await kit.drain()
        assert [flush.events for flush in flushes] == [[1]]
        await kit.clock.advance("1h")
        assert not (await batcher.add("k", 1, event_id="a")).duplicate


async def test_deb_24_a_flush_that_fails_is_not_called_flushed(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = failing(app, 1, NonRetryable("broken"))
    async with app_under_test(app, storage=storage):
        await batcher.add("k", 1)
        with pytest.raises(JobExecutionError, match=r"debounce:batcher:k.*broken") as caught:
            await batcher.flush("k")
        assert caught.value.instance_id == "debounce:batcher:k"
        assert caught.value.error is not None
        assert (caught.value.error.type, caught.value.execution_id) == ("NonRetryable", flushes[0].batch_id)
        await batcher.add("k", 2)
        assert (await batcher.flush("k")).flushed


async def test_deb_24_a_flush_is_waited_for_through_its_retries(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes, gate = gated(app, retry=TWICE)
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        waiting = asyncio.ensure_future(batcher.flush("k"))
        await gate.reached()
        gate.fail(ValueError("no"))
        await kit.drain()
        assert not waiting.done()
        await kit.clock.advance("1m")
        assert (await soon(waiting)).flushed
        assert times(flushes) == [([1], "manual")] * 2


async def test_deb_24_an_add_that_waits_ends_with_the_flush(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = failing(app, 1, NonRetryable("broken"), max_events=2)
    async with app_under_test(app, storage=storage):
        first = asyncio.ensure_future(batcher.add("k", 1, wait=True))
        with pytest.raises(JobExecutionError, match="broken"):
            await soon(batcher.add("k", 2, wait=True))
        with pytest.raises(JobExecutionError, match="broken"):
            await soon(first)
        both = asyncio.gather(batcher.add("k", 3, wait=True), batcher.add("k", 4, wait=True))
        assert sorted(added.event_count for added in await soon(both)) == [1, 2]
        assert [sorted(flush.events) for flush in flushes] == [[1, 2], [3, 4]]


async def test_deb_25_events_are_flushed_in_the_order_of_their_acceptance(
    app: Durable, storage: VirtualStorage
) -> None:
    batcher, flushes = gathering(app, max_events=4)
    async with app_under_test(app, storage=storage) as kit:
        for event in (5, 3, 9, 1, 7, 2):
            await batcher.add("k", event)
        await kit.clock.advance("1h")
        assert times(flushes) == [([5, 3, 9, 1], "max_events"), ([7, 2], "flush_after")]
        assert [flush.state for flush in flushes] == [[5, 3, 9, 1], [7, 2]]
