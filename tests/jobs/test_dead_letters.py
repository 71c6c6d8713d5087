"""Dead letters of a Debounce: batches that failed for good are kept apart, found, and flushed again as they were."""

from __future__ import annotations

from datetime import timedelta

import pytest

from durable import ConfigurationError, Durable, NonRetryable
from durable.jobs import ClearResult, JobExecutionError, ShownStatus
from durable.testing import VirtualStorage, app_under_test

from .stage import TWICE, failing, times

TEN = timedelta(seconds=10)


async def test_deb_17_an_exhausted_batch_is_kept_apart_and_can_be_redriven(
    app: Durable, storage: VirtualStorage
) -> None:
    batcher, flushes = failing(app, 2, ValueError("no"), retry=TWICE)
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        await kit.clock.advance("70s")
        assert [flush.attempt for flush in flushes] == [1, 2]
        status = await batcher.status("k")
        assert (status.status, status.event_count, status.attempt, status.next_run_at) == (ShownStatus.IDLE, 0, 0, None)
        assert status.dead_letters == 1
        assert [(line.status, line.dead_letters) for line in await app.jobs.list()] == [(ShownStatus.IDLE, 1)]
        assert status.last_error is not None
        assert (await batcher.flush("k")).requested is False

        added = await batcher.add("k", 2)
        assert (added.created, added.event_count, added.will_flush_at) == (True, 1, kit.clock.now() + TEN)
        await kit.clock.advance("10s")
        assert flushes[2].events == [2]

        assert (await batcher.redrive("k")).redriven
        await kit.drain()
        assert (flushes[3].events, flushes[3].attempt) == ([1], 1)
        assert (await batcher.status("k")).dead_letters == 0
        assert (await batcher.redrive("k")).redriven is False
        await kit.clock.advance("1h")
        assert len(flushes) == 4


async def test_deb_17_what_is_redriven_comes_before_what_is_open(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = failing(app, 1, NonRetryable("no"), retry=TWICE)
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        await kit.clock.advance("10s")
        await batcher.add("k", 2)
        await batcher.redrive("k")
        await kit.drain()
        assert [flush.events for flush in flushes] == [[1], [1]]
        await kit.clock.advance("10s")
        assert times(flushes)[1:] == [([1], "manual"), ([2], "flush_after")]


async def test_deb_17_each_batch_is_redriven_under_its_own_id(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = failing(app, 3, NonRetryable("no"), max_events=2)
    async with app_under_test(app, storage=storage) as kit:
        for event in range(5):
            await batcher.add("k", event)
        await kit.clock.advance("10s")
        assert (await batcher.status("k")).dead_letters == 5
        await batcher.redrive("k")
        await kit.drain()
        failed, redriven = flushes[:3], flushes[3:]
        assert [flush.events for flush in redriven] == [[0, 1], [2, 3], [4]]
        assert [flush.batch_id for flush in redriven] == [flush.batch_id for flush in failed]
        assert {flush.reason for flush in redriven} == {"manual"}
        assert (await batcher.status("k")).status is ShownStatus.IDLE


async def test_dead_letters_are_listed_and_counted(app: Durable, storage: VirtualStorage) -> None:
    batcher, _ = failing(app, 1, NonRetryable("no"))
    async with app_under_test(app, storage=storage) as kit:
        for key in ("bad", "good"):
            await batcher.add(key, 1)
            await kit.clock.advance("10s")
        (line,) = await app.jobs.list(dead_letters=True)
        assert (line.key, line.status, line.dead_letters) == ("bad", ShownStatus.IDLE, 1)
        assert [line.key for line in await app.jobs.list(dead_letters=False)] == ["good"]
        assert await app.jobs.count(dead_letters=True, kind="debounce", status="idle") == 1
        assert await app.jobs.count(dead_letters=True, kind="task") == 0
        with pytest.raises(ConfigurationError, match="dead_letters must be True, False or None"):
            await app.jobs.list(dead_letters=1)  # type: ignore[arg-type]
        await batcher.redrive("bad")
        assert await app.jobs.count(dead_letters=True) == 0


async def test_deb_17_on_exhausted_purge_throws_the_batch_away(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = failing(app, 2, ValueError("no"), retry=TWICE, on_exhausted="purge")
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        await kit.clock.advance("1h")
        assert len(flushes) == 2
        assert (await batcher.redrive("k")).redriven is False
        assert (await batcher.add("k", 2)).will_flush_at == kit.clock.now() + TEN


async def test_deb_08_a_clear_leaves_dead_letters_to_be_redriven(app: Durable, storage: VirtualStorage) -> None:
    batcher, flushes = failing(app, 1, NonRetryable("broken"))
    async with app_under_test(app, storage=storage) as kit:
        await batcher.add("k", 1)
        with pytest.raises(JobExecutionError, match="broken"):
            await batcher.flush("k")
        await batcher.add("k", 2)
        assert await batcher.clear("k") == ClearResult("debounce:batcher:k", cleared=True, discarded_events=1)
        status = await batcher.status("k")
        assert (status.status, status.event_count, status.dead_letters) == (ShownStatus.IDLE, 0, 1)
        await kit.clock.advance("1h")
        assert (await batcher.redrive("k")).redriven
        await kit.drain()
        assert [flush.events for flush in flushes] == [[1], [1]]
        assert (await batcher.status("k")).dead_letters == 0
