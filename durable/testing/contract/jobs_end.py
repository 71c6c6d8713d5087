"""Contract of end_job and clear_job; and that the verbs of executions leave the turns of jobs alone."""

from __future__ import annotations

import pytest

from durable.execution import CancelResult, Execution, Status
from durable.job import EventsEnd, Job, JobStatus, TurnPolicy
from durable.testing.contract.jobs_scene import FULL, ONE, SUBJECT, WINDOW, JobCase, JobScene
from durable.testing.contract.scene import ERROR, EXECUTOR

__all__ = ["JobEndContract"]


class JobEndContract(JobCase):
    async def test_end_job_gives_the_job_as_it_was(self, jobs: JobScene) -> None:
        job = await jobs.start(delay=60.0)
        assert await jobs.storage.end_job(SUBJECT, reason="enough") == job

    async def test_end_job_gives_none_where_none_lives(self, jobs: JobScene) -> None:
        assert await jobs.storage.end_job(SUBJECT, reason="first") is None
        await jobs.start()
        await jobs.storage.end_job(SUBJECT, reason="second")
        before = await jobs.snapshot(SUBJECT)
        assert await jobs.storage.end_job(SUBJECT, reason="third") is None
        assert await jobs.snapshot(SUBJECT) == before

    @pytest.mark.parametrize("reason", ["enough", None])
    async def test_end_job_leaves_a_tombstone_whose_state_can_be_read(self, jobs: JobScene, reason: str | None) -> None:
        job = await jobs.start(state='"kept"', state_version=2)
        await jobs.send_all(3)
        await jobs.commit(await jobs.run(ONE), runs=2, executes=1, error=ERROR)
        now = await jobs.later(5.0)
        await jobs.storage.end_job(SUBJECT, reason=reason)
        view = await jobs.view()
        assert view[1:] == (None, None, None, None, 0)
        assert view.job == Job(
            id=job.id, kind=SUBJECT.kind, name="name", key="key", epoch=2, status=JobStatus.TERMINATED, reason=reason,
            state='"kept"', state_version=2, turn_id=None, turn_cause=None, turn_slot=None,
            turn_began_at=None, is_triggered=False,
            scheduled_at=None, run_count=2, execute_count=1, event_count=3, pending_count=0, pending_first_at=None,
            pending_last_at=None, error=ERROR, created_at=job.created_at, updated_at=view.job.updated_at, ended_at=now,
            dead_count=0,
        )  # fmt: skip
        await jobs.assert_job_sound()

    async def test_end_job_throws_all_events_away_but_remembers_those_that_were_consumed(self, jobs: JobScene) -> None:
        turn_id = ""
        for name, end in (("dead", EventsEnd.DEAD), ("consumed", EventsEnd.CONSUMED)):
            await jobs.send(event_id=name)
            turn = await jobs.run()
            turn_id = turn.id
            await jobs.commit(turn, events=end)
        await jobs.send(event_id="taken")
        await jobs.run()
        await jobs.send(event_id="pending")
        await jobs.storage.end_job(SUBJECT, reason=None)
        assert await jobs.waiting() == []
        ends = [await jobs.storage.event_end(SUBJECT, name) for name in ("dead", "consumed", "taken", "pending")]
        assert ends == [None, (2, turn_id, True), None, None]
        assert (await jobs.job()).dead_count == 0

    async def test_an_event_that_was_handled_before_an_end_from_outside_is_no_reason_to_begin_anew(
        self, jobs: JobScene
    ) -> None:
        await self._handled(jobs)
        await jobs.storage.end_job(SUBJECT, reason=None)
        await self._assert_remembered(jobs, JobStatus.TERMINATED)

    async def test_an_id_is_remembered_beside_the_incarnation_after_an_end_from_outside(self, jobs: JobScene) -> None:
        await self._handled(jobs)
        await jobs.storage.end_job(SUBJECT, reason=None)
        assert (await jobs.send(event_id="b")).number == 1
        assert (await jobs.send(event_id="a")).is_duplicate
        assert await jobs.waiting() == [1]
        await jobs.subject.advance(60.0)
        accepted = await jobs.send(event_id="a")
        assert (accepted.is_duplicate, accepted.number) == (False, 2)
        await jobs.assert_job_sound()

    async def test_an_id_that_an_end_from_outside_has_left_is_forgotten_in_time(self, jobs: JobScene) -> None:
        await self._handled(jobs)
        await jobs.storage.end_job(SUBJECT, reason=None)
        assert await jobs.storage.forget_events(limit=9) == 0
        await jobs.subject.advance(60.0)
        assert await jobs.storage.forget_events(limit=9) == 1

    async def _handled(self, jobs: JobScene) -> None:
        """A job that has handled the event `a`, whose id is remembered for a minute."""
        await jobs.send(event_id="a", dedupe_window=60.0)
        await jobs.commit(await jobs.run())

    async def _assert_remembered(self, jobs: JobScene, status: JobStatus) -> None:
        before = await jobs.snapshot(SUBJECT)
        repeated = await jobs.send(event_id="a")
        assert (repeated.number, repeated.is_duplicate, repeated.is_new_job) == (1, True, False)
        assert await jobs.snapshot(SUBJECT) == before
        assert (await jobs.job()).status is status

    async def test_end_job_cancels_a_turn_that_waits(self, jobs: JobScene) -> None:
        job = await jobs.start()
        await jobs.storage.end_job(SUBJECT, reason="enough")
        (record,) = await jobs.turns_of(job.id)
        assert (record.status, record.reason, record.needs_cancel) == (Status.CANCELLED, "job_ended", False)
        assert await jobs.is_idle()

    async def test_end_job_cancels_a_turn_that_runs_and_tells_its_executor(self, jobs: JobScene) -> None:
        await jobs.start()
        turn = await jobs.run()
        await jobs.storage.end_job(SUBJECT, reason=None)
        record = await jobs.get(turn.id)
        assert (record.status, record.reason, record.fence) == (Status.CANCELLED, "job_ended", turn.claimed.fence + 1)
        assert await jobs.storage.pick_up_cancelled(executor_id=EXECUTOR, limit=9) == [turn.id]

    async def test_end_job_ends_a_paused_and_a_failed_job(self, jobs: JobScene) -> None:
        await jobs.start()
        await jobs.storage.pause_job(SUBJECT)
        before = await jobs.storage.end_job(SUBJECT, reason=None)
        assert before is not None
        assert before.status is JobStatus.PAUSED
        await jobs.failed()
        before = await jobs.storage.end_job(SUBJECT, reason=None)
        assert before is not None
        assert before.status is JobStatus.FAILED
        assert (await jobs.job()).status is JobStatus.TERMINATED

    # --- clear -----------------------------------------------------------------------------------------------

    async def test_clear_job_ends_a_job_whose_events_no_turn_has_taken(self, jobs: JobScene) -> None:
        sent = (await jobs.send_all(2, policy=WINDOW))[-1]
        before = await jobs.job()
        now = await jobs.later(1.0)
        assert await jobs.storage.clear_job(SUBJECT) == (before, False, before.pending_count)
        job = await jobs.job()
        assert (job.status, job.reason, job.epoch, job.ended_at) == (JobStatus.CLEARED, None, 2, now)
        assert (job.turn_id, job.pending_count, await jobs.waiting()) == (None, 0, [])
        (record,) = await jobs.turns_of(sent.job_id)
        assert (record.status, record.reason) == (Status.CANCELLED, "job_cleared")
        await jobs.assert_job_sound()

    async def test_clear_job_gives_none_where_none_lives(self, jobs: JobScene) -> None:
        assert await jobs.storage.clear_job(SUBJECT) is None
        await jobs.send()
        await jobs.storage.clear_job(SUBJECT)
        assert await jobs.storage.clear_job(SUBJECT) is None

    async def test_clear_job_lets_a_turn_go_on_that_runs_on_events(self, jobs: JobScene) -> None:
        await jobs.send_all(3, policy=FULL)
        turn = await jobs.run(FULL)
        await jobs.send_all(2, policy=FULL, event_id=None)
        before = await jobs.job()
        assert await jobs.storage.clear_job(SUBJECT) == (before, True, before.pending_count)
        job = await jobs.job()
        assert (job.status, job.epoch, job.turn_id) == (JobStatus.ACTIVE, 1, turn.id)
        assert (job.pending_count, job.pending_first_at, job.pending_last_at) == (0, None, None)
        assert await jobs.waiting() == [1, 2, 3]
        await jobs.commit(turn, policy=FULL)
        assert (await jobs.job()).turn_id is None
        assert (await jobs.send()).number == 6

    async def test_clear_job_lets_a_turn_go_on_that_is_between_attempts(self, jobs: JobScene) -> None:
        await jobs.send()
        turn = await jobs.run()
        await jobs.retry(turn, 5.0)
        before = await jobs.job()
        assert await jobs.storage.clear_job(SUBJECT) == (before, True, before.pending_count)
        await jobs.subject.advance(5.0)
        assert (await jobs.run()).numbers == [1]

    async def test_clear_job_lets_a_turn_go_on_that_was_brought_forward_with_its_events(self, jobs: JobScene) -> None:
        await jobs.send()
        await jobs.retry(await jobs.run(), 5.0)
        await jobs.trigger(only_pending=True)
        before = await jobs.job()
        assert await jobs.storage.clear_job(SUBJECT) == (before, True, before.pending_count)
        assert (await jobs.run()).numbers == [1]

    async def test_clear_job_forgets_the_ids_of_what_it_throws_away(self, jobs: JobScene) -> None:
        await jobs.send(event_id="a")
        await jobs.run()
        await jobs.send(event_id="b")
        await jobs.storage.clear_job(SUBJECT)
        assert await jobs.storage.event_end(SUBJECT, "b") is None
        assert [(await jobs.send(event_id=name)).is_duplicate for name in ("a", "b")] == [True, False]

    async def test_clear_job_remembers_the_ids_of_what_was_handled(self, jobs: JobScene) -> None:
        await self._handled(jobs)
        await jobs.send(event_id="open")
        await jobs.storage.clear_job(SUBJECT)
        assert await jobs.storage.event_end(SUBJECT, "open") is None
        await self._assert_remembered(jobs, JobStatus.CLEARED)

    async def test_clear_job_leaves_dead_events_to_a_job_that_lives_on(self, jobs: JobScene) -> None:
        await jobs.send(payload='"dead"')
        await jobs.commit(await jobs.run(), events=EventsEnd.DEAD, error=ERROR)
        await jobs.send(payload='"open"', policy=WINDOW)
        await jobs.trigger()
        before = await jobs.job()
        assert before.pending_count == 1
        assert await jobs.storage.clear_job(SUBJECT) == (before, False, before.pending_count)
        view = await jobs.view()
        job = view.job
        assert (job.status, job.epoch, job.turn_id, job.dead_count) == (JobStatus.ACTIVE, 1, None, 1)
        assert await jobs.waiting() == []
        assert await jobs.status_of(str(before.turn_id)) is Status.CANCELLED
        await jobs.assert_job_sound()
        await jobs.redrive()
        assert [event.payload for event in (await jobs.run(WINDOW)).taken.events] == ['"dead"']

    async def test_clear_job_changes_nothing_for_a_job_that_has_only_dead_events(self, jobs: JobScene) -> None:
        await jobs.send()
        await jobs.commit(await jobs.run(), events=EventsEnd.DEAD, error=ERROR)
        before = await jobs.job()
        assert await jobs.storage.clear_job(SUBJECT) == (before, False, before.pending_count)
        assert (await jobs.job())._replace(updated_at=before.updated_at) == before
        assert (await jobs.send()).number == 2
        await jobs.assert_job_sound()

    async def test_clear_job_cancels_a_turn_that_was_claimed_and_has_taken_none(self, jobs: JobScene) -> None:
        await jobs.send()
        claimed = await jobs.claim_one("turn")
        before = await jobs.job()
        assert await jobs.storage.clear_job(SUBJECT) == (before, False, before.pending_count)
        assert await jobs.status_of(claimed.id) is Status.CANCELLED
        assert await jobs.storage.pick_up_cancelled(executor_id=EXECUTOR, limit=9) == [claimed.id]

    async def test_clear_job_refuses_the_commit_of_the_turn_it_cancelled(self, jobs: JobScene) -> None:
        await jobs.start()
        turn = await jobs.run()
        await jobs.storage.clear_job(SUBJECT)
        assert (await jobs.storage.settle([jobs.end(turn)])).accepted == frozenset()
        assert (await jobs.job()).run_count == 0

    # --- the verbs of executions -----------------------------------------------------------------------------

    @pytest.mark.parametrize("is_running", [False, True])
    async def test_cancel_leaves_the_turn_of_a_job(self, jobs: JobScene, is_running: bool) -> None:
        turn_id = str((await jobs.start()).turn_id)
        if is_running:
            await jobs.run(TurnPolicy())
        plain = await jobs.enqueue()
        before = await jobs.get(turn_id)
        status = Status.RUNNING if is_running else Status.READY
        assert await jobs.storage.cancel([turn_id, plain], reason="cancelled") == [
            CancelResult(turn_id, status, False, is_turn=True), CancelResult(plain, Status.READY, True),
        ]  # fmt: skip
        assert await jobs.get(turn_id) == before

    async def test_redrive_leaves_the_turn_of_a_job(self, jobs: JobScene) -> None:
        await jobs.start()
        await jobs.storage.end_job(SUBJECT, reason=None)
        await jobs.failed()
        turns: list[Execution] = await jobs.turns_of((await jobs.job()).id)
        assert {turn.status for turn in turns} == {Status.CANCELLED, Status.COMPLETED}
        assert await jobs.storage.redrive([turn.id for turn in turns]) == []
        assert await jobs.turns_of((await jobs.job()).id) == turns

    async def test_recover_gives_the_turn_of_a_job_to_another_as_often_as_it_takes(self, jobs: JobScene) -> None:
        await jobs.send()
        for _ in range(8):
            turn = await jobs.run()
            await jobs.subject.advance(15.0)
            (recovered,) = await jobs.storage.recover(limit=9)
            assert (recovered.id, recovered.status) == (turn.id, Status.READY)
        assert (await jobs.run()).numbers == [1]
