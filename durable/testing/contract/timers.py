"""Contract of timers: one job for each owner, whose turn is due when the first of its timers is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from durable.execution import Kind, Status
from durable.job import JobFilter, JobKey, JobKind, JobStatus, TurnCause
from durable.storage import Operation
from durable.testing.contract.jobs_scene import TURN, JobCase, JobScene, JobTurn, settle_until_tried, take_until_given
from durable.testing.contract.scene import ERROR
from durable.testing.contract.subject import ContractSubject
from durable.testing.contract.together import together
from durable.timer import TIMERS, Anchor, StoredTimer, TimerEnd, TimerFilter, TimerSet

__all__ = ["TimerContract"]

OWNER = "owner"
JOB = JobKey(JobKind.TIMER, TIMERS, OWNER)


class TimerScene(JobScene):
    """The ways through the verbs of timers, for the owner OWNER."""

    async def set(self, owner: str = OWNER, **fields: Any) -> StoredTimer:
        done: TimerSet = await self.storage.set_timer(self.make.timer(owner, **fields), turn=self.make.new_turn())
        return done.timer

    async def listed(self, owner: str = OWNER) -> list[StoredTimer]:
        return await self.storage.list_timers(TimerFilter(owner=owner), limit=1_000)

    async def timer(self, id_: str) -> StoredTimer | None:
        found = await self.storage.list_timers(TimerFilter(id=id_), limit=1)
        return found[0] if found else None

    async def started(self) -> tuple[JobTurn, StoredTimer]:
        turn = await self.run()
        assert turn.taken.timer is not None
        return turn, turn.taken.timer

    async def succeed(self, turn: JobTurn) -> None:
        assert turn.taken.timer is not None
        await self.commit(turn, timer=TimerEnd(turn.taken.timer.id, None, 0.0, 0))

    async def fail(self, turn: JobTurn, delay: float = 60.0) -> None:
        timer = turn.taken.timer
        assert timer is not None
        await self.commit(turn, timer=TimerEnd(timer.id, ERROR, delay, timer.attempt))

    async def fail_for_good(self, turn: JobTurn) -> None:
        timer = turn.taken.timer
        assert timer is not None
        await self.commit(turn, timer=TimerEnd(timer.id, ERROR, 0.0, timer.attempt, is_final=True))

    async def fired(self) -> str:
        """The id of the only timer that is due, which succeeds."""
        turn, timer = await self.started()
        await self.succeed(turn)
        return timer.id

    async def assert_planned(self) -> None:
        """The turn of the owner waits for the first of its timers; without timers there is none."""
        view = await self.view(JOB)
        timers = [timer for timer in await self.listed() if not timer.is_failed]
        await self.assert_job_sound(JOB)
        if not timers:
            assert (view.job.scheduled_at, view.job.turn_id) == (None, None)
            return
        assert view.job.scheduled_at == timers[0].due_at
        assert (view.turn_status, view.turn_due_at) == (Status.READY, max(timers[0].due_at, await self.subject.now()))

    async def assert_ended(self, key: JobKey) -> None:
        """Nothing is left of it but a tombstone."""
        await self.assert_job_sound(key)
        job = await self.job(key)
        assert (job.status, job.turn_id, job.scheduled_at) == (JobStatus.TERMINATED, None, None)
        assert job.ended_at is not None


class TimerContract(JobCase):
    @pytest.fixture
    def timers(self, subject: ContractSubject) -> TimerScene:
        return TimerScene(subject)

    # --- set -------------------------------------------------------------------------------------------------

    async def test_set_timer_stores_it_under_the_job_of_its_owner(self, timers: TimerScene) -> None:
        now = await timers.subject.now()
        new = timers.make.timer(delay=5.0, name="slot", interval=2.5, anchor=Anchor.SCHEDULE, timeout=3.0)
        done = await timers.storage.set_timer(new, turn=timers.make.new_turn())
        stored = StoredTimer(
            id=new.id, job_id=new.job_id, owner=OWNER, name="slot", task_name=new.task_name, input=new.input,
            queue=new.queue, priority=0, timeout=3.0, due_at=now + timedelta(seconds=5), interval=2.5,
            anchor=Anchor.SCHEDULE, retry_interval=60.0, attempt=0, error=None, created_at=now, updated_at=now,
            is_sequential=True, is_failed=False,
        )  # fmt: skip
        assert done == TimerSet(stored, None)
        assert await timers.timer(new.id) == stored
        job = await timers.job(JOB)
        assert (job.id, job.job_key, job.status) == (new.job_id, JOB, JobStatus.ACTIVE)
        (turn,) = await timers.turns_of(job.id)
        assert (turn.id, turn.kind, turn.due_at) == (job.turn_id, Kind.TURN, stored.due_at)
        await timers.assert_planned()

    async def test_set_timer_tells_of_a_turn_that_is_due_at_once(self, timers: TimerScene) -> None:
        later = timers.make.timer(delay=1.0)
        assert (await timers.storage.set_timer(later, turn=timers.make.new_turn())).ready_queue is None
        new = timers.make.timer(run_at=await timers.subject.now() - timedelta(days=1), queue="q")
        assert (await timers.storage.set_timer(new, turn=timers.make.new_turn())).ready_queue == "q"
        await timers.assert_planned()

    @pytest.mark.parametrize("delays", [(300.0, 100.0), (100.0, 300.0)])
    async def test_set_timer_makes_the_turn_due_for_the_first_of_them(
        self, timers: TimerScene, delays: tuple[float, float]
    ) -> None:
        for delay in delays:
            await timers.set(delay=delay)
            await timers.assert_planned()
        assert [(timer.due_at - timer.created_at).total_seconds() for timer in await timers.listed()] == [100.0, 300.0]
        assert len(await timers.turns_of((await timers.job(JOB)).id)) == 1

    async def test_the_turn_has_the_queue_and_the_priority_of_the_first(self, timers: TimerScene) -> None:
        await timers.set(delay=9.0, queue="slow", priority=-1)
        await timers.set(queue="fast", priority=2)
        (record,) = await timers.turns_of((await timers.job(JOB)).id)
        assert (record.queue, record.priority) == ("fast", 2)
        (claimed,) = await timers.claim(TURN, queues=["fast"])
        await timers.succeed(JobTurn(claimed, await timers.take(claimed)))
        last = (await timers.turns_of((await timers.job(JOB)).id))[-1]
        assert (last.queue, last.priority, last.due_at) == ("slow", -1, (await timers.listed())[0].due_at)

    async def test_set_timer_again_with_its_id_changes_nothing(self, timers: TimerScene) -> None:
        new = timers.make.timer(delay=5.0)
        first = await timers.storage.set_timer(new, turn=timers.make.new_turn())
        before = await timers.snapshot(JOB)
        await timers.subject.advance(1.0)
        assert await timers.storage.set_timer(new, turn=timers.make.new_turn()) == first
        assert await timers.snapshot(JOB) == before

    @pytest.mark.parametrize("delay", [1.0, 9.0])
    async def test_set_timer_replaces_the_one_of_its_name(self, timers: TimerScene, delay: float) -> None:
        other = await timers.set("other", name="slot", delay=5.0)
        await timers.set(name="slot", delay=5.0)
        second = await timers.set(name="slot", delay=delay)
        assert await timers.listed() == [second]
        assert await timers.listed("other") == [other]
        await timers.assert_planned()

    # --- take and commit -------------------------------------------------------------------------------------

    async def test_a_turn_starts_the_first_that_is_due_and_counts_its_attempt(self, timers: TimerScene) -> None:
        await timers.set(delay=2.0)
        first = await timers.set(delay=1.0)
        later = await timers.later(2.0)
        turn, timer = await timers.started()
        assert timer == first._replace(attempt=1, updated_at=later)
        assert (turn.job.turn_cause, turn.job.turn_slot) == (TurnCause.SCHEDULE, first.due_at)
        assert await timers.timer(first.id) == timer
        await timers.succeed(turn)
        assert await timers.timer(first.id) is None
        await timers.assert_planned()

    async def test_timers_of_one_moment_fire_in_the_order_in_which_they_were_set(self, timers: TimerScene) -> None:
        ids = [(await timers.set()).id for _ in range(4)]
        assert [await timers.fired() for _ in ids] == ids
        await timers.assert_planned()

    async def test_a_later_attempt_of_the_turn_counts_another_start(self, timers: TimerScene) -> None:
        await timers.set()
        turn, _ = await timers.started()
        await timers.gone(turn.claimed)
        _, timer = await timers.started()
        assert timer.attempt == 2

    async def test_a_turn_without_a_due_timer_starts_none(self, timers: TimerScene) -> None:
        timer = await timers.set()
        claimed = await timers.claim_one(TURN)
        assert await timers.storage.cancel_timers(TimerFilter(id=timer.id)) == 1
        taken = await timers.take(claimed)
        assert (taken.timer, taken.job.turn_cause) == (None, TurnCause.NOTHING)
        await timers.commit(JobTurn(claimed, taken), runs=0)
        await timers.assert_planned()

    async def test_a_later_attempt_of_the_turn_starts_nothing_before_its_moment(self, timers: TimerScene) -> None:
        first = await timers.set()
        later = await timers.set(delay=5.0)
        turn, _ = await timers.started()
        await timers.gone(turn.claimed)
        assert await timers.storage.cancel_timers(TimerFilter(id=first.id)) == 1
        again = await timers.run()
        assert (again.id, again.taken.timer, again.job.turn_cause) == (turn.id, None, TurnCause.SCHEDULE)
        await timers.commit(again, runs=0)
        assert await timers.listed() == [later]
        await timers.assert_planned()

    async def test_a_recurring_timer_is_due_again_after_its_interval(self, timers: TimerScene) -> None:
        timer = await timers.set(delay=10.0, interval=10.0)
        await timers.subject.advance(10.0)
        turn, _ = await timers.started()
        done_at = await timers.later(4.0)
        await timers.succeed(turn)
        assert await timers.timer(timer.id) == timer._replace(
            due_at=done_at + timedelta(seconds=10), updated_at=done_at
        )
        await timers.assert_planned()

    @pytest.mark.parametrize(("interval", "lasts", "next_at"), [(10.0, 4.0, 20.0), (10.0, 10.0, 30.0), (0.1, 0.2, 0.4)])
    async def test_a_timer_on_a_grid_is_due_at_its_next_moment(
        self, timers: TimerScene, interval: float, lasts: float, next_at: float
    ) -> None:
        timer = await timers.set(delay=interval, interval=interval, anchor=Anchor.SCHEDULE)
        await timers.subject.advance(interval)
        turn, _ = await timers.started()
        await timers.subject.advance(lasts)
        await timers.succeed(turn)
        again = await timers.timer(timer.id)
        assert again is not None
        assert again.due_at == timer.created_at + timedelta(seconds=next_at)

    async def test_a_failed_start_is_noted_and_tried_again(self, timers: TimerScene) -> None:
        timer = await timers.set(interval=5.0)
        for attempt in (1, 2):
            turn, started = await timers.started()
            assert (started.attempt, started.error) == (attempt, None if attempt == 1 else ERROR)
            now = await timers.subject.now()
            await timers.fail(turn, 60.0)
            failed = await timers.timer(timer.id)
            assert failed is not None
            assert (failed.attempt, failed.error, failed.due_at) == (attempt, ERROR, now + timedelta(seconds=60))
            await timers.assert_planned()
            await timers.subject.advance(60.0)
        assert await timers.fired() == timer.id
        again = await timers.timer(timer.id)
        assert again is not None
        assert (again.attempt, again.error) == (0, None)

    async def test_a_refused_end_writes_nothing_to_the_timer(self, timers: TimerScene) -> None:
        await timers.set()
        turn, timer = await timers.started()
        await timers.gone(turn.claimed)
        settled = await timers.storage.settle([timers.end(turn, timer=TimerEnd(timer.id, None, 0.0, 0))])
        assert settled.accepted == frozenset()
        assert await timers.timer(timer.id) == timer

    # --- while one runs --------------------------------------------------------------------------------------

    @pytest.mark.parametrize("is_good", [True, False])
    async def test_nothing_is_written_of_one_that_was_cancelled_meanwhile(
        self, timers: TimerScene, is_good: bool
    ) -> None:
        await timers.set(interval=5.0)
        turn, timer = await timers.started()
        assert await timers.storage.cancel_timers(TimerFilter(id=timer.id)) == 1
        await (timers.succeed(turn) if is_good else timers.fail(turn))
        assert await timers.listed() == []
        await timers.assert_planned()

    async def test_one_that_was_replaced_meanwhile_does_not_touch_the_new_one(self, timers: TimerScene) -> None:
        await timers.set(name="slot")
        turn, _ = await timers.started()
        new = await timers.set(name="slot", delay=3.0)
        await timers.succeed(turn)
        assert await timers.listed() == [new]
        await timers.assert_planned()

    async def test_one_that_is_set_meanwhile_has_its_turn_next(self, timers: TimerScene) -> None:
        first = await timers.set()
        turn, _ = await timers.started()
        second = await timers.set()
        assert await timers.is_idle()
        await timers.succeed(turn)
        assert await timers.timer(first.id) is None
        assert await timers.fired() == second.id

    # --- cancel and look -------------------------------------------------------------------------------------

    async def test_cancel_timers_deletes_one_and_plans_the_next(self, timers: TimerScene) -> None:
        first, second = await timers.set(delay=1.0), await timers.set(delay=2.0)
        assert await timers.storage.cancel_timers(TimerFilter(id=first.id)) == 1
        assert await timers.listed() == [second]
        await timers.assert_planned()
        assert await timers.storage.cancel_timers(TimerFilter(id=first.id)) == 0
        assert await timers.storage.cancel_timers(TimerFilter(id=second.id)) == 1
        await timers.assert_planned()

    async def test_cancel_timers_by_owner_and_by_name(self, timers: TimerScene) -> None:
        other = await timers.set("other", name="slot")
        named, plain = await timers.set(name="slot", delay=1.0), await timers.set(delay=2.0)
        assert await timers.storage.cancel_timers(TimerFilter(owner="nobody")) == 0
        assert await timers.storage.cancel_timers(TimerFilter(owner=OWNER, name="slot")) == 1
        assert await timers.timer(named.id) is None
        assert await timers.listed() == [plain]
        await timers.set(delay=3.0)
        assert await timers.storage.cancel_timers(TimerFilter(owner=OWNER)) == 2
        assert await timers.listed("other") == [other]
        await timers.assert_planned()

    async def test_list_timers_gives_pages_in_order_of_time(self, timers: TimerScene) -> None:
        expected = sorted([await timers.set(delay=delay) for delay in (3.0, 1.0, 2.0, 1.0)], key=_order)
        where = TimerFilter(owner=OWNER)
        page = await timers.storage.list_timers(where, limit=3)
        assert page == expected[:3]
        assert await timers.storage.list_timers(where, limit=3, after=_order(page[-1])) == expected[3:]
        assert await timers.storage.list_timers(where, limit=0) == []
        assert await timers.storage.list_timers(TimerFilter(id=timers.make.id()), limit=1) == []

    async def test_jobs_of_timers_are_listed_when_they_are_asked_for(self, timers: TimerScene) -> None:
        await timers.set()
        await timers.start()
        assert await timers.storage.count_jobs(JobFilter()) == 1
        (view,) = await timers.storage.list_jobs(JobFilter(kind=JobKind.TIMER), limit=10)
        assert view.job.job_key == JOB

    # --- races -----------------------------------------------------------------------------------------------

    async def test_timers_set_at_once_are_all_there_under_one_turn(self, timers: TimerScene) -> None:
        handles = timers.subject.handles
        news = [timers.make.timer(delay=float(place % 3)) for place in range(8 * len(handles))]
        turns = [timers.make.new_turn() for _ in news]
        sets = [
            handles[place % len(handles)].set_timer(new, turn=turn)
            for place, (new, turn) in enumerate(zip(news, turns, strict=True))
        ]
        await together(*sets)
        assert {timer.id for timer in await timers.listed()} == {new.id for new in news}
        await timers.assert_planned()

    async def test_a_cancel_and_an_end_at_once_leave_a_sound_plan(self, timers: TimerScene) -> None:
        for _ in range(10):
            await timers.set(interval=5.0, delay=0.0)
            await timers.set(delay=30.0)
            claimed = await timers.claim_one(TURN)
            taken = await take_until_given(timers.storage, claimed)
            assert taken is not None
            assert taken.timer is not None
            turn, id_ = JobTurn(claimed, taken), taken.timer.id
            end = timers.end(turn, timer=TimerEnd(id_, None, 0.0, 0))
            other = timers.subject.handles[-1]
            await together(settle_until_tried(timers.storage, end), _counted(other.cancel_timers(TimerFilter(id=id_))))
            assert await timers.timer(id_) is None
            await timers.assert_planned()
            await timers.storage.cancel_timers(TimerFilter(owner=OWNER))


async def _counted(cancel: Operation[int]) -> None:
    await cancel


def _order(timer: StoredTimer) -> tuple[Any, str]:
    return timer.due_at, timer.id
