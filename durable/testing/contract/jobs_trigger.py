"""Contract of trigger_job and redrive_job: what an operator asks for runs now, once, and loses nothing."""

from __future__ import annotations

import pytest

from durable.execution import Status
from durable.job import EventsEnd, JobKey, JobKind, JobStatus, Triggered, TurnCause, TurnPolicy
from durable.testing.contract.jobs_scene import (
    AT_ONCE,
    FULL,
    ONE,
    OTHER,
    SUBJECT,
    WINDOW,
    JobCase,
    JobScene,
)
from durable.testing.contract.scene import ERROR
from durable.transitions import release

__all__ = ["JobTriggerContract"]

CONTINUOUS = SUBJECT._replace(kind=JobKind.CONTINUOUS)


class JobTriggerContract(JobCase):
    @pytest.mark.parametrize("only_pending", [False, True])
    async def test_trigger_job_meets_no_job_that_lives(self, jobs: JobScene, only_pending: bool) -> None:
        assert await jobs.trigger(only_pending=only_pending) == Triggered(None, False, None)
        await jobs.start()
        await jobs.storage.end_job(SUBJECT, reason=None)
        before = await jobs.snapshot(SUBJECT)
        assert await jobs.trigger(only_pending=only_pending) == Triggered(None, False, None)
        assert await jobs.snapshot(SUBJECT) == before

    async def test_trigger_job_gives_a_job_without_a_turn_one(self, jobs: JobScene) -> None:
        await jobs.idle()
        turn = jobs.make.new_turn(queue="fast")
        triggered = await jobs.storage.trigger_job(SUBJECT, turn=turn, only_pending=False)
        assert (triggered.is_queued, triggered.ready_queue) == (False, "fast")
        view = await jobs.view()
        assert view.job == triggered.job
        assert (view.job.turn_id, view.job.is_triggered) == (turn.id, True)
        assert (view.turn_status, view.turn_due_at) == (Status.READY, await jobs.subject.now())
        await jobs.assert_job_sound()

    async def test_trigger_job_makes_a_turn_that_waits_due_now(self, jobs: JobScene) -> None:
        job = await jobs.start(delay=60.0)
        triggered = await jobs.trigger()
        assert (triggered.is_queued, triggered.ready_queue) == (False, "default")
        turn = await jobs.run()
        assert (turn.id, turn.job.turn_cause, turn.job.scheduled_at) == (
            job.turn_id, TurnCause.TRIGGER, job.scheduled_at,
        )  # fmt: skip

    async def test_trigger_job_queues_one_more_turn_however_many_triggers_come(self, jobs: JobScene) -> None:
        await jobs.start()
        turn = await jobs.run()
        for _ in range(3):
            triggered = await jobs.trigger()
            assert (triggered.is_queued, triggered.ready_queue) == (True, None)
            assert triggered.job == await jobs.job()
        await jobs.commit(turn)
        second = await jobs.run()
        assert second.job.turn_cause is TurnCause.TRIGGER
        await jobs.commit(second)
        assert (await jobs.job()).turn_id is None

    async def test_trigger_job_twice_before_the_turn_runs_gives_one(self, jobs: JobScene) -> None:
        await jobs.idle()
        await jobs.trigger()
        assert not (await jobs.trigger()).is_queued
        await jobs.commit(await jobs.run())
        assert (await jobs.job()).turn_id is None

    async def test_trigger_job_is_served_by_a_turn_that_has_been_claimed_and_not_taken(self, jobs: JobScene) -> None:
        await jobs.start()
        claimed = await jobs.claim_one("turn")
        triggered = await jobs.trigger()
        assert (triggered.is_queued, triggered.ready_queue) == (False, None)
        assert (await jobs.take(claimed)).job.turn_cause is TurnCause.TRIGGER

    async def test_trigger_job_begins_a_turn_between_attempts_again(self, jobs: JobScene) -> None:
        slot = (await jobs.start()).scheduled_at
        turn = await jobs.run()
        await jobs.retry(turn, 60.0)
        view = await jobs.view()
        assert (view.turn_status, view.turn_attempts, view.turn_error) == (Status.READY, 1, ERROR)
        triggered = await jobs.trigger()
        assert (triggered.is_queued, triggered.ready_queue) == (False, "default")
        view = await jobs.view()
        assert (view.turn_attempts, view.turn_error, view.turn_due_at) == (0, None, await jobs.subject.now())
        again = await jobs.run()
        assert (again.id, again.claimed.attempts, again.claimed.error) == (turn.id, 1, None)
        assert (again.job.turn_cause, again.job.turn_slot, again.job.scheduled_at) == (TurnCause.TRIGGER, slot, None)
        assert len(await jobs.turns_of(again.job.id)) == 1

    @pytest.mark.parametrize("policy", [AT_ONCE, WINDOW])
    async def test_trigger_job_leaves_the_turn_between_attempts_its_events(
        self, jobs: JobScene, policy: TurnPolicy
    ) -> None:
        await jobs.send_all(2)
        turn = await jobs.run(ONE)
        await jobs.retry(turn, 60.0)
        retry_at = (await jobs.view()).turn_due_at
        for _ in range(2):
            triggered = await jobs.trigger()
            assert (triggered.is_queued, triggered.ready_queue, triggered.taken_count) == (True, None, 0)
            assert triggered.job == await jobs.job()
        view = await jobs.view()
        assert (view.turn_due_at, view.turn_attempts, view.turn_error) == (retry_at, 1, ERROR)
        await jobs.subject.advance(60.0)
        again = await jobs.run(policy)
        assert (again.id, again.numbers, again.job.pending_count) == (turn.id, [1], 1)
        assert (again.job.turn_cause, again.claimed.attempts, again.claimed.error) == (TurnCause.EVENTS, 2, ERROR)
        await jobs.commit(again)
        assert await jobs.waiting() == [2]
        behind = await jobs.run(ONE)
        assert (behind.job.turn_cause, behind.job.is_triggered) == (TurnCause.TRIGGER, False)
        await jobs.assert_job_sound()

    async def test_trigger_job_of_a_turn_that_was_released_with_its_event_runs_both_now(self, jobs: JobScene) -> None:
        await jobs.send()
        turn = await jobs.run(ONE)
        await jobs.storage.settle([release(turn.claimed)._replace(delay=30.0)])
        triggered = await jobs.trigger()
        assert (triggered.is_queued, triggered.ready_queue) == (True, "default")
        again = await jobs.run(ONE)
        assert (again.id, again.numbers, again.job.turn_cause) == (turn.id, [1], TurnCause.EVENTS)
        await jobs.commit(again)
        assert (await jobs.run(ONE)).job.turn_cause is TurnCause.TRIGGER

    async def test_trigger_job_makes_a_failed_job_active(self, jobs: JobScene) -> None:
        await jobs.failed()
        triggered = await jobs.trigger()
        assert triggered.job is not None
        assert (triggered.job.status, triggered.ready_queue) == (JobStatus.ACTIVE, "default")
        turn = await jobs.run()
        assert (turn.job.turn_cause, turn.job.error) == (TurnCause.TRIGGER, ERROR)

    async def test_trigger_job_runs_a_paused_job_once_and_leaves_it_paused(self, jobs: JobScene) -> None:
        await jobs.start(delay=60.0)
        await jobs.storage.pause_job(SUBJECT)
        triggered = await jobs.trigger()
        assert triggered.job is not None
        assert (triggered.job.status, triggered.ready_queue) == (JobStatus.PAUSED, "default")
        await jobs.commit(await jobs.run(), writes_schedule=True, schedule_delay=0.0)
        job = await jobs.job()
        assert (job.status, job.turn_id) == (JobStatus.PAUSED, None)

    # --- only for events that wait ---------------------------------------------------------------------------

    async def test_trigger_job_only_for_events_leaves_a_job_without_any(self, jobs: JobScene) -> None:
        await jobs.start(delay=60.0)
        before = await jobs.snapshot(SUBJECT)
        assert await jobs.trigger(only_pending=True) == Triggered(await jobs.job(), False, None)
        assert await jobs.snapshot(SUBJECT) == before

    async def test_trigger_job_only_for_events_leaves_a_turn_that_runs_on_all_of_them(self, jobs: JobScene) -> None:
        await jobs.send_all(2)
        await jobs.run()
        before = await jobs.snapshot(SUBJECT)
        assert await jobs.trigger(only_pending=True) == Triggered(await jobs.job(), False, None)
        assert await jobs.snapshot(SUBJECT) == before

    async def test_trigger_job_only_for_events_runs_those_that_wait(self, jobs: JobScene) -> None:
        await jobs.send_all(2, policy=WINDOW)
        assert (await jobs.trigger(only_pending=True)).ready_queue == "default"
        turn = await jobs.run(WINDOW)
        assert (turn.job.turn_cause, turn.numbers) == (TurnCause.TRIGGER, [1, 2])

    async def test_trigger_job_only_for_events_queues_a_turn_for_those_that_came_meanwhile(
        self, jobs: JobScene
    ) -> None:
        await jobs.send(policy=WINDOW)
        await jobs.subject.advance(10.0)
        turn = await jobs.run(WINDOW)
        await jobs.send(policy=WINDOW)
        assert (await jobs.trigger(only_pending=True)).is_queued
        await jobs.commit(turn, policy=WINDOW)
        assert (await jobs.run(WINDOW)).numbers == [2]

    @pytest.mark.parametrize(("way", "attempts"), [("retried", 2), ("released", 1)])
    async def test_trigger_job_only_for_events_brings_a_turn_between_attempts_forward(
        self, jobs: JobScene, way: str, attempts: int
    ) -> None:
        await jobs.send()
        turn = await jobs.run()
        await (jobs.gone(turn.claimed) if way == "released" else jobs.retry(turn, 60.0))
        await jobs.send(policy=WINDOW)
        triggered = await jobs.trigger(only_pending=True)
        assert (triggered.is_queued, triggered.ready_queue, triggered.taken_count) == (False, "default", 1)
        assert triggered.job == await jobs.job()
        again = await jobs.run(WINDOW)
        assert (again.id, again.numbers, again.claimed.attempts) == (turn.id, [1], attempts)
        assert (again.job.turn_cause, again.job.is_triggered) == (TurnCause.EVENTS, False)
        await jobs.commit(again, policy=WINDOW)
        assert await jobs.is_idle()

    async def test_trigger_job_only_for_events_leaves_a_turn_without_any_between_attempts(self, jobs: JobScene) -> None:
        await jobs.start()
        await jobs.retry(await jobs.run(), 60.0)
        before = await jobs.snapshot(SUBJECT)
        assert not (await jobs.trigger(only_pending=True)).is_queued
        assert await jobs.snapshot(SUBJECT) == before

    # --- redrive ---------------------------------------------------------------------------------------------

    async def test_redrive_job_leaves_a_job_that_has_nothing_dead(self, jobs: JobScene) -> None:
        nothing = Triggered(None, False, None)
        assert await jobs.redrive() == nothing
        await jobs.send_all(2)
        await jobs.commit(await jobs.run(ONE))
        before = await jobs.snapshot(SUBJECT)
        assert await jobs.redrive() == nothing
        assert await jobs.snapshot(SUBJECT) == before
        await jobs.storage.end_job(SUBJECT, reason=None)
        assert await jobs.redrive() == nothing

    async def _dead(self, jobs: JobScene, key: JobKey = SUBJECT) -> None:
        """Events 1 and 2 are dead, of a job that is idle."""
        await jobs.send(key, event_id="a")
        await jobs.send(key)
        await jobs.commit(await jobs.run(), events=EventsEnd.DEAD, error=ERROR)

    @pytest.mark.parametrize(("key", "policy"), [(SUBJECT, WINDOW), (OTHER, AT_ONCE)])
    async def test_redrive_job_runs_a_turn_on_the_dead_events(
        self, jobs: JobScene, key: JobKey, policy: TurnPolicy
    ) -> None:
        first_at = await jobs.subject.now()
        await self._dead(jobs, key)
        assert ((await jobs.job(key)).dead_count, await jobs.dead_counts()) == (2, {key: 2})
        await jobs.subject.advance(100.0)
        turn = jobs.make.new_turn(queue="fast")
        redriven = await jobs.storage.redrive_job(key, turn=turn)
        assert (redriven.is_queued, redriven.ready_queue) == (False, "fast")
        job = await jobs.job(key)
        assert (redriven.job, job.turn_id, job.pending_count) == (job, turn.id, 2)
        assert ((await jobs.job(key)).dead_count, await jobs.dead_counts()) == (0, {key: 0})
        assert (job.pending_first_at, job.pending_last_at, job.event_count) == (first_at, first_at, 2)
        assert await jobs.storage.event_end(key, "a") == (1, None, False)
        await jobs.assert_job_sound(key)
        claimed = await jobs.claim_one("turn", queues=["fast"])
        taken = await jobs.take(claimed, policy)
        assert [event.number for event in taken.events] == [1, 2]

    async def test_redrive_job_runs_the_events_of_a_window_that_has_not_ended(self, jobs: JobScene) -> None:
        await self._dead(jobs)
        await jobs.redrive()
        assert (await jobs.run(WINDOW)).numbers == [1, 2]

    async def test_redrive_job_of_a_task_runs_for_the_events_and_not_for_a_trigger(self, jobs: JobScene) -> None:
        await self._dead(jobs, OTHER)
        await jobs.redrive(OTHER)
        turn = await jobs.run(ONE)
        assert (turn.job.turn_cause, turn.numbers) == (TurnCause.EVENTS, [1])

    async def test_redrive_job_puts_dead_events_before_those_that_wait(self, jobs: JobScene) -> None:
        await self._dead(jobs)
        await jobs.send(policy=WINDOW)
        assert (await jobs.redrive()).ready_queue == "default"
        assert await jobs.waiting() == [1, 2, 3]
        turn = await jobs.run(WINDOW)
        assert (turn.numbers, turn.job.pending_count, turn.job.is_triggered) == ([1, 2], 1, False)
        await jobs.commit(turn, policy=WINDOW)
        assert await jobs.is_idle()
        await jobs.subject.advance(10.0)
        assert (await jobs.run(WINDOW)).numbers == [3]

    async def _two_dead_batches(self, jobs: JobScene) -> list[str]:
        """Events 1 and 2, and then 3, 4 and 5 are dead; gives the ids of the turns that failed on them."""
        ids: list[str] = []
        for count in (2, 3):
            await jobs.send_all(count, policy=WINDOW)
            await jobs.trigger()
            turn = await jobs.run(WINDOW)
            assert turn.taken.batch_id == turn.id
            await jobs.commit(turn, events=EventsEnd.DEAD, error=ERROR, policy=WINDOW)
            ids.append(turn.id)
        return ids

    async def test_redrive_job_takes_each_batch_apart_and_under_its_old_id(self, jobs: JobScene) -> None:
        first, second = await self._two_dead_batches(jobs)
        await jobs.send(policy=WINDOW)
        await jobs.redrive()
        for number, (batch_id, events) in enumerate([(first, [1, 2]), (second, [3, 4, 5])]):
            turn = await jobs.run(WINDOW)
            assert (turn.taken.batch_id, turn.numbers) == (batch_id, events)
            assert turn.job.turn_cause is TurnCause.TRIGGER
            assert turn.id not in (first, second)
            assert turn.job.is_triggered is (number == 0)
            await jobs.commit(turn, policy=WINDOW)
            await jobs.assert_job_sound()
        assert await jobs.is_idle()
        await jobs.subject.advance(10.0)
        turn = await jobs.run(WINDOW)
        assert (turn.numbers, turn.taken.batch_id) == ([6], turn.id)

    async def test_redrive_job_takes_a_batch_whole_whatever_a_turn_takes_today(self, jobs: JobScene) -> None:
        await self._two_dead_batches(jobs)
        await jobs.redrive()
        small = WINDOW._replace(max_events=1)
        assert (await jobs.run(small)).numbers == [1, 2]

    async def test_a_batch_that_dies_again_can_be_redriven_again(self, jobs: JobScene) -> None:
        first, second = await self._two_dead_batches(jobs)
        await jobs.redrive()
        await jobs.commit(await jobs.run(WINDOW), events=EventsEnd.DEAD, error=ERROR, policy=WINDOW)
        assert (await jobs.job()).dead_count == 2
        await jobs.redrive()
        taken = [await jobs.run(WINDOW)]
        await jobs.commit(taken[0], policy=WINDOW)
        taken.append(await jobs.run(WINDOW))
        assert [turn.taken.batch_id for turn in taken] == [first, second]

    async def test_clear_job_leaves_what_is_redriven(self, jobs: JobScene) -> None:
        first, _ = await self._two_dead_batches(jobs)
        await jobs.send_all(4, policy=WINDOW)
        await jobs.redrive()
        cleared = await jobs.storage.clear_job(SUBJECT)
        assert cleared is not None
        assert (cleared.goes_on, cleared.discarded_count) == (True, 4)
        assert ((await jobs.job()).pending_count, await jobs.waiting()) == (5, [1, 2, 3, 4, 5])
        await jobs.assert_job_sound()
        assert (await jobs.run(WINDOW)).taken.batch_id == first

    async def test_pause_job_keeps_a_batch_that_was_tried_apart(self, jobs: JobScene) -> None:
        await jobs.send_all(2, policy=WINDOW)
        await jobs.trigger()
        tried = await jobs.run(WINDOW)
        await jobs.retry(tried, 60.0)
        await jobs.send(policy=WINDOW)
        await jobs.storage.pause_job(SUBJECT)
        await jobs.resume()
        turn = await jobs.run(WINDOW)
        assert (turn.taken.batch_id, turn.numbers) == (tried.id, [1, 2])

    async def test_trigger_job_only_for_events_tells_with_how_many_a_turn_begins_again(self, jobs: JobScene) -> None:
        await jobs.send_all(3, policy=FULL)
        turn = await jobs.run(FULL)
        await jobs.send(policy=FULL)
        assert (await jobs.trigger(only_pending=True)).taken_count == 0
        await jobs.retry(turn, 60.0)
        triggered = await jobs.trigger(only_pending=True)
        assert (triggered.is_queued, triggered.taken_count) == (False, 3)

    async def test_redrive_job_while_a_turn_runs_queues_one_more(self, jobs: JobScene) -> None:
        await self._dead(jobs)
        await jobs.send()
        turn = await jobs.run()
        redriven = await jobs.redrive()
        assert (redriven.is_queued, redriven.ready_queue) == (True, None)
        await jobs.commit(turn, policy=WINDOW)
        assert (await jobs.run(WINDOW)).numbers == [1, 2]

    async def test_redrive_job_while_a_turn_is_between_attempts_leaves_it_its_events(self, jobs: JobScene) -> None:
        await self._dead(jobs, OTHER)
        await jobs.send(OTHER)
        turn = await jobs.run(ONE)
        await jobs.retry(turn, 0.0)
        await jobs.redrive(OTHER)
        again = await jobs.run(ONE)
        assert (again.id, again.numbers, again.job.pending_count) == (turn.id, [3], 2)
        await jobs.commit(again, policy=ONE)
        assert (await jobs.run(ONE)).numbers == [1]

    async def test_redrive_job_makes_a_failed_job_active_and_due(self, jobs: JobScene) -> None:
        await jobs.failed(CONTINUOUS)
        redriven = await jobs.redrive(CONTINUOUS)
        assert redriven.job is not None
        assert (redriven.job.status, redriven.ready_queue) == (JobStatus.ACTIVE, "default")
        assert (await jobs.run()).job.turn_cause is TurnCause.TRIGGER

    async def test_redrive_job_twice_redrives_once(self, jobs: JobScene) -> None:
        await self._dead(jobs)
        await jobs.redrive()
        assert await jobs.redrive() == Triggered(None, False, None)
        assert await jobs.waiting() == [1, 2]
