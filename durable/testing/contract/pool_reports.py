"""Contract of the reports of pools: what is counted, over which time, and that each minute is given once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import pytest

from durable.execution import Kind
from durable.notice import NewNotice
from durable.pool_rows import LONGEST_WINDOW, DueReport, PoolTally
from durable.storage import Duties
from durable.testing.contract.pool_scene import POOL, PoolScene, pool
from durable.testing.contract.scene import ERROR, LEASE, LIMIT, TASK, Case, Scene
from durable.transitions import complete, fail, release, repeat

__all__ = ["PoolReportsContract"]

HOUR: Final = 3600.0
MINUTE: Final = 60.0
SUBSCRIBER: Final = "watcher"


class Watcher:
    """Takes the reports that are due, and stores one notice for each."""

    def __init__(self, scene: Scene) -> None:
        self._make = scene.make
        self.reports: list[DueReport] = []

    def __call__(self, reports: Sequence[DueReport]) -> list[NewNotice]:
        self.reports += reports
        return [
            NewNotice(SUBSCRIBER, self._make.id(), "pool.report", each.pool, "pool", each.pool, None, "{}", None, None)
            for each in reports
        ]


class PoolReportsContract(Case):
    @pytest.fixture
    async def opened(self, scene: Scene) -> PoolScene:
        found = PoolScene(scene)
        await found.open()
        return found

    async def tally(self, opened: PoolScene, *, over: float = HOUR, **expected: Any) -> None:
        """The one tally there is has these numbers, and no others."""
        found = await opened.storage.pool_tallies([POOL], over=over)
        assert found == ([PoolTally(POOL, TASK, **expected)] if expected else [])

    # --- what is counted -------------------------------------------------------------------------------------

    async def test_pool_28_a_pool_in_which_nothing_was_has_no_tally(self, opened: PoolScene) -> None:
        await self.tally(opened)
        assert await opened.storage.pool_tallies(["unknown"], over=HOUR) == []
        assert await opened.storage.pool_tallies([], over=HOUR) == []

    async def test_pool_28_the_backlog_is_what_is_due_and_nothing_of_the_future(
        self, opened: PoolScene, scene: Scene
    ) -> None:
        await opened.enqueue(2)
        await opened.enqueue(3, serial_key="a")
        await opened.enqueue(4, delay=10.0)
        await opened.enqueue(5, delay=10.0, serial_key="b")
        await scene.enqueue_all(6, queue=POOL)
        await self.tally(opened, backlog=5, scheduled=9)
        await scene.subject.advance(10.0)
        await self.tally(opened, backlog=14)

    async def test_pool_28_what_runs_is_no_backlog_and_its_start_counts(self, opened: PoolScene, scene: Scene) -> None:
        await opened.enqueue(3)
        await scene.subject.advance(2.0)
        await opened.turns(1)
        await scene.subject.advance(3.0)
        await opened.turns(1)
        await self.tally(opened, backlog=1, running=2, starts=2, start_lag=7.0, longest_start_lag=5.0)

    async def test_pool_28_each_end_is_counted_by_what_it_is(self, opened: PoolScene, scene: Scene) -> None:
        await opened.enqueue(5, max_attempts=2)
        await scene.subject.advance(1.0)
        done, failed, timed, again, gone = await opened.turns()
        await opened.storage.settle([
            complete(done, "1"), fail(failed, ERROR, retry_delay=None),
            fail(timed, ERROR, retry_delay=None, timed_out=True), fail(again, ERROR, retry_delay=9.0),
        ])  # fmt: skip
        await opened.storage.cancel([gone.id], reason="test")
        await self.tally(
            opened, scheduled=1, completed=1, failed=2, cancelled=1, attempts=4, failures=3, retries=1, starts=5,
            start_lag=5.0, longest_start_lag=1.0,
        )  # fmt: skip

    async def test_pool_28_a_retry_has_an_attempt_of_its_own_and_no_first_start(
        self, opened: PoolScene, scene: Scene
    ) -> None:
        await opened.enqueue(max_attempts=2)
        await opened.storage.settle([fail((await opened.turns())[0], ERROR, retry_delay=0.0)])
        await scene.subject.advance(5.0)
        await opened.run()
        await self.tally(opened, completed=1, attempts=2, failures=1, retries=1, starts=1)

    async def test_pool_28_each_turn_of_a_loop_is_an_attempt(self, opened: PoolScene) -> None:
        await opened.enqueue(kind=Kind.LOOP)
        await opened.storage.settle([repeat((await opened.turns())[0], 0.0, None)])
        await opened.run()
        await self.tally(opened, completed=1, attempts=2, starts=1)

    async def test_pool_28_what_is_given_back_has_not_ended(self, opened: PoolScene, scene: Scene) -> None:
        await opened.enqueue(2)
        released, _ = await opened.turns()
        await opened.storage.settle([release(released)])
        await scene.subject.advance(LEASE)
        await opened.storage.recover(limit=9)
        await self.tally(opened, backlog=2)

    async def test_pool_28_what_keeps_killing_its_executor_has_failed(self, opened: PoolScene, scene: Scene) -> None:
        await opened.enqueue(max_deliveries=1)
        await opened.turns()
        await scene.subject.advance(LEASE)
        await opened.storage.recover(limit=9)
        await self.tally(opened, failed=1, attempts=1, failures=1, starts=1)

    async def test_pool_28_what_is_cancelled_before_it_started_has_no_attempt(self, opened: PoolScene) -> None:
        await opened.storage.cancel(await opened.enqueue(2), reason="test")
        await self.tally(opened, cancelled=2)

    async def test_pool_28_one_that_fails_after_a_cancel_counts_its_failure_and_its_end(
        self, opened: PoolScene
    ) -> None:
        await opened.enqueue(max_attempts=3)
        (turn,) = await opened.turns()
        await opened.storage.cancel([turn.id], reason="test", may_finish=True)
        await opened.storage.settle([fail(turn, ERROR, retry_delay=1.0)])
        await self.tally(opened, cancelled=1, attempts=1, failures=1, retries=1, starts=1)

    async def test_pool_28_a_refused_end_is_not_counted(self, opened: PoolScene, scene: Scene) -> None:
        await opened.enqueue()
        (late,) = await opened.turns()
        await scene.subject.advance(LEASE)
        await opened.storage.recover(limit=9)
        await opened.storage.settle([complete(late, "1")])
        await self.tally(opened, backlog=1)

    async def test_pool_tallies_are_apart_by_pool_and_task(self, opened: PoolScene) -> None:
        await opened.storage.ensure_pools([pool(name="other")])
        await opened.enqueue(1)
        await opened.enqueue(2, task_name="b")
        await opened.enqueue(3, queue="other")
        expected = [
            PoolTally(POOL, "b", backlog=2), PoolTally(POOL, TASK, backlog=1), PoolTally("other", TASK, backlog=3),
        ]  # fmt: skip
        assert await opened.storage.pool_tallies(over=HOUR) == expected
        assert await opened.storage.pool_tallies(["other"], over=HOUR) == expected[2:]

    # --- over which time -------------------------------------------------------------------------------------

    async def test_pool_28_what_ended_before_the_window_is_not_in_it(self, opened: PoolScene, scene: Scene) -> None:
        await opened.enqueue(2)
        await opened.run(1)
        await scene.subject.advance(HOUR / 2)
        await self.tally(opened, backlog=1, completed=1, attempts=1, starts=1)
        await scene.subject.advance(HOUR / 2)
        await self.tally(opened, backlog=1)
        await self.tally(opened, over=2 * HOUR, backlog=1, completed=1, attempts=1, starts=1)

    async def test_report_pools_leaves_what_a_report_shows(self, opened: PoolScene, scene: Scene) -> None:
        for _ in range(3):
            await opened.enqueue()
            await opened.run()
            await scene.subject.advance(MINUTE)
            assert await opened.storage.report_pools([POOL]) == [POOL]
        await self.tally(opened, completed=3, attempts=3, starts=3)
        await scene.subject.advance(HOUR - 2.5 * MINUTE)
        await self.tally(opened, completed=2, attempts=2, starts=2)

    async def test_report_pools_forgets_what_no_report_can_ask_for(self, opened: PoolScene, scene: Scene) -> None:
        await opened.enqueue()
        await opened.run()
        for seconds in (MINUTE, LONGEST_WINDOW):
            await scene.subject.advance(seconds)
            await opened.storage.report_pools([POOL])
        assert await opened.storage.pool_tallies([POOL], over=10 * LONGEST_WINDOW) == []

    # --- each minute once ------------------------------------------------------------------------------------

    async def test_report_pools_gives_a_pool_once_in_a_minute_of_the_clock(
        self, opened: PoolScene, scene: Scene
    ) -> None:
        assert await opened.storage.report_pools([POOL]) == []
        for seconds in (MINUTE, 90.0, 2 * HOUR):
            await scene.subject.advance(seconds)
            assert await opened.storage.report_pools([POOL, POOL]) == [POOL]
            assert await opened.storage.report_pools([POOL]) == []

    async def test_report_pools_gives_the_named_pools_alone(self, opened: PoolScene, scene: Scene) -> None:
        await opened.storage.ensure_pools([pool(name="other")])
        await scene.subject.advance(MINUTE)
        assert await opened.storage.report_pools([POOL, "unknown"]) == [POOL]
        assert await opened.storage.report_pools([POOL, "other"]) == ["other"]

    async def test_report_pools_asked_by_many_at_once_gives_each_pool_to_one(
        self, opened: PoolScene, scene: Scene
    ) -> None:
        await opened.storage.ensure_pools([pool(name="other")])
        await opened.enqueue(5)
        await opened.run()
        await scene.subject.advance(MINUTE)
        watcher = Watcher(scene)
        async with asyncio.timeout(LIMIT):
            found = await asyncio.gather(
                *(handle.report_pools([POOL, "other"], note=watcher) for handle in [*scene.subject.handles] * 3)
            )
        assert sorted(name for names in found for name in names) == [POOL, "other"]
        assert await opened.storage.undelivered() == {SUBSCRIBER: 2}
        assert sum(tally.completed for report in watcher.reports for tally in report.tallies) == 5

    async def test_report_pools_notes_what_ended_since_the_report_before_and_what_stands(
        self, opened: PoolScene, scene: Scene
    ) -> None:
        watcher = Watcher(scene)
        await opened.enqueue(4)
        await opened.run(1)
        await opened.turns(1)
        await scene.subject.advance(MINUTE)
        await opened.storage.report_pools([POOL], note=watcher)
        await scene.subject.advance(2 * MINUTE)
        await opened.run(1)
        await opened.storage.report_pools([POOL], note=watcher)
        first = PoolTally(POOL, TASK, backlog=2, running=1, completed=1, attempts=1, starts=1)
        second = PoolTally(
            POOL, TASK, backlog=1, running=1, completed=1, attempts=1, starts=1, start_lag=3 * MINUTE,
            longest_start_lag=3 * MINUTE,
        )  # fmt: skip
        assert watcher.reports == [DueReport(POOL, MINUTE, (first,)), DueReport(POOL, 2 * MINUTE, (second,))]

    async def test_report_pools_that_fails_leaves_the_minute_for_the_next(
        self, opened: PoolScene, scene: Scene
    ) -> None:
        await opened.enqueue()
        await opened.run()
        await scene.subject.advance(MINUTE)

        def fails(_: Sequence[DueReport]) -> list[NewNotice]:
            raise RuntimeError("no")

        with pytest.raises(RuntimeError):
            await opened.storage.report_pools([POOL], note=fails)
        watcher = Watcher(scene)
        assert await opened.storage.report_pools([POOL], note=watcher) == [POOL]
        assert [tally.completed for tally in watcher.reports[0].tallies] == [1]

    async def test_duties_name_a_pool_whose_minute_is_over(self, opened: PoolScene, scene: Scene) -> None:
        none = Duties(*[False] * len(Duties._fields))
        assert await opened.storage.duties() == none
        await scene.subject.advance(MINUTE)
        assert await opened.storage.duties() == none._replace(report_pools=True)
        await opened.storage.report_pools([POOL])
        assert await opened.storage.duties() == none
