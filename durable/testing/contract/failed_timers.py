"""Contract of timers that failed for good: kept to be looked at, started never again, and in nobody's way."""

from __future__ import annotations

from typing import Any

import pytest

from durable.job import JobStatus
from durable.testing.contract.jobs_scene import JobCase
from durable.testing.contract.scene import ERROR
from durable.testing.contract.subject import ContractSubject
from durable.testing.contract.timers import JOB, OWNER, TimerScene
from durable.timer import StoredTimer, TimerFilter

__all__ = ["FailedTimerContract"]

AGE = 86_400.0


class FailedTimerContract(JobCase):
    @pytest.fixture
    def timers(self, subject: ContractSubject) -> TimerScene:
        return TimerScene(subject)

    @pytest.mark.parametrize("interval", [None, 5.0])
    async def test_a_timer_that_failed_for_good_is_kept_as_it_was_started(
        self, timers: TimerScene, interval: float | None
    ) -> None:
        failed = await self._failed(timers, interval=interval)
        assert (failed.is_failed, failed.error, failed.attempt) == (True, ERROR, 1)
        assert await timers.listed() == [failed]

    async def test_a_timer_that_failed_for_good_is_not_started_again(self, timers: TimerScene) -> None:
        await self._failed(timers)
        other = await timers.set(delay=60.0)
        await timers.assert_planned()
        await timers.subject.advance(60.0)
        assert await timers.fired() == other.id
        assert await timers.is_idle()

    async def test_one_that_waits_has_its_turn_next(self, timers: TimerScene) -> None:
        await timers.set()
        other = await timers.set(delay=60.0)
        turn, _ = await timers.started()
        await timers.fail_for_good(turn)
        await timers.assert_planned()
        await timers.subject.advance(60.0)
        assert await timers.fired() == other.id

    async def test_a_job_whose_timers_have_all_failed_is_ended(self, timers: TimerScene) -> None:
        failed = await self._failed(timers)
        job = await timers.job(JOB)
        assert (job.status, job.turn_id, job.scheduled_at) == (JobStatus.TERMINATED, None, None)
        again = await timers.set(delay=60.0)
        assert again.job_id == failed.job_id
        assert [timer.id for timer in await timers.listed()] == [failed.id, again.id]
        await timers.assert_planned()

    async def test_cancel_timers_deletes_one_that_failed_and_leaves_its_job(self, timers: TimerScene) -> None:
        failed = await self._failed(timers)
        before = await timers.job(JOB)
        assert await timers.storage.cancel_timers(TimerFilter(id=failed.id)) == 1
        assert await timers.listed() == []
        assert await timers.job(JOB) == before

    async def test_set_timer_replaces_one_of_its_name_that_failed(self, timers: TimerScene) -> None:
        await self._failed(timers, name="slot")
        again = await timers.set(name="slot", delay=5.0)
        assert await timers.listed() == [again]
        await timers.assert_planned()

    async def test_cancel_timers_of_an_owner_counts_those_that_failed(self, timers: TimerScene) -> None:
        await self._failed(timers)
        await timers.set(delay=5.0)
        assert await timers.storage.cancel_timers(TimerFilter(owner=OWNER)) == 2
        await timers.assert_planned()

    async def test_retire_deletes_those_that_failed_with_their_job(self, timers: TimerScene) -> None:
        await self._failed(timers)
        await timers.subject.advance(AGE)
        await timers.storage.retire(older_than=AGE, limit=99)
        assert (await timers.storage.get_jobs([JOB]), await timers.listed()) == ([None], [])

    async def _failed(self, timers: TimerScene, **fields: Any) -> StoredTimer:
        """A timer whose only start has failed for good."""
        timer = await timers.set(**fields)
        if timer.interval is not None:
            await timers.subject.advance(timer.interval)
        turn, _ = await timers.started()
        await timers.fail_for_good(turn)
        failed = await timers.timer(timer.id)
        assert failed is not None
        assert failed.due_at == timer.due_at
        return failed
