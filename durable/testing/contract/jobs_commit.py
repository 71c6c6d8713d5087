"""Contract of settle for the turns of jobs: one commit writes all of a turn's end, or nothing of it."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

import pytest

from durable.execution import Settled, Status
from durable.job import EventsEnd, JobStatus, TurnCause
from durable.testing.contract.jobs_scene import (
    FULL,
    ONE,
    OTHER,
    SUBJECT,
    TURN,
    WINDOW,
    JobCase,
    JobScene,
    JobTurn,
)
from durable.testing.contract.scene import ERROR, LEASE
from durable.transitions import fail

__all__ = ["JobCommitContract"]

NOBODY = Settled(frozenset(), frozenset())


class JobCommitContract(JobCase):
    # --- what is written -------------------------------------------------------------------------------------

    async def test_settle_of_a_turn_writes_its_job(self, jobs: JobScene) -> None:
        await jobs.start(state='"old"')
        turn = await jobs.run()
        await jobs.commit(turn, writes_state=True, state='"new"', state_version=4, runs=2, executes=3, error=ERROR)
        job, record = await jobs.job(), await jobs.get(turn.id)
        assert (job.state, job.state_version, job.run_count, job.execute_count) == ('"new"', 4, 2, 3)
        assert (job.error, job.status, job.reason) == (ERROR, JobStatus.ACTIVE, None)
        assert (job.turn_id, job.turn_cause, job.turn_slot) == (None, None, None)
        assert (record.status, record.output) == (Status.COMPLETED, "null")
        await jobs.assert_job_sound()

    async def test_settle_of_a_turn_leaves_the_state_that_it_does_not_write(self, jobs: JobScene) -> None:
        await jobs.start(state='"old"', state_version=2)
        await jobs.commit(await jobs.run(), state='"new"', state_version=9)
        job = await jobs.job()
        assert (job.state, job.state_version) == ('"old"', 2)

    async def test_settle_of_a_turn_may_take_the_state_away(self, jobs: JobScene) -> None:
        await jobs.start(state='"old"')
        await jobs.commit(await jobs.run(), writes_state=True, state=None)
        assert (await jobs.job()).state is None

    async def test_settle_of_a_turn_adds_to_the_counters(self, jobs: JobScene) -> None:
        for _ in range(3):
            await jobs.send()
            await jobs.commit(await jobs.run(), runs=2, executes=1)
        job = await jobs.job()
        assert (job.run_count, job.execute_count, job.event_count) == (6, 3, 3)

    async def test_settle_of_a_turn_forgets_the_error_of_the_one_before(self, jobs: JobScene) -> None:
        await jobs.start()
        await jobs.commit(await jobs.run(), error=ERROR)
        await jobs.trigger()
        await jobs.commit(await jobs.run())
        assert (await jobs.job()).error is None

    @pytest.mark.parametrize("timed_out", [False, True])
    async def test_settle_of_a_turn_that_failed_for_good_writes_its_job(self, jobs: JobScene, timed_out: bool) -> None:
        await jobs.send()
        turn = await jobs.run()
        commit = jobs.make.job_commit(turn.job.id, status=JobStatus.FAILED, error=ERROR, events=EventsEnd.DEAD)
        end = fail(turn.claimed, ERROR, retry_delay=None, timed_out=timed_out)._replace(job=commit)
        assert (await jobs.storage.settle([end])).accepted == {turn.id}
        job = await jobs.job()
        assert (job.status, job.error, job.turn_id) == (JobStatus.FAILED, ERROR, None)
        assert await jobs.status_of(turn.id) is (Status.TIMED_OUT if timed_out else Status.FAILED)

    @pytest.mark.parametrize("way", ["retried", "released"])
    async def test_settle_without_a_job_touches_the_execution_only(self, jobs: JobScene, way: str) -> None:
        await jobs.send_all(2)
        turn = await jobs.run(ONE)
        before = await jobs.job()
        await (jobs.gone(turn.claimed) if way == "released" else jobs.retry(turn, 3.0))
        assert await jobs.job() == before
        assert await jobs.waiting() == [1, 2]

    async def test_settle_of_turns_of_several_jobs_writes_each_its_own(self, jobs: JobScene) -> None:
        for key in (SUBJECT, OTHER):
            await jobs.start(key)
        turns = [JobTurn(claimed, await jobs.take(claimed)) for claimed in await jobs.claim(TURN)]
        assert len(turns) == 2
        ends = [jobs.end(turn, writes_state=True, state=f'"{turn.job.name}"') for turn in turns]
        assert (await jobs.storage.settle(ends)).accepted == {turn.id for turn in turns}
        assert [(await jobs.job(key)).state for key in (SUBJECT, OTHER)] == ['"name"', '"other name"']

    # --- the plan, and the next turn -------------------------------------------------------------------------

    async def test_settle_plans_the_next_turn_after_a_delay_from_the_commit(self, jobs: JobScene) -> None:
        await jobs.start()
        turn = await jobs.run()
        now = await jobs.later(7.0)
        next_turn = jobs.make.new_turn(priority=2)
        settled = await jobs.commit(turn, writes_schedule=True, schedule_delay=30.0, next_turn=next_turn)
        view = await jobs.view()
        assert (view.job.scheduled_at, view.turn_due_at) == (now + timedelta(seconds=30),) * 2
        assert (view.job.turn_id, view.turn_status, settled.ready_queues) == (next_turn.id, Status.READY, frozenset())
        assert settled.soonest == 30.0
        assert (await jobs.get(next_turn.id)).priority == 2
        await jobs.assert_job_sound()

    async def test_settle_plans_the_next_turn_at_a_moment(self, jobs: JobScene) -> None:
        moment = await jobs.subject.now() + timedelta(hours=3)
        await jobs.start()
        await jobs.commit(await jobs.run(), writes_schedule=True, schedule_delay=1.0, schedule_at=moment)
        assert ((await jobs.job()).scheduled_at, (await jobs.view()).turn_due_at) == (moment, moment)

    async def test_settle_keeps_a_planned_moment_that_has_passed_and_runs_it_now(self, jobs: JobScene) -> None:
        await jobs.start()
        turn = await jobs.run()
        moment = await jobs.subject.now() - timedelta(hours=1)
        settled = await jobs.commit(turn, writes_schedule=True, schedule_at=moment)
        assert (settled.ready_queues, settled.soonest) == (frozenset({"default"}), None)
        view = await jobs.view()
        assert (view.job.scheduled_at, view.turn_due_at) == (moment, await jobs.subject.now())
        following = await jobs.run()
        assert (following.job.turn_cause, following.job.turn_slot) == (TurnCause.SCHEDULE, moment)

    async def test_settle_plans_nothing_more_when_told_so(self, jobs: JobScene) -> None:
        await jobs.start(delay=60.0)
        await jobs.send()
        await jobs.commit(await jobs.run(), writes_schedule=True)
        job = await jobs.job()
        assert (job.scheduled_at, job.turn_id) == (None, None)

    async def test_settle_leaves_the_plan_that_it_does_not_write(self, jobs: JobScene) -> None:
        planned_at = (await jobs.start(delay=60.0)).scheduled_at
        await jobs.send()
        await jobs.commit(await jobs.run(), schedule_delay=1.0)
        view = await jobs.view()
        assert (view.job.scheduled_at, view.turn_due_at) == (planned_at, planned_at)

    async def test_settle_leaves_the_error_to_a_turn_that_counts_no_run(self, jobs: JobScene) -> None:
        await jobs.start()
        await jobs.commit(await jobs.run(), runs=0, error=ERROR)
        await jobs.trigger()
        await jobs.commit(await jobs.run(), runs=0)
        assert (await jobs.job()).error == ERROR
        await jobs.trigger()
        await jobs.commit(await jobs.run(), runs=1)
        assert (await jobs.job()).error is None

    async def test_settle_leaves_a_job_with_nothing_to_do_without_a_turn(self, jobs: JobScene) -> None:
        await jobs.start()
        settled = await jobs.commit(await jobs.run())
        assert ((await jobs.job()).turn_id, settled.ready_queues) == (None, frozenset())
        assert await jobs.is_idle()

    async def test_settle_makes_the_next_turn_due_now_for_a_trigger_that_came_meanwhile(self, jobs: JobScene) -> None:
        await jobs.start()
        turn = await jobs.run()
        await jobs.trigger()
        settled = await jobs.commit(turn, writes_schedule=True, schedule_delay=60.0)
        assert settled.ready_queues == {"default"}
        following = await jobs.run()
        assert (following.job.turn_cause, following.id != turn.id) == (TurnCause.TRIGGER, True)
        assert following.job.scheduled_at is not None

    async def test_settle_makes_the_next_turn_due_for_events_that_wait(self, jobs: JobScene) -> None:
        await jobs.send_all(2)
        settled = await jobs.commit(await jobs.run(ONE), policy=ONE)
        assert settled.ready_queues == {"default"}
        assert (await jobs.run(ONE)).numbers == [2]

    async def test_settle_makes_the_next_turn_due_at_the_end_of_the_window_of_what_came_meanwhile(
        self, jobs: JobScene
    ) -> None:
        await jobs.send(policy=WINDOW)
        received_at = await jobs.later(12.0)
        turn = await jobs.run(WINDOW)
        await jobs.send(policy=WINDOW)
        await jobs.subject.advance(4.0)
        assert (await jobs.commit(turn, policy=WINDOW)).ready_queues == frozenset()
        assert (await jobs.view()).turn_due_at == received_at + timedelta(seconds=10)
        await jobs.subject.advance(6.0)
        assert (await jobs.run(WINDOW)).numbers == [2]

    async def test_settle_makes_the_next_turn_due_now_for_a_window_that_is_over(self, jobs: JobScene) -> None:
        await jobs.send(policy=WINDOW)
        await jobs.subject.advance(10.0)
        turn = await jobs.run(WINDOW)
        await jobs.send(policy=WINDOW)
        now = await jobs.later(11.0)
        assert (await jobs.commit(turn, policy=WINDOW)).ready_queues == {"default"}
        assert (await jobs.view()).turn_due_at == now

    async def test_settle_makes_the_next_turn_due_now_when_enough_came_meanwhile(self, jobs: JobScene) -> None:
        await jobs.send_all(3, policy=FULL)
        turn = await jobs.run(FULL)
        await jobs.send_all(3, policy=FULL)
        assert (await jobs.commit(turn, policy=FULL)).ready_queues == {"default"}
        assert (await jobs.run(FULL)).numbers == [4, 5, 6]

    @pytest.mark.parametrize(("delay", "seconds"), [(5.0, 5), (60.0, 10)])
    async def test_settle_makes_the_next_turn_due_for_what_comes_first(
        self, jobs: JobScene, delay: float, seconds: int
    ) -> None:
        await jobs.start()
        turn = await jobs.run(WINDOW)
        await jobs.send(policy=WINDOW)
        await jobs.commit(turn, policy=WINDOW, writes_schedule=True, schedule_delay=delay)
        assert (await jobs.view()).turn_due_at == await jobs.subject.now() + timedelta(seconds=seconds)

    async def test_settle_names_the_queue_of_a_next_turn_that_is_due_at_once(self, jobs: JobScene) -> None:
        await jobs.start()
        turn = jobs.make.new_turn(queue="fast")
        settled = await jobs.commit(await jobs.run(), writes_schedule=True, schedule_delay=0.0, next_turn=turn)
        assert settled.ready_queues == {"fast"}

    # --- the status ------------------------------------------------------------------------------------------

    async def test_settle_leaves_a_paused_job_paused_and_without_a_turn(self, jobs: JobScene) -> None:
        await jobs.start()
        turn = await jobs.run()
        await jobs.storage.pause_job(SUBJECT)
        await jobs.send()
        await jobs.commit(turn, writes_schedule=True, schedule_delay=5.0)
        job, now = await jobs.job(), await jobs.subject.now()
        assert (job.status, job.turn_id, job.pending_count) == (JobStatus.PAUSED, None, 1)
        assert job.scheduled_at == now + timedelta(seconds=5)

    @pytest.mark.parametrize("status", [JobStatus.PAUSED, JobStatus.FAILED])
    async def test_settle_goes_on_with_a_paused_or_failed_job_for_a_trigger(
        self, jobs: JobScene, status: JobStatus
    ) -> None:
        await jobs.start()
        turn = await jobs.run()
        if status is JobStatus.PAUSED:
            await jobs.storage.pause_job(SUBJECT)
        await jobs.trigger()
        end = JobStatus.ACTIVE if status is JobStatus.PAUSED else status
        assert (await jobs.commit(turn, status=end)).ready_queues == {"default"}
        assert (await jobs.job()).status is (JobStatus.ACTIVE if end is JobStatus.FAILED else status)
        assert (await jobs.run()).job.turn_cause is TurnCause.TRIGGER

    async def test_settle_keeps_a_failed_job_without_a_next_turn(self, jobs: JobScene) -> None:
        await jobs.start()
        turn = await jobs.run()
        await jobs.send()
        await jobs.commit(turn, status=JobStatus.FAILED, writes_schedule=True, schedule_delay=1.0)
        job = await jobs.job()
        assert (job.status, job.turn_id, job.pending_count) == (JobStatus.FAILED, None, 1)
        await jobs.subject.advance(5.0)
        assert await jobs.is_idle()

    async def test_settle_that_terminates_ends_the_job_with_the_state_of_the_commit(self, jobs: JobScene) -> None:
        await jobs.send()
        turn = await jobs.run(ONE)
        await jobs.trigger()
        now = await jobs.later(1.0)
        settled = await jobs.commit(
            turn, status=JobStatus.TERMINATED, reason="done", writes_state=True, state='"last"', runs=1,
            writes_schedule=True, schedule_delay=1.0,
        )  # fmt: skip
        job = await jobs.job()
        assert (job.status, job.reason, job.epoch, job.ended_at) == (JobStatus.TERMINATED, "done", 2, now)
        assert (job.state, job.run_count, job.turn_id) == ('"last"', 1, None)
        assert (job.scheduled_at, job.is_triggered, job.pending_count) == (None, False, 0)
        assert (await jobs.waiting(), settled.ready_queues) == ([], frozenset())
        assert await jobs.status_of(turn.id) is Status.COMPLETED
        await jobs.assert_job_sound()

    # --- fences ----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("way", ["released", "recovered", "claimed again", "settled", "ended", "begun anew"])
    async def test_settle_under_a_fence_that_is_gone_changes_no_job(self, jobs: JobScene, way: str) -> None:
        await jobs.send(event_id="a")
        await jobs.start(OTHER, delay=60.0)
        turn = await jobs.run()
        await self._lost(jobs, turn, way)
        before = await jobs.snapshot(SUBJECT, OTHER)
        for end in self._ends(jobs, turn):
            assert await end == NOBODY
        assert await jobs.snapshot(SUBJECT, OTHER) == before
        assert await jobs.storage.get_jobs([SUBJECT._replace(key="third")]) == [None]

    async def _lost(self, jobs: JobScene, turn: JobTurn, way: str) -> None:
        if way == "settled":
            await jobs.commit(turn)
        elif way in ("ended", "begun anew"):
            await jobs.storage.end_job(SUBJECT, reason=None)
            if way == "begun anew":
                await jobs.start()
        elif way == "recovered":
            await jobs.subject.advance(LEASE)
            await jobs.storage.recover(limit=9)
        else:
            await jobs.gone(turn.claimed)
            if way == "claimed again":
                await jobs.run()

    def _ends(self, jobs: JobScene, turn: JobTurn) -> list[Awaitable[Settled]]:
        sends = (jobs.make.event(OTHER), jobs.make.event(SUBJECT._replace(key="third")))
        changes: list[dict[str, Any]] = [
            {"writes_state": True, "state": '"late"', "sends": sends},
            {"status": JobStatus.TERMINATED},
            {"events": EventsEnd.KEPT, "writes_schedule": True, "schedule_delay": 0.0},
        ]
        return [jobs.storage.settle([jobs.end(turn, **change)]) for change in changes]

    async def test_settle_accepts_the_job_of_a_neighbour_of_a_refused_one(self, jobs: JobScene) -> None:
        for key in (SUBJECT, OTHER):
            await jobs.start(key)
        first, second = [JobTurn(claimed, await jobs.take(claimed)) for claimed in await jobs.claim(TURN)]
        await jobs.storage.end_job(first.job.job_key, reason=None)
        ends = [jobs.end(turn, writes_state=True, state='"late"') for turn in (first, second)]
        assert (await jobs.storage.settle(ends)).accepted == {second.id}
        assert (await jobs.job(first.job.job_key)).state == "null"
        assert (await jobs.job(second.job.job_key)).state == '"late"'

    async def test_settle_tells_afterwards_that_the_end_of_a_turn_was_accepted(self, jobs: JobScene) -> None:
        await jobs.start()
        turn = await jobs.run()
        await jobs.commit(turn, writes_schedule=True, schedule_delay=0.0)
        assert await jobs.storage.settled([(turn.id, turn.claimed.fence)]) == {turn.id}
