"""Contract of pause_job and resume_job: what was due is kept, whatever it was due for."""

from __future__ import annotations

from datetime import timedelta

import pytest

from durable.execution import Status
from durable.job import JobKind, JobStatus, TurnCause
from durable.testing.contract.jobs_scene import ONE, SUBJECT, WINDOW, JobCase, JobScene, JobTurn
from durable.testing.contract.scene import ERROR

__all__ = ["JobPauseContract"]

CONTINUOUS = SUBJECT._replace(kind=JobKind.CONTINUOUS)


class JobPauseContract(JobCase):
    async def test_pause_job_cancels_a_turn_that_waits_and_keeps_its_moment(self, jobs: JobScene) -> None:
        job = await jobs.start(delay=5.0)
        paused = await jobs.storage.pause_job(SUBJECT)
        assert paused is not None
        assert (paused.status, paused.turn_id, paused.scheduled_at) == (JobStatus.PAUSED, None, job.scheduled_at)
        assert await jobs.job() == paused
        (record,) = await jobs.turns_of(job.id)
        assert (record.status, record.reason) == (Status.CANCELLED, "paused")
        await jobs.subject.advance(10.0)
        assert await jobs.is_idle()
        await jobs.assert_job_sound()

    async def test_pause_job_lets_a_turn_that_runs_end(self, jobs: JobScene) -> None:
        await jobs.start()
        turn = await jobs.run()
        paused = await jobs.storage.pause_job(SUBJECT)
        assert paused is not None
        assert (paused.status, paused.turn_id, paused.turn_cause) == (
            JobStatus.PAUSED, turn.id, TurnCause.SCHEDULE,
        )  # fmt: skip
        assert await jobs.status_of(turn.id) is Status.RUNNING
        await jobs.commit(turn, writes_state=True, state='"ran"')
        job = await jobs.job()
        assert (job.status, job.state, job.run_count) == (JobStatus.PAUSED, '"ran"', 1)

    async def test_pause_job_puts_back_the_moment_of_a_turn_between_attempts(self, jobs: JobScene) -> None:
        slot = (await jobs.start()).scheduled_at
        await jobs.retry(await jobs.run(), 5.0)
        paused = await jobs.storage.pause_job(SUBJECT)
        assert paused is not None
        assert (paused.scheduled_at, paused.turn_slot, paused.turn_cause, paused.turn_id) == (slot, None, None, None)

    async def test_pause_job_keeps_the_error_of_a_turn_between_attempts(self, jobs: JobScene) -> None:
        await jobs.start()
        await jobs.retry(await jobs.run(), 5.0)
        error = (await jobs.view()).turn_error
        assert error is not None
        paused = await jobs.storage.pause_job(SUBJECT)
        assert (await jobs.view()).job == paused
        assert paused is not None
        assert paused.error == error
        await jobs.resume()
        await jobs.commit(await jobs.run())
        assert (await jobs.job()).error is None

    async def test_pause_job_keeps_the_error_of_the_turn_before_one_that_waits(self, jobs: JobScene) -> None:
        failed = await jobs.failed()
        await jobs.trigger()
        paused = await jobs.storage.pause_job(SUBJECT)
        assert paused is not None
        assert failed.error is not None
        assert (paused.status, paused.error) == (JobStatus.PAUSED, failed.error)

    async def test_pause_job_puts_back_the_events_of_a_turn_between_attempts(self, jobs: JobScene) -> None:
        first_at = await jobs.subject.now()
        await jobs.send(event_id="a")
        turn = await jobs.run()
        last_at = await jobs.later(1.0)
        await jobs.send()
        await jobs.retry(turn, 5.0)
        paused = await jobs.storage.pause_job(SUBJECT)
        assert paused is not None
        assert (paused.pending_count, paused.pending_first_at, paused.pending_last_at) == (2, first_at, last_at)
        assert await jobs.storage.event_end(SUBJECT, "a") == (1, None, False)
        await jobs.resume()
        assert (await jobs.run(ONE)).numbers == [1]

    async def test_pause_job_puts_back_the_trigger_of_a_turn_between_attempts(self, jobs: JobScene) -> None:
        await jobs.idle()
        await jobs.trigger()
        await jobs.retry(await jobs.run(), 5.0)
        paused = await jobs.storage.pause_job(SUBJECT)
        assert paused is not None
        assert paused.is_triggered
        await jobs.resume()
        assert (await jobs.run()).job.turn_cause is TurnCause.TRIGGER

    async def test_pause_job_gives_none_where_none_lives(self, jobs: JobScene) -> None:
        assert await jobs.storage.pause_job(SUBJECT) is None
        await jobs.start()
        await jobs.storage.end_job(SUBJECT, reason=None)
        assert await jobs.storage.pause_job(SUBJECT) is None
        assert (await jobs.job()).status is JobStatus.TERMINATED

    async def test_pause_job_leaves_a_failed_and_a_paused_job(self, jobs: JobScene) -> None:
        failed = await jobs.failed()
        assert await jobs.storage.pause_job(SUBJECT) == failed
        await jobs.trigger()
        paused = await jobs.storage.pause_job(SUBJECT)
        assert paused is not None
        assert paused.status is JobStatus.PAUSED
        assert await jobs.storage.pause_job(SUBJECT) == paused

    async def test_pause_job_that_is_paused_leaves_the_turn_of_a_trigger(self, jobs: JobScene) -> None:
        await jobs.start()
        await jobs.storage.pause_job(SUBJECT)
        await jobs.trigger()
        await jobs.storage.pause_job(SUBJECT)
        assert (await jobs.run()).job.turn_cause is TurnCause.TRIGGER

    # --- while an attempt runs -------------------------------------------------------------------------------

    @pytest.mark.parametrize("way", ["retried", "released", "not taken"])
    @pytest.mark.parametrize("cause", [TurnCause.SCHEDULE, TurnCause.TRIGGER])
    async def test_take_turns_ends_a_turn_that_a_pause_holds(self, jobs: JobScene, way: str, cause: TurnCause) -> None:
        slot = (await jobs.start(CONTINUOUS)).scheduled_at
        if cause is TurnCause.TRIGGER:
            await jobs.trigger(CONTINUOUS)
        claimed = await jobs.claim_one("turn")
        is_taken = way != "not taken" or cause is TurnCause.TRIGGER
        turn = JobTurn(claimed, await jobs.take(claimed)) if is_taken else None
        assert await jobs.storage.pause_job(CONTINUOUS) == await jobs.job(CONTINUOUS)
        if turn is not None:
            await (jobs.retry(turn, 0.0) if way == "retried" else jobs.gone(claimed))
            claimed = await jobs.claim_one("turn")
        taken = await jobs.take(claimed)
        job = await jobs.job(CONTINUOUS)
        assert (taken.job.turn_id, taken.job.turn_cause, taken.events) == (None, TurnCause.NOTHING, ())
        assert (job.status, job.turn_id, job.scheduled_at) == (JobStatus.PAUSED, None, slot)
        assert (job.is_triggered, job.turn_slot, job.turn_cause) == (cause is TurnCause.TRIGGER, None, None)
        assert job.error == (ERROR if way == "retried" else None)
        record = await jobs.get(claimed.id)
        assert (record.status, record.reason) == (Status.CANCELLED, "paused")
        await jobs.assert_job_sound(CONTINUOUS)
        await jobs.resume(CONTINUOUS)
        assert (await jobs.run()).job.turn_cause is cause

    async def test_take_turns_gives_back_the_events_of_a_turn_that_a_pause_holds(self, jobs: JobScene) -> None:
        await jobs.send_all(2)
        turn = await jobs.run(ONE)
        await jobs.storage.pause_job(SUBJECT)
        await jobs.retry(turn, 0.0)
        claimed = await jobs.claim_one("turn")
        assert (await jobs.take(claimed, ONE)).job.turn_id is None
        assert ((await jobs.job()).pending_count, await jobs.waiting()) == (2, [1, 2])
        await jobs.assert_job_sound()

    async def test_pause_job_that_is_paused_takes_the_retry_of_the_attempt_that_ran(self, jobs: JobScene) -> None:
        slot = (await jobs.start(CONTINUOUS)).scheduled_at
        turn = await jobs.run()
        await jobs.storage.pause_job(CONTINUOUS)
        await jobs.retry(turn, 60.0)
        paused = await jobs.storage.pause_job(CONTINUOUS)
        assert paused == await jobs.job(CONTINUOUS)
        assert paused is not None
        assert (paused.turn_id, paused.scheduled_at, paused.error) == (None, slot, ERROR)
        assert (await jobs.get(turn.id)).reason == "paused"

    async def test_trigger_job_that_is_paused_runs_and_is_tried_again(self, jobs: JobScene) -> None:
        slot = (await jobs.start(CONTINUOUS)).scheduled_at
        turn = await jobs.run()
        await jobs.storage.pause_job(CONTINUOUS)
        assert (await jobs.trigger(CONTINUOUS)).is_queued
        await jobs.retry(turn, 0.0)
        for attempt in (2, 3):
            again = await jobs.run()
            assert (again.id, again.claimed.attempts) == (turn.id, attempt)
            assert (again.job.turn_cause, again.job.turn_slot, again.job.is_triggered) == (
                TurnCause.TRIGGER, slot, False,
            )  # fmt: skip
            if attempt == 2:
                await jobs.retry(again, 0.0)

    @pytest.mark.parametrize("cause", [TurnCause.SCHEDULE, TurnCause.TRIGGER])
    async def test_resume_job_leaves_the_retry_of_an_attempt_that_ran(self, jobs: JobScene, cause: TurnCause) -> None:
        await jobs.start(CONTINUOUS)
        if cause is TurnCause.TRIGGER:
            await jobs.trigger(CONTINUOUS)
        turn = await jobs.run()
        await jobs.storage.pause_job(CONTINUOUS)
        await jobs.retry(turn, 60.0)
        resumed = await jobs.resume(CONTINUOUS)
        assert resumed is not None
        assert (resumed.status, resumed.turn_id, resumed.turn_cause) == (JobStatus.ACTIVE, turn.id, cause)
        await jobs.subject.advance(60.0)
        again = await jobs.run()
        assert (again.id, again.job.turn_cause, again.claimed.attempts) == (turn.id, cause, 2)

    # --- resume ----------------------------------------------------------------------------------------------

    async def test_resume_job_runs_at_the_planned_moment(self, jobs: JobScene) -> None:
        job = await jobs.start(delay=60.0)
        await jobs.storage.pause_job(SUBJECT)
        await jobs.subject.advance(10.0)
        turn = jobs.make.new_turn(queue="fast")
        resumed = await jobs.storage.resume_job(SUBJECT, turn=turn)
        assert resumed is not None
        assert (resumed.status, resumed.turn_id, resumed.scheduled_at) == (
            JobStatus.ACTIVE, turn.id, job.scheduled_at,
        )  # fmt: skip
        view = await jobs.view()
        assert (view.job, view.turn_due_at, view.turn_status) == (resumed, job.scheduled_at, Status.READY)
        assert (await jobs.get(turn.id)).queue == "fast"
        await jobs.assert_job_sound()

    async def test_resume_job_runs_now_what_was_planned_for_the_pause(self, jobs: JobScene) -> None:
        slot = (await jobs.start(delay=5.0)).scheduled_at
        await jobs.storage.pause_job(SUBJECT)
        now = await jobs.later(60.0)
        await jobs.resume()
        assert (await jobs.view()).turn_due_at == now
        turn = await jobs.run()
        assert (turn.job.turn_cause, turn.job.turn_slot) == (TurnCause.SCHEDULE, slot)

    @pytest.mark.parametrize("delay", [None, 60.0])
    async def test_resume_job_runs_now_for_events_that_wait(self, jobs: JobScene, delay: float | None) -> None:
        await (jobs.idle() if delay is None else jobs.start(delay=delay))
        await jobs.storage.pause_job(SUBJECT)
        await jobs.send_all(2)
        await jobs.resume()
        assert (await jobs.view()).turn_due_at == await jobs.subject.now()
        assert (await jobs.run()).numbers == [1, 2]
        await jobs.assert_job_sound()

    async def test_resume_job_leaves_the_window_of_its_events_to_the_turn(self, jobs: JobScene) -> None:
        first_at = await jobs.subject.now()
        await jobs.send(policy=WINDOW)
        await jobs.storage.pause_job(SUBJECT)
        await jobs.resume()
        turn = await jobs.run(WINDOW)
        assert (turn.job.turn_cause, turn.taken.due_at) == (TurnCause.NOTHING, first_at + timedelta(seconds=10))

    async def test_resume_job_with_nothing_to_do_inserts_no_turn(self, jobs: JobScene) -> None:
        await jobs.idle()
        await jobs.storage.pause_job(SUBJECT)
        resumed = await jobs.resume()
        assert resumed is not None
        assert (resumed.status, resumed.turn_id) == (JobStatus.ACTIVE, None)
        assert await jobs.is_idle()

    async def test_resume_job_runs_a_continuous_now_whose_plan_is_unknown(self, jobs: JobScene) -> None:
        key = SUBJECT._replace(kind=JobKind.CONTINUOUS)
        await jobs.idle(key)
        await jobs.storage.pause_job(key)
        await jobs.resume(key)
        view = await jobs.view(key)
        assert (view.turn_status, view.turn_due_at) == (Status.READY, await jobs.subject.now())

    async def test_resume_job_leaves_a_turn_that_still_runs(self, jobs: JobScene) -> None:
        await jobs.start()
        turn = await jobs.run()
        await jobs.storage.pause_job(SUBJECT)
        resumed = await jobs.resume()
        assert resumed is not None
        assert (resumed.status, resumed.turn_id) == (JobStatus.ACTIVE, turn.id)
        await jobs.commit(turn, writes_schedule=True, schedule_delay=5.0)
        assert (await jobs.view()).turn_due_at == await jobs.later(0.0) + timedelta(seconds=5)
        await jobs.assert_job_sound()

    async def test_resume_job_gives_none_where_none_lives(self, jobs: JobScene) -> None:
        assert await jobs.resume() is None
        await jobs.start()
        await jobs.storage.end_job(SUBJECT, reason=None)
        assert await jobs.resume() is None

    @pytest.mark.parametrize("status", [JobStatus.ACTIVE, JobStatus.FAILED])
    async def test_resume_job_leaves_a_job_that_is_not_paused(self, jobs: JobScene, status: JobStatus) -> None:
        job = await (jobs.failed() if status is JobStatus.FAILED else jobs.idle())
        before = await jobs.snapshot(SUBJECT)
        assert await jobs.resume() == job
        assert job.status is status
        assert job.error == (ERROR if status is JobStatus.FAILED else None)
        assert await jobs.snapshot(SUBJECT) == before
