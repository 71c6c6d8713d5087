"""Contract of what can be read of jobs and their events, and of what is forgotten."""

from __future__ import annotations

from datetime import timedelta

import pytest

from durable.execution import Status
from durable.job import EventEnd, EventsEnd, JobFilter, JobKey, JobKind, JobStatus
from durable.testing.contract.jobs_scene import ONE, OTHER, SUBJECT, WINDOW, JobCase, JobScene
from durable.testing.contract.scene import ERROR

__all__ = ["JobLookContract"]

ALL = 1_000


def key(kind: JobKind, name: str, key: str) -> JobKey:
    return JobKey(kind, name, key)


KEYS = [
    key(JobKind.CONTINUOUS, "a", "1"),
    key(JobKind.CONTINUOUS, "b", "1"),
    key(JobKind.DEBOUNCE, "a", "1"),
    key(JobKind.DEBOUNCE, "a", "2"),
    key(JobKind.TASK, "a", "1"),
    key(JobKind.TASK, "c", "1"),
]
"""In the order in which they are listed."""


class JobLookContract(JobCase):
    # --- get -------------------------------------------------------------------------------------------------

    async def test_get_jobs_gives_them_in_the_order_of_keys(self, jobs: JobScene) -> None:
        for each in (SUBJECT, OTHER):
            await jobs.start(each)
        unknown = SUBJECT._replace(key="unknown")
        views = await jobs.storage.get_jobs([OTHER, unknown, SUBJECT, OTHER])
        assert [view and view.job.job_key for view in views] == [OTHER, None, SUBJECT, OTHER]

    async def test_get_jobs_of_nothing_gives_nothing(self, jobs: JobScene) -> None:
        assert await jobs.storage.get_jobs([]) == []

    async def test_get_jobs_shows_what_the_live_turn_is_doing(self, jobs: JobScene) -> None:
        job = await jobs.start(delay=5.0)
        assert await jobs.view() == (job, Status.READY, job.scheduled_at, 0, None, 0)
        await jobs.subject.advance(5.0)
        turn = await jobs.run()
        assert await jobs.view() == (turn.job, Status.RUNNING, job.scheduled_at, 1, None, 0)
        await jobs.retry(turn, 3.0)
        retried_at = await jobs.subject.now() + timedelta(seconds=3)
        assert await jobs.view() == (turn.job, Status.READY, retried_at, 1, ERROR, 0)

    async def test_get_jobs_shows_no_turn_where_there_is_none(self, jobs: JobScene) -> None:
        job = await jobs.idle()
        assert await jobs.view() == (job, None, None, None, None, 0)

    async def test_get_jobs_shows_an_ended_job_until_its_key_is_used_again(self, jobs: JobScene) -> None:
        await jobs.start(state='"old"')
        await jobs.storage.end_job(SUBJECT, reason="enough")
        assert ((await jobs.job()).status, (await jobs.job()).state) == (JobStatus.TERMINATED, '"old"')
        await jobs.start(state='"new"')
        assert ((await jobs.job()).status, (await jobs.job()).state) == (JobStatus.ACTIVE, '"new"')

    @pytest.mark.parametrize("odd", ["", "a:b", "ü 😀", "%_\\", "'", '"', "x" * 200])
    async def test_get_jobs_finds_odd_keys_and_names(self, jobs: JobScene, odd: str) -> None:
        wanted = JobKey(JobKind.TASK, f"n{odd}", f"k{odd}")
        job = await jobs.start(wanted)
        assert (job.job_key, (await jobs.job(wanted)).job_key) == (wanted, wanted)

    # --- list ------------------------------------------------------------------------------------------------

    async def _listed(self, jobs: JobScene, where: JobFilter, *, limit: int = ALL) -> list[JobKey]:
        listed = [view.job.job_key for view in await jobs.storage.list_jobs(where, limit=limit)]
        assert limit < ALL or await jobs.storage.count_jobs(where) == len(listed)
        return listed

    async def test_list_jobs_orders_them_by_kind_name_and_key(self, jobs: JobScene) -> None:
        for each in reversed(KEYS):
            await jobs.start(each)
        assert await self._listed(jobs, JobFilter()) == KEYS

    async def test_list_jobs_gives_pages(self, jobs: JobScene) -> None:
        for each in KEYS:
            await jobs.start(each)
        pages: list[list[JobKey]] = []
        after: JobKey | None = None
        while page := await jobs.storage.list_jobs(JobFilter(), limit=4, after=after):
            pages.append([view.job.job_key for view in page])
            after = page[-1].job.job_key
        assert pages == [KEYS[:4], KEYS[4:]]

    async def test_list_jobs_goes_on_after_a_key_that_is_not_there(self, jobs: JobScene) -> None:
        for each in KEYS:
            await jobs.start(each)
        after = key(JobKind.DEBOUNCE, "a", "11")
        page = await jobs.storage.list_jobs(JobFilter(), limit=2, after=after)
        assert [view.job.job_key for view in page] == KEYS[3:5]

    async def test_list_jobs_shows_what_their_turns_are_doing(self, jobs: JobScene) -> None:
        await jobs.start(delay=9.0)
        assert await jobs.storage.list_jobs(JobFilter(), limit=9) == [await jobs.view()]

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            (JobFilter(kind=JobKind.DEBOUNCE), KEYS[2:4]),
            (JobFilter(name="a"), [KEYS[0], KEYS[2], KEYS[3], KEYS[4]]),
            (JobFilter(kind=JobKind.TASK, name="c"), [KEYS[5]]),
            (JobFilter(key_prefix="2"), [KEYS[3]]),
            (JobFilter(key_prefix=""), KEYS),
            (JobFilter(key_prefix="3"), []),
            (JobFilter(statuses=()), []),
            (JobFilter(kinds=(JobKind.TASK, JobKind.CONTINUOUS)), [*KEYS[:2], *KEYS[4:]]),
            (JobFilter(kinds=()), []),
        ],
    )
    async def test_list_jobs_and_count_jobs_show_what_is_asked_for(
        self, jobs: JobScene, where: JobFilter, expected: list[JobKey]
    ) -> None:
        for each in KEYS:
            await jobs.start(each)
        assert await self._listed(jobs, where) == expected

    async def test_list_jobs_takes_a_prefix_as_it_stands(self, jobs: JobScene) -> None:
        for text in ("a_b", "axb", "a%b", "a\\b", "a"):
            await jobs.start(key(JobKind.TASK, "n", text))
        for prefix in ("a_", "a%", "a\\"):
            assert await self._listed(jobs, JobFilter(key_prefix=prefix)) == [key(JobKind.TASK, "n", f"{prefix}b")]

    async def _in_every_status(self, jobs: JobScene) -> dict[JobStatus, JobKey]:
        keys = {status: key(JobKind.TASK, "n", status.value) for status in JobStatus}
        await jobs.failed(keys[JobStatus.FAILED])
        for status in JobStatus:
            if status is not JobStatus.FAILED:
                await jobs.start(keys[status])
        await jobs.storage.pause_job(keys[JobStatus.PAUSED])
        await jobs.storage.end_job(keys[JobStatus.TERMINATED], reason=None)
        await jobs.storage.clear_job(keys[JobStatus.CLEARED])
        return keys

    async def test_list_jobs_and_count_jobs_leave_out_ended_ones_unless_asked(self, jobs: JobScene) -> None:
        keys = await self._in_every_status(jobs)
        living = [keys[status] for status in (JobStatus.ACTIVE, JobStatus.FAILED, JobStatus.PAUSED)]
        assert await self._listed(jobs, JobFilter()) == living
        for status in JobStatus:
            assert await self._listed(jobs, JobFilter(statuses=(status,))) == [keys[status]]
        ends = (JobStatus.TERMINATED, JobStatus.CLEARED)
        assert await self._listed(jobs, JobFilter(statuses=ends)) == [keys[status] for status in sorted(ends)]

    async def test_list_jobs_and_count_jobs_tell_those_with_a_turn_from_those_without(self, jobs: JobScene) -> None:
        await jobs.idle(SUBJECT)
        await jobs.start(OTHER, delay=60.0)
        assert await self._listed(jobs, JobFilter(has_turn=True)) == [OTHER]
        assert await self._listed(jobs, JobFilter(has_turn=False)) == [SUBJECT]

    async def test_list_jobs_and_count_jobs_tell_those_with_dead_events_from_those_without(
        self, jobs: JobScene
    ) -> None:
        ended = key(JobKind.TASK, "c", "ended")
        for each in (OTHER, SUBJECT, ended):
            await jobs.send_all(3, each)
            status = JobStatus.TERMINATED if each is ended else JobStatus.ACTIVE
            turn = await jobs.run(ONE)
            await jobs.commit(turn, events=EventsEnd.DEAD, error=ERROR, policy=WINDOW, status=status)
        await jobs.start(KEYS[0], delay=60.0)
        assert await self._listed(jobs, JobFilter(has_dead=True)) == [SUBJECT, ended, OTHER]
        assert await self._listed(jobs, JobFilter(has_dead=False)) == [KEYS[0]]
        assert await self._listed(jobs, JobFilter(has_dead=True, kind=JobKind.TASK)) == [ended, OTHER]
        (after,) = await jobs.storage.list_jobs(JobFilter(has_dead=True), limit=1)
        page = await jobs.storage.list_jobs(JobFilter(has_dead=True), limit=9, after=after.job.job_key)
        assert [(view.job.job_key, view.job.dead_count) for view in page] == [(ended, 1), (OTHER, 1)]
        await jobs.redrive()
        await jobs.storage.end_job(OTHER, reason=None)
        assert await self._listed(jobs, JobFilter(has_dead=True, statuses=tuple(JobStatus))) == [ended]

    async def test_get_jobs_counts_the_events_that_the_turn_has_taken(self, jobs: JobScene) -> None:
        await jobs.send_all(3)
        assert (await jobs.view()).taken_count == 0
        turn = await jobs.run(ONE._replace(max_events=2))
        assert ((await jobs.view()).taken_count, (await jobs.job()).pending_count) == (2, 1)
        (view,) = await jobs.storage.list_jobs(JobFilter(), limit=9)
        assert view.taken_count == 2
        await jobs.commit(turn)
        assert (await jobs.view()).taken_count == 0

    async def test_count_jobs_of_an_empty_store_is_none(self, jobs: JobScene) -> None:
        assert await jobs.storage.count_jobs(JobFilter()) == 0

    # --- events ----------------------------------------------------------------------------------------------

    async def test_pending_events_gives_those_that_wait_and_those_of_the_turn(self, jobs: JobScene) -> None:
        await jobs.send_all(4)
        await jobs.commit(await jobs.run(ONE), events=EventsEnd.DEAD, policy=ONE)
        await jobs.commit(await jobs.run(ONE), policy=ONE)
        turn = await jobs.run(ONE)
        assert await jobs.waiting() == [3, 4]
        assert [event.turn_id for event in await jobs.storage.pending_events(SUBJECT)] == [turn.id, None]

    async def test_pending_events_of_an_unknown_job_are_none(self, jobs: JobScene) -> None:
        assert await jobs.storage.pending_events(SUBJECT) == []

    async def test_event_end_follows_an_event_to_its_end(self, jobs: JobScene) -> None:
        await jobs.send(event_id="a")
        assert await jobs.storage.event_end(SUBJECT, "a") == EventEnd(1, None, False)
        turn = await jobs.run()
        assert await jobs.storage.event_end(SUBJECT, "a") == EventEnd(1, turn.id, False)
        await jobs.commit(turn)
        assert await jobs.storage.event_end(SUBJECT, "a") == EventEnd(1, turn.id, True)

    async def test_event_end_does_not_know_what_was_never_sent_to_the_job(self, jobs: JobScene) -> None:
        assert await jobs.storage.event_end(SUBJECT, "a") is None
        await jobs.send(OTHER, event_id="a")
        await jobs.send()
        assert await jobs.storage.event_end(SUBJECT, "a") is None

    async def test_forget_events_deletes_what_need_not_be_remembered(self, jobs: JobScene) -> None:
        for name, window in (("short", 10.0), ("long", 20.0)):
            await jobs.send(event_id=name, dedupe_window=window)
        await jobs.subject.advance(5.0)
        await jobs.commit(await jobs.run())
        await jobs.subject.advance(4.999)
        assert not (await jobs.storage.duties()).forget_events
        assert await jobs.storage.forget_events(limit=9) == 0
        await jobs.subject.advance(0.001)
        assert (await jobs.storage.duties()).forget_events
        assert await jobs.storage.forget_events(limit=9) == 1
        assert not (await jobs.storage.duties()).forget_events
        assert await jobs.storage.event_end(SUBJECT, "short") is None
        assert await jobs.storage.event_end(SUBJECT, "long") is not None
        assert (await jobs.send(event_id="long")).is_duplicate

    async def test_forget_events_keeps_what_is_not_consumed(self, jobs: JobScene) -> None:
        await jobs.send(event_id="dead", dedupe_window=1.0)
        await jobs.commit(await jobs.run(), events=EventsEnd.DEAD)
        await jobs.send(event_id="taken", dedupe_window=1.0)
        await jobs.run()
        await jobs.send(event_id="pending", dedupe_window=1.0)
        await jobs.subject.advance(100.0)
        assert not (await jobs.storage.duties()).forget_events
        assert await jobs.storage.forget_events(limit=9) == 0
        for name in ("dead", "taken", "pending"):
            assert await jobs.storage.event_end(SUBJECT, name) is not None

    async def test_forget_events_deletes_no_more_than_asked(self, jobs: JobScene) -> None:
        for number in range(5):
            await jobs.send(event_id=str(number), dedupe_window=1.0)
        await jobs.commit(await jobs.run())
        await jobs.subject.advance(1.0)
        assert [await jobs.storage.forget_events(limit=2) for _ in range(4)] == [2, 2, 1, 0]
