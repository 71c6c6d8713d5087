"""Contract of retire about jobs: turns go like trees of their own, ended jobs with their inboxes, live ones never."""

from __future__ import annotations

import pytest

from durable.execution import CancelResult, Kind, Retired, Status
from durable.job import EventsEnd, JobKey, JobKind, JobStatus
from durable.testing.contract.jobs_scene import OTHER, SUBJECT, TURN, JobCase, JobScene
from durable.testing.contract.scene import ERROR
from durable.testing.contract.together import together
from durable.transitions import fail

__all__ = ["JobRetireContract"]

AGE = 100.0
LONG = 1e6
"""Longer than anything is kept here."""


async def retire_all(jobs: JobScene, *, limit: int = 1_000) -> tuple[int, int]:
    """Every page; gives how many executions and how many jobs went."""
    page = await jobs.storage.retire(older_than=AGE, limit=limit)
    executions, ended = page.deleted, page.deleted_jobs
    while page.last_id is not None:
        page = await jobs.storage.retire(older_than=AGE, limit=limit, after=page.last_id)
        executions, ended = executions + page.deleted, ended + page.deleted_jobs
    return executions, ended


class JobRetireContract(JobCase):
    async def test_retire_deletes_the_turns_of_a_live_job_and_keeps_the_job(self, jobs: JobScene) -> None:
        await jobs.idle()
        before = await jobs.view()
        await jobs.subject.advance(AGE - 0.001)
        assert await jobs.storage.retire(older_than=AGE, limit=9) == Retired(0, None)
        await jobs.subject.advance(0.001)
        assert await jobs.storage.retire(older_than=AGE, limit=9) == Retired(1, None)
        assert await jobs.turns_of(before.job.id) == []
        assert await jobs.view() == before

    async def test_retire_keeps_a_turn_that_waits_however_old_it_is(self, jobs: JobScene) -> None:
        job = await jobs.start(delay=LONG)
        await jobs.subject.advance(AGE * 9)
        assert await retire_all(jobs) == (0, 0)
        assert [turn.id for turn in await jobs.turns_of(job.id)] == [job.turn_id]

    async def test_retire_keeps_a_turn_that_has_ended_while_its_job_names_it(self, jobs: JobScene) -> None:
        job = await jobs.start()
        turn = await jobs.run()
        await jobs.storage.settle([fail(turn.claimed, ERROR, retry_delay=None)])
        assert (await jobs.job()).turn_id == turn.id
        await jobs.subject.advance(AGE)
        assert await retire_all(jobs) == (0, 0)
        assert [(kept.id, kept.status) for kept in await jobs.turns_of(job.id)] == [(turn.id, Status.FAILED)]

    async def test_retire_keeps_dead_events_and_the_turn_in_which_they_died(self, jobs: JobScene) -> None:
        await jobs.send(event_id="a")
        turn = await jobs.run()
        await jobs.commit(turn, status=JobStatus.FAILED, error=ERROR, events=EventsEnd.DEAD)
        await jobs.subject.advance(AGE)
        assert await retire_all(jobs) == (0, 0)
        end = await jobs.storage.event_end(SUBJECT, "a")
        assert end is not None
        assert end.turn_id == turn.id
        assert (await jobs.get(turn.id)).status is Status.COMPLETED
        assert (await jobs.redrive()).job is not None
        assert await retire_all(jobs) == (1, 0)
        assert await jobs.storage.existing([turn.id]) == frozenset()
        assert await jobs.waiting() == [1]
        await jobs.assert_job_sound()

    @pytest.mark.parametrize("is_cleared", [False, True])
    async def test_retire_deletes_a_job_that_ended_exactly_so_long_ago(self, jobs: JobScene, is_cleared: bool) -> None:
        await jobs.send(event_id="known", dedupe_window=LONG)
        await jobs.commit(await jobs.run())
        await jobs.send()
        if is_cleared:
            await jobs.storage.clear_job(SUBJECT)
        else:
            await jobs.storage.end_job(SUBJECT, reason="over")
        await jobs.subject.advance(AGE - 0.001)
        assert await retire_all(jobs) == (0, 0)
        await jobs.subject.advance(0.001)
        assert await retire_all(jobs) == (2, 1)
        assert await jobs.storage.get_jobs([SUBJECT]) == [None]
        assert await jobs.storage.event_end(SUBJECT, "known") is None
        assert await jobs.everything() == {}

    async def test_retire_leaves_jobs_that_live_whatever_their_status(self, jobs: JobScene) -> None:
        paused, idle = JobKey(JobKind.TASK, "name", "paused"), JobKey(JobKind.TASK, "name", "idle")
        await jobs.failed()
        await jobs.idle(idle)
        await jobs.start(paused)
        await jobs.storage.pause_job(paused)
        await jobs.subject.advance(AGE * 9)
        assert (await retire_all(jobs))[1] == 0
        statuses = [view and view.job.status for view in await jobs.storage.get_jobs([SUBJECT, paused, idle])]
        assert statuses == [JobStatus.FAILED, JobStatus.PAUSED, JobStatus.ACTIVE]

    async def test_retire_leaves_a_key_that_is_used_again(self, jobs: JobScene) -> None:
        await jobs.start()
        await jobs.storage.end_job(SUBJECT, reason=None)
        await jobs.subject.advance(AGE)
        again = await jobs.start(delay=LONG)
        assert await retire_all(jobs) == (1, 0)
        assert await jobs.job() == again

    async def test_retire_makes_a_key_new_again(self, jobs: JobScene) -> None:
        before = await jobs.start()
        await jobs.send(OTHER)
        for key in (SUBJECT, OTHER):
            await jobs.storage.end_job(key, reason=None)
        await jobs.subject.advance(AGE)
        assert (await retire_all(jobs))[1] == 2
        after = await jobs.start()
        assert (after.id != before.id, after.epoch) == (True, 1)
        assert (await jobs.send(OTHER)).number == 1
        await jobs.assert_job_sound()
        await jobs.assert_job_sound(OTHER)

    async def test_retire_has_pages_enough_for_all_ended_jobs(self, jobs: JobScene) -> None:
        keys = [JobKey(JobKind.DEBOUNCE, "name", str(number)) for number in range(5)]
        for key in keys:
            await jobs.send(key)
            await jobs.storage.end_job(key, reason=None)
        await jobs.subject.advance(AGE)
        page = await jobs.storage.retire(older_than=AGE, limit=2)
        assert (page.deleted, page.deleted_jobs) == (2, 2)
        assert await retire_all(jobs, limit=2) == (3, 3)
        assert await jobs.storage.get_jobs(keys) == [None] * 5

    async def test_retire_beside_senders_loses_no_event(self, jobs: JobScene) -> None:
        keys = [JobKey(JobKind.DEBOUNCE, "name", str(number)) for number in range(40)]
        await jobs.storage.append_events([jobs.make.event(key) for key in keys])
        for key in keys:
            await jobs.storage.end_job(key, reason=None)
        await jobs.subject.advance(AGE)
        sends = [jobs.storage.append_events([jobs.make.event(key) for key in keys[first::4]]) for first in range(4)]
        retires = [handle.retire(older_than=AGE, limit=7) for handle in [*jobs.subject.handles] * 2]
        await together(*sends, *retires)
        for key in keys:
            assert await jobs.waiting(key) == [1]
            await jobs.assert_job_sound(key)

    # --- cancel ----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("may_finish", [False, True])
    @pytest.mark.parametrize("is_running", [False, True])
    async def test_cancel_leaves_turns_to_their_jobs(self, jobs: JobScene, may_finish: bool, is_running: bool) -> None:
        await jobs.start()
        turn_id = (await jobs.run()).id if is_running else (await jobs.job()).turn_id
        assert turn_id is not None
        status = Status.RUNNING if is_running else Status.READY
        task = await jobs.enqueue()
        before = await jobs.get(turn_id)
        assert before.kind is Kind.TURN
        (result,) = await jobs.storage.cancel([turn_id], reason="enough", may_finish=may_finish)
        assert result == CancelResult(turn_id, status, False, False, True)
        assert result.outcome == "turn_of_job"
        until = await jobs.later(1.0)
        found = await jobs.storage.cancel_all(before=until, limit=9, reason="enough", may_finish=may_finish)
        assert found == [CancelResult(task, Status.READY, True)]
        assert await jobs.storage.cancel_all(
            before=until, task_name=TURN, limit=9, reason="enough", may_finish=may_finish
        ) == []  # fmt: skip
        assert await jobs.get(turn_id) == before
        await jobs.assert_job_sound()
