"""Contract of the inbox and the keys of jobs under contention. Nothing here depends on who wins."""

from __future__ import annotations

from collections import Counter

import pytest

from durable.execution import FINISHED, Claimed
from durable.job import Appended, JobKey, JobStatus, NewEvent, TakenTurn, TurnPolicy
from durable.testing.contract.jobs_scene import (
    AT_ONCE,
    OTHER,
    SUBJECT,
    TURN,
    WINDOW,
    JobCase,
    JobScene,
    take_until_given,
)
from durable.testing.contract.together import in_threads, together

__all__ = ["JobRacesContract"]

EVENTS = 200
ROUNDS = 40


def keys(count: int) -> list[JobKey]:
    return [SUBJECT._replace(key=f"{number:03}") for number in range(count)]


class JobRacesContract(JobCase):
    # --- keys ------------------------------------------------------------------------------------------------

    async def test_starts_of_one_key_make_one_job(self, jobs: JobScene) -> None:
        handles = jobs.subject.handles
        for key in keys(10):
            news = [jobs.make.new_job(key, state=f'"{number}"') for number in range(9)]
            started = await together(*(handles[number % 3].start_job(new) for number, new in enumerate(news)))
            (first,) = [each.job for each in started if each.is_new]
            assert {each.job for each in started} == {first}
            assert await jobs.job(key) == first
            assert len(await jobs.turns_of(first.id)) == 1

    async def test_starts_of_one_key_on_threads_make_one_job(self, jobs: JobScene) -> None:
        handles = jobs.subject.handles
        starts = [handles[number % 3].start_job(jobs.make.new_job(SUBJECT)) for number in range(6)]
        started = await in_threads(starts)
        assert sorted(each.is_new for each in started) == [*([False] * 5), True]
        assert len({each.job.id for each in started}) == 1
        await jobs.assert_job_sound()

    async def test_starts_of_an_ended_key_make_one_incarnation(self, jobs: JobScene) -> None:
        handles = jobs.subject.handles
        for key in keys(10):
            await jobs.start(key)
            await jobs.storage.end_job(key, reason=None)
            starts = [handles[number % 3].start_job(jobs.make.new_job(key)) for number in range(6)]
            started = await together(*starts)
            assert sorted(each.is_new for each in started) == [*([False] * 5), True]
            assert {each.job.epoch for each in started} == {2}
            await jobs.assert_job_sound(key)

    async def test_a_start_and_an_end_leave_one_of_both_orders(self, jobs: JobScene) -> None:
        first, second, _ = jobs.subject.handles[:3]
        wanted = keys(ROUNDS)
        for key in wanted:
            await jobs.start(key)

        async def start(key: JobKey) -> bool:
            return (await first.start_job(jobs.make.new_job(key))).is_new

        async def end(key: JobKey) -> bool:
            return await second.end_job(key, reason=None) is not None

        results = await together(*(race(key) for key in wanted for race in (start, end)))
        assert set(results[1::2]) == {True}
        for key, is_new in zip(wanted, results[::2], strict=True):
            job = await jobs.job(key)
            assert (job.status, job.epoch) == (JobStatus.ACTIVE if is_new else JobStatus.TERMINATED, 2)
            await jobs.assert_job_sound(key)

    async def test_ends_of_one_job_end_it_once(self, jobs: JobScene) -> None:
        job = await jobs.start()
        handles = jobs.subject.handles
        ended = await together(*(handles[number % 3].end_job(SUBJECT, reason=str(number)) for number in range(6)))
        assert sorted(each is not None for each in ended) == [*([False] * 5), True]
        after = await jobs.job()
        assert (after.epoch, after.reason) == (2, str([each is not None for each in ended].index(True)))
        assert [turn.status in FINISHED for turn in await jobs.turns_of(job.id)] == [True]

    # --- appends ---------------------------------------------------------------------------------------------

    async def _append_all(self, jobs: JobScene, policy: TurnPolicy) -> list[Appended]:
        """Many events for one key, one or some in a call, from all handles at once."""
        handles = jobs.subject.handles
        events = jobs.make.events(SUBJECT, EVENTS, policy=policy)
        batches: list[list[NewEvent]] = []
        while events:
            size = 1 + len(batches) % 3
            batches.append(events[:size])
            events = events[size:]
        results = await together(*(
            handles[number % 3].append_events(batch) for number, batch in enumerate(batches)
        ))  # fmt: skip
        return [appended for batch in results for appended in batch]

    @pytest.mark.parametrize("policy", [AT_ONCE, WINDOW])
    async def test_appends_to_one_key_get_each_place_once(self, jobs: JobScene, policy: TurnPolicy) -> None:
        appended = await self._append_all(jobs, policy)
        assert sorted(each.number for each in appended) == list(range(1, EVENTS + 1))
        assert sorted(each.pending_count for each in appended) == list(range(1, EVENTS + 1))
        assert [each.number for each in appended if each.is_new_job] == [1]
        job = await jobs.job()
        assert (job.event_count, job.pending_count) == (EVENTS, EVENTS)
        assert len(await jobs.turns_of(job.id)) == 1
        assert len({each.job_id for each in appended}) == 1
        assert await jobs.waiting() == list(range(1, EVENTS + 1))
        await jobs.assert_job_sound()

    async def test_appends_that_fill_an_inbox_make_its_turn_due_once(self, jobs: JobScene) -> None:
        appended = await self._append_all(jobs, TurnPolicy(window=10.0, max_events=EVENTS // 2))
        assert [each.number for each in appended if each.ready_queue is not None] == [EVENTS // 2]
        assert (await jobs.view()).turn_due_at == await jobs.subject.now()
        assert len(await jobs.turns_of((await jobs.job()).id)) == 1

    async def test_appends_that_are_due_at_once_make_a_turn_claimable_once(self, jobs: JobScene) -> None:
        appended = await self._append_all(jobs, AT_ONCE)
        assert [each.number for each in appended if each.ready_queue is not None] == [1]

    async def test_appends_on_threads_get_each_place_once(self, jobs: JobScene) -> None:
        handles = jobs.subject.handles
        results = await in_threads([
            handles[number % 3].append_events(jobs.make.events(SUBJECT, 5)) for number in range(6)
        ])  # fmt: skip
        assert sorted(each.number for batch in results for each in batch) == list(range(1, 31))
        await jobs.assert_job_sound()

    async def test_appends_of_one_id_accept_it_once(self, jobs: JobScene) -> None:
        handles = jobs.subject.handles
        for key in keys(10):
            results = await together(*(
                handles[number % 3].append_events([jobs.make.event(key, event_id="a", payload=str(number))])
                for number in range(9)
            ))  # fmt: skip
            appended = [each for (each,) in results]
            assert sorted(each.is_duplicate for each in appended) == [False, *([True] * 8)]
            assert {(each.number, each.pending_count) for each in appended} == {(1, 1)}
            (event,) = await jobs.storage.pending_events(key)
            assert event.payload == str([each.is_duplicate for each in appended].index(False))

    async def test_appends_that_name_the_same_jobs_crosswise_all_succeed(self, jobs: JobScene) -> None:
        """Of jobs that are there, and of jobs that are made by it."""
        handles = jobs.subject.handles
        wanted = keys(8)
        for key in wanted[:4]:
            await jobs.start(key)
        await together(*(
            handles[number % 3].append_events([
                jobs.make.event(key) for key in (wanted if number % 2 else reversed(wanted))
            ])
            for number in range(12)
        ))  # fmt: skip
        for key in wanted:
            assert await jobs.waiting(key) == list(range(1, 13))
            await jobs.assert_job_sound(key)

    async def test_an_append_and_a_clear_leave_no_event_without_a_turn(self, jobs: JobScene) -> None:
        first, second, _ = jobs.subject.handles[:3]
        wanted = keys(ROUNDS)
        for key in wanted:
            await jobs.send(key, policy=WINDOW)

        async def append(key: JobKey) -> None:
            await first.append_events([jobs.make.event(key, policy=WINDOW)])

        async def clear(key: JobKey) -> None:
            assert await second.clear_job(key) is not None

        await together(*(race(key) for key in wanted for race in (append, clear)))
        for key in wanted:
            job = await jobs.job(key)
            assert (job.status, job.epoch, await jobs.waiting(key)) in (
                (JobStatus.CLEARED, 2, []), (JobStatus.ACTIVE, 2, [1]),
            )  # fmt: skip
            await jobs.assert_job_sound(key)

    async def test_an_append_and_an_end_leave_no_event_without_a_turn(self, jobs: JobScene) -> None:
        first, second, _ = jobs.subject.handles[:3]
        wanted = keys(ROUNDS)
        for key in wanted:
            await jobs.start(key)

        async def append(key: JobKey) -> None:
            await first.append_events([jobs.make.event(key)])

        async def end(key: JobKey) -> None:
            assert await second.end_job(key, reason=None) is not None

        await together(*(race(key) for key in wanted for race in (append, end)))
        for key in wanted:
            job = await jobs.job(key)
            assert (job.status, job.epoch, await jobs.waiting(key)) in (
                (JobStatus.TERMINATED, 2, []), (JobStatus.ACTIVE, 2, [1]),
            )  # fmt: skip
            await jobs.assert_job_sound(key)

    async def test_an_append_and_a_start_make_one_job(self, jobs: JobScene) -> None:
        first, second, _ = jobs.subject.handles[:3]
        wanted = keys(ROUNDS)

        async def append(key: JobKey) -> str:
            return (await first.append_events([jobs.make.event(key)]))[0].job_id

        async def start(key: JobKey) -> str:
            return (await second.start_job(jobs.make.new_job(key))).job.id

        ids = await together(*(race(key) for key in wanted for race in (append, start)))
        assert ids[::2] == ids[1::2]
        for key in wanted:
            assert await jobs.waiting(key) == [1]
            assert len(await jobs.turns_of((await jobs.job(key)).id)) == 1

    # --- takes -----------------------------------------------------------------------------------------------

    async def test_a_take_and_appends_leave_each_event_in_one_place(self, jobs: JobScene) -> None:
        first, second, third = jobs.subject.handles[:3]
        for _ in range(ROUNDS):
            await jobs.send()
            claimed = await jobs.claim_one(TURN)
            seen: list[TakenTurn] = []

            async def take(claimed: Claimed = claimed, seen: list[TakenTurn] = seen) -> None:
                taken = await take_until_given(first, claimed)
                assert taken is not None
                seen.append(taken)

            async def append(handle: int) -> None:
                await (second, third)[handle].append_events([jobs.make.event(SUBJECT)])

            await together(take(), append(0), append(1))
            (taken,) = seen
            again = await jobs.take(claimed)
            assert again.events == taken.events
            job = await jobs.job()
            numbers = [event.number for event in taken.events]
            assert numbers == list(range(1, len(numbers) + 1))
            assert (len(numbers) + job.pending_count, job.event_count) == (3, 3)
            await jobs.storage.end_job(SUBJECT, reason=None)

    async def test_takes_of_one_turn_give_the_same(self, jobs: JobScene) -> None:
        handles = jobs.subject.handles
        await jobs.send_all(5)
        claimed = await jobs.claim_one(TURN)
        taken = await together(*(
            take_until_given(handles[number % 3], claimed, TurnPolicy(max_events=2)) for number in range(6)
        ))  # fmt: skip
        assert {each and each.events for each in taken} == {(await jobs.take(claimed)).events}
        assert Counter(await jobs.waiting()) == Counter(range(1, 6))
        assert (await jobs.job()).pending_count == 3

    async def test_claims_give_a_job_s_turn_to_one(self, jobs: JobScene) -> None:
        for key in (SUBJECT, OTHER):
            await jobs.send(key)
        batches = await together(*(jobs.claim(TURN, handle=number % 3) for number in range(6)))
        claimed = [turn.root_id for batch in batches for turn in batch]
        assert sorted(claimed) == sorted([(await jobs.job(key)).id for key in (SUBJECT, OTHER)])
