"""Contract of timers with a job of their own, of calls that are repeated, and of jobs of timers that end."""

from __future__ import annotations

from datetime import timedelta

import pytest

from durable.execution import Status
from durable.job import JobKey, JobKind, JobStatus
from durable.testing.contract.jobs_scene import TURN, JobCase, JobTurn
from durable.testing.contract.scene import ERROR
from durable.testing.contract.subject import ContractSubject
from durable.testing.contract.timers import JOB, OWNER, TimerScene
from durable.testing.contract.together import together
from durable.timer import PARALLEL, REMEMBERED, NewTimer, StoredTimer, TimerEnd, TimerFilter, TimerSet

__all__ = ["ParallelTimerContract"]


class ParallelTimerContract(JobCase):
    @pytest.fixture
    def timers(self, subject: ContractSubject) -> TimerScene:
        return TimerScene(subject)

    # --- beside the others -----------------------------------------------------------------------------------

    async def test_timers_that_are_not_sequential_have_a_turn_each(self, timers: TimerScene) -> None:
        in_turn = [await timers.set() for _ in range(2)]
        beside = [await timers.set(is_sequential=False) for _ in range(3)]
        claimed = await timers.claim(TURN)
        taken = [await timers.take(turn) for turn in claimed]
        started = {turn.timer.id for turn in taken if turn.timer is not None}
        assert started == {in_turn[0].id, *(timer.id for timer in beside)}
        assert [timer.is_sequential for timer in await timers.listed()] == [True, True, False, False, False]

    async def test_the_retry_of_one_holds_up_no_other_one(self, timers: TimerScene) -> None:
        failing = await timers.set(is_sequential=False)
        turn, _ = await timers.started()
        await timers.fail(turn, 60.0)
        other = await timers.set(is_sequential=False, delay=1.0)
        await timers.subject.advance(1.0)
        assert await timers.fired() == other.id
        await timers.subject.advance(59.0)
        turn, again = await timers.started()
        assert (again.id, again.attempt, again.error) == (failing.id, 2, ERROR)

    async def test_a_start_that_a_crash_cut_short_is_repeated_alone(self, timers: TimerScene) -> None:
        ids = {(await timers.set(is_sequential=False)).id for _ in range(2)}
        first, second = [JobTurn(turn, await timers.take(turn)) for turn in await timers.claim(TURN)]
        await timers.succeed(second)
        await timers.gone(first.claimed)
        again, timer = await timers.started()
        assert (again.id, timer.attempt) == (first.id, 2)
        await timers.succeed(again)
        assert {timer.id, second.taken.timer and second.taken.timer.id} == ids
        assert await timers.listed() == []

    async def test_a_recurring_one_keeps_its_job(self, timers: TimerScene) -> None:
        timer = await timers.set(is_sequential=False, interval=5.0)
        for _ in range(3):
            assert await timers.fired() == timer.id
            await timers.subject.advance(5.0)
        assert (await timers.view(_job_of(timer))).turn_status is Status.READY
        assert await timers.storage.cancel_timers(TimerFilter(id=timer.id)) == 1
        assert await timers.is_idle()

    async def test_a_slot_is_one_for_both_ways(self, timers: TimerScene) -> None:
        first = await timers.set(name="slot", delay=5.0)
        second = await timers.set(name="slot", delay=5.0, is_sequential=False)
        assert await timers.listed() == [second]
        await timers.assert_ended(JOB)
        third = await timers.set(name="slot", delay=5.0)
        assert await timers.listed() == [third]
        await timers.assert_ended(_job_of(second))
        assert (third.job_id, await timers.timer(first.id)) == (first.job_id, None)
        await timers.assert_planned()

    async def test_cancel_and_list_by_owner_mean_both_ways(self, timers: TimerScene) -> None:
        other = await timers.set("other", is_sequential=False)
        late = await timers.set(delay=2.0, is_sequential=False)
        early = await timers.set(delay=1.0)
        named = await timers.set(delay=3.0, name="slot", is_sequential=False)
        assert await timers.listed() == [early, late, named]
        assert await timers.storage.cancel_timers(TimerFilter(owner=OWNER, name="slot")) == 1
        assert await timers.storage.cancel_timers(TimerFilter(owner=OWNER)) == 2
        assert await timers.listed("other") == [other]
        for key in (JOB, _job_of(late), _job_of(named)):
            await timers.assert_ended(key)

    # --- jobs that end ---------------------------------------------------------------------------------------

    @pytest.mark.parametrize("is_sequential", [True, False])
    async def test_a_job_without_timers_is_over_and_retired(self, timers: TimerScene, is_sequential: bool) -> None:
        timer = await timers.set(is_sequential=is_sequential)
        await timers.fired()
        await timers.assert_ended(_job_of(timer))
        await timers.subject.advance(10.0)
        assert (await timers.storage.retire(older_than=5.0, limit=10)).deleted_jobs == 1
        assert await timers.storage.get_jobs([_job_of(timer)]) == [None]

    @pytest.mark.parametrize("is_sequential", [True, False])
    async def test_a_job_whose_timer_was_cancelled_while_it_ran_ends_with_its_turn(
        self, timers: TimerScene, is_sequential: bool
    ) -> None:
        timer = await timers.set(interval=1.0, is_sequential=is_sequential)
        turn, _ = await timers.started()
        assert await timers.storage.cancel_timers(TimerFilter(owner=OWNER)) == 1
        assert (await timers.job(_job_of(timer))).status is JobStatus.ACTIVE
        await timers.succeed(turn)
        await timers.assert_ended(_job_of(timer))

    async def test_end_job_deletes_the_timers_of_the_job(self, timers: TimerScene) -> None:
        await timers.set(name="slot")
        await timers.set(delay=5.0)
        turn, timer = await timers.started()
        assert await timers.storage.end_job(JOB, reason=None) is not None
        assert await timers.listed() == []
        settled = await timers.storage.settle([timers.end(turn, timer=TimerEnd(timer.id, None, 0.0, 0))])
        assert settled.accepted == frozenset()
        new = await timers.set(name="slot")
        assert await timers.listed() == [new]
        assert await timers.fired() == new.id

    async def test_an_end_of_its_job_in_a_turn_deletes_the_timers(self, timers: TimerScene) -> None:
        await timers.set()
        await timers.set(delay=5.0)
        turn, _ = await timers.started()
        await timers.commit(turn, status=JobStatus.TERMINATED)
        assert await timers.listed() == []
        await timers.assert_ended(JOB)

    # --- calls that are repeated -----------------------------------------------------------------------------

    @pytest.mark.parametrize("is_sequential", [True, False])
    async def test_a_call_repeated_after_its_timer_has_fired_changes_nothing(
        self, timers: TimerScene, is_sequential: bool
    ) -> None:
        new = timers.make.timer(is_sequential=is_sequential)
        first = await _set(timers, new)
        assert await timers.fired() == new.id
        key = _job_of(first.timer)
        before = await timers.snapshot(key)
        assert await _set(timers, new) == first._replace(ready_queue=None)
        assert await timers.listed() == []
        assert await timers.is_idle()
        assert await timers.snapshot(key) == before

    @pytest.mark.parametrize("is_sequential", [True, False])
    async def test_a_call_repeated_after_its_timer_was_cancelled_or_replaced_changes_nothing(
        self, timers: TimerScene, is_sequential: bool
    ) -> None:
        cancelled = timers.make.timer(is_sequential=is_sequential)
        replaced = timers.make.timer(is_sequential=is_sequential, name="slot", delay=5.0)
        for new in (cancelled, replaced):
            await _set(timers, new)
        await timers.storage.cancel_timers(TimerFilter(id=cancelled.id))
        kept = await timers.set(name="slot", delay=5.0, is_sequential=is_sequential)
        for new in (cancelled, replaced):
            await _set(timers, new)
        assert await timers.listed() == [kept]

    async def test_ids_that_were_remembered_long_enough_are_forgotten(self, timers: TimerScene) -> None:
        keeps = await timers.set(delay=2 * REMEMBERED)
        new = timers.make.timer()
        await _set(timers, new)
        await timers.fired()
        await timers.subject.advance(REMEMBERED)
        assert await timers.storage.forget_events(limit=9) == 2
        await _set(timers, new)
        assert [timer.id for timer in await timers.listed()] == [new.id, keeps.id]

    # --- races -----------------------------------------------------------------------------------------------

    async def test_setters_of_one_slot_leave_one_timer_and_one_turn(self, timers: TimerScene) -> None:
        for _ in range(5):
            handles = timers.subject.handles
            news = [timers.make.timer(name="slot", is_sequential=place % 2 == 0, delay=9.0) for place in range(8)]
            turns = [timers.make.new_turn() for _ in news]
            sets = [
                handles[place % len(handles)].set_timer(new, turn=turn)
                for place, (new, turn) in enumerate(zip(news, turns, strict=True))
            ]
            await together(*sets)
            (left,) = await timers.listed()
            assert left.id in {new.id for new in news}
            living = [
                job
                for job in await timers.storage.get_jobs([JOB, *(JobKey(JobKind.TIMER, PARALLEL, n.id) for n in news)])
                if job is not None and job.job.ended_at is None
            ]
            assert [view.job.id for view in living] == [left.job_id]
            assert left.due_at == await timers.subject.now() + timedelta(seconds=9)


async def _set(timers: TimerScene, new: NewTimer) -> TimerSet:
    return await timers.storage.set_timer(new, turn=timers.make.new_turn())


def _job_of(timer: StoredTimer) -> JobKey:
    return JOB if timer.is_sequential else JobKey(JobKind.TIMER, PARALLEL, timer.id)
