"""Contract of start_job: a key is used by one job at a time, and used again in place."""

from __future__ import annotations

from datetime import timedelta

import pytest

from durable.execution import RECORD_VERSION, Kind, Phase, Status
from durable.job import Job, JobKey, JobKind, JobStatus
from durable.testing.contract.jobs_scene import ONE, OTHER, SUBJECT, TURN, JobCase, JobScene
from durable.testing.contract.scene import ERROR

__all__ = ["JobStartContract"]


class JobStartContract(JobCase):
    async def test_start_job_stores_the_job_whole(self, jobs: JobScene) -> None:
        new = jobs.make.new_job(SUBJECT, state='{"n": 1}', state_version=3, delay=5.0)
        now = await jobs.subject.now()
        started = await jobs.storage.start_job(new)
        assert started.is_new
        assert started.job == Job(
            id=new.id, kind=JobKind.DEBOUNCE, name="name", key="key", epoch=1, status=JobStatus.ACTIVE, reason=None,
            state='{"n": 1}', state_version=3, turn_id=new.turn.id, turn_cause=None, turn_slot=None,
            turn_began_at=None,
            is_triggered=False, scheduled_at=now + timedelta(seconds=5), run_count=0, execute_count=0, event_count=0,
            pending_count=0, pending_first_at=None, pending_last_at=None, error=None, created_at=now, updated_at=now,
            ended_at=None, dead_count=0,
        )  # fmt: skip
        assert await jobs.job() == started.job
        await jobs.assert_job_sound()

    async def test_start_job_inserts_its_first_turn_as_an_execution(self, jobs: JobScene) -> None:
        turn = jobs.make.new_turn(
            task_name="mine", task_version=4, queue="slow", priority=2, max_attempts=7, timeout=1.5
        )
        job = await jobs.start(turn=turn, delay=5.0)
        record, now = await jobs.get(turn.id), await jobs.subject.now()
        assert (record.kind, record.status, record.phase) == (Kind.TURN, Status.READY, Phase.RUN)
        assert (record.root_id, record.parent_id, record.child_index, record.depth) == (job.id, None, None, 0)
        assert (record.task_name, record.task_version, record.queue, record.priority) == ("mine", 4, "slow", 2)
        assert (record.input, record.retry, record.idempotency_key, record.sleeping_id) == ("{}", None, None, None)
        assert (record.max_attempts, record.max_deliveries, record.timeout) == (7, 2147483647, 1.5)
        assert (record.delay, record.due_at, record.created_at) == (0.0, now + timedelta(seconds=5), now)
        assert (record.record_version, record.fence, record.attempts) == (RECORD_VERSION, 0, 0)

    async def test_start_job_plans_the_first_turn_at_a_moment_that_wins_over_the_delay(self, jobs: JobScene) -> None:
        moment = await jobs.subject.now() + timedelta(hours=1)
        job = await jobs.start(run_at=moment, delay=5.0)
        assert (job.scheduled_at, (await jobs.view()).turn_due_at) == (moment, moment)

    async def test_start_job_takes_a_moment_that_has_passed_for_now(self, jobs: JobScene) -> None:
        now = await jobs.subject.now()
        job = await jobs.start(run_at=now - timedelta(hours=1))
        assert (job.scheduled_at, (await jobs.view()).turn_due_at) == (now, now)

    async def test_start_job_stores_a_job_without_state(self, jobs: JobScene) -> None:
        assert (await jobs.start(state=None)).state is None

    async def test_start_job_leaves_a_living_job_unchanged(self, jobs: JobScene) -> None:
        first = await jobs.start(state="1")
        before = await jobs.snapshot(SUBJECT)
        started = await jobs.storage.start_job(jobs.make.new_job(SUBJECT, state="2", delay=9.0))
        assert (started.is_new, started.job) == (False, first)
        assert await jobs.snapshot(SUBJECT) == before

    @pytest.mark.parametrize("status", [JobStatus.PAUSED, JobStatus.FAILED])
    async def test_start_job_leaves_a_paused_or_failed_job_unchanged(self, jobs: JobScene, status: JobStatus) -> None:
        if status is JobStatus.FAILED:
            await jobs.failed()
        else:
            await jobs.start()
            await jobs.storage.pause_job(SUBJECT)
        before = await jobs.job()
        started = await jobs.storage.start_job(jobs.make.new_job(SUBJECT, state="2"))
        assert (started.is_new, started.job.status, started.job) == (False, status, before)

    async def test_start_job_leaves_a_job_that_an_event_has_made(self, jobs: JobScene) -> None:
        sent = await jobs.send()
        started = await jobs.storage.start_job(jobs.make.new_job(SUBJECT, state="2"))
        assert (started.is_new, started.job.id, started.job.state) == (False, sent.job_id, None)

    async def test_start_job_keeps_kinds_names_and_keys_apart(self, jobs: JobScene) -> None:
        keys = [
            SUBJECT, SUBJECT._replace(key="another"), SUBJECT._replace(name="another"),
            SUBJECT._replace(kind=JobKind.TASK), JobKey(JobKind.TASK, "name:key", "key"),
            JobKey(JobKind.TASK, "name", "key:key"),
        ]  # fmt: skip
        ids = {(await jobs.start(key)).id for key in keys}
        assert len(ids) == len(keys)

    # --- a key that is used again ----------------------------------------------------------------------------

    async def test_start_job_uses_the_key_of_an_ended_job_again_in_place(self, jobs: JobScene) -> None:
        first = await jobs.start(state='"old"')
        await jobs.send_all(3)
        await jobs.commit(await jobs.run(ONE), error=ERROR, runs=4, executes=2)
        await jobs.storage.end_job(SUBJECT, reason="enough")
        now = await jobs.later(5.0)
        new = jobs.make.new_job(SUBJECT, state='"new"', state_version=2)
        started = await jobs.storage.start_job(new)
        assert started.is_new
        assert started.job == Job(
            id=first.id, kind=JobKind.DEBOUNCE, name="name", key="key", epoch=2, status=JobStatus.ACTIVE, reason=None,
            state='"new"', state_version=2, turn_id=new.turn.id, turn_cause=None, turn_slot=None,
            turn_began_at=None,
            is_triggered=False, scheduled_at=now, run_count=0, execute_count=0, event_count=0, pending_count=0,
            pending_first_at=None, pending_last_at=None, error=None, created_at=now, updated_at=now, ended_at=None,
            dead_count=0,
        )  # fmt: skip
        assert await jobs.job() == started.job
        await jobs.assert_job_sound()

    async def test_start_job_gives_each_incarnation_an_epoch_of_its_own(self, jobs: JobScene) -> None:
        epochs: list[int] = []
        for _ in range(3):
            epochs.append((await jobs.start()).epoch)
            await jobs.storage.end_job(SUBJECT, reason=None)
        assert epochs == [1, 2, 3]

    async def test_start_job_after_a_clear_begins_anew(self, jobs: JobScene) -> None:
        first = await jobs.start()
        await jobs.storage.clear_job(SUBJECT)
        again = await jobs.start()
        assert (again.id, again.epoch, again.status) == (first.id, 2, JobStatus.ACTIVE)

    async def test_start_job_of_an_ended_key_runs_its_own_turn_only(self, jobs: JobScene) -> None:
        await jobs.start()
        await jobs.storage.end_job(SUBJECT, reason=None)
        again = await jobs.start()
        turn = await jobs.run()
        assert (turn.id, turn.job.epoch) == (again.turn_id, 2)

    async def test_start_job_in_a_rolled_back_transaction_leaves_nothing(self, jobs: JobScene) -> None:
        async with jobs.subject.rolled_back() as connection:
            started = await jobs.storage.start_job(jobs.make.new_job(OTHER)).await_on(connection)
            assert started.is_new
        is_there = (await jobs.storage.get_jobs([OTHER])) != [None]
        assert is_there is not jobs.subject.has_transactions
        assert bool(await jobs.claim(TURN)) is is_there
