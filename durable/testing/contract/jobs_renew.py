"""Contract of settle for a turn that ends its own job: what was accepted is handled, remembered or kept, never lost."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from durable.execution import Settled, Settlement, Status
from durable.job import ENDED, EventsEnd, Job, JobStatus, TurnCause
from durable.testing.contract.jobs_scene import (
    AT_ONCE,
    FULL,
    ONE,
    SUBJECT,
    TURN,
    WINDOW,
    JobCase,
    JobScene,
    JobTurn,
    payloads,
)
from durable.testing.contract.scene import ERROR

__all__ = ["JobRenewContract"]


class JobRenewContract(JobCase):
    async def test_settle_that_terminates_begins_anew_with_the_events_it_did_not_see(self, jobs: JobScene) -> None:
        before = await jobs.start(state='"old"', delay=60.0)
        await jobs.send(payload='"seen"')
        turn = await jobs.run(ONE)
        sent_at = await jobs.later(1.0)
        await jobs.send(payload='"late"', event_id="late")
        await jobs.send(payload='"later"')
        await jobs.trigger()
        now = await jobs.later(1.0)
        settled = await self._terminated(jobs, turn, state_version=7)
        view = await jobs.view()
        assert view.job == Job(
            id=before.id, kind=SUBJECT.kind, name="name", key="key", epoch=2, status=JobStatus.ACTIVE, reason=None,
            state=None, state_version=7, turn_id=view.job.turn_id, turn_cause=None, turn_slot=None,
            turn_began_at=None, is_triggered=False, scheduled_at=None, run_count=0, execute_count=0, event_count=2,
            pending_count=2, pending_first_at=sent_at, pending_last_at=sent_at, error=None, created_at=now,
            updated_at=view.job.updated_at, ended_at=None, dead_count=0,
        )  # fmt: skip
        assert (view.turn_status, view.turn_due_at) == (Status.READY, now)
        assert settled.ready_queues == {"default"}
        assert payloads(await jobs.storage.pending_events(SUBJECT)) == ['"late"', '"later"']
        assert await jobs.storage.event_end(SUBJECT, "late") == (1, None, False)
        await jobs.assert_job_sound()

    async def test_an_incarnation_that_began_so_numbers_its_events_from_one(self, jobs: JobScene) -> None:
        await jobs.send_all(4)
        turn = await jobs.run(ONE)
        await self._terminated(jobs, turn)
        assert (await jobs.send()).number == 4
        taken: list[int] = []
        for _ in range(4):
            following = await jobs.run(ONE)
            assert (following.job.epoch, following.job.turn_cause) == (2, TurnCause.EVENTS)
            taken += following.numbers
            await jobs.commit(following, policy=ONE)
        assert taken == [1, 2, 3, 4]

    async def test_settle_that_terminates_makes_what_is_left_due_by_the_policy(self, jobs: JobScene) -> None:
        await jobs.send(policy=WINDOW)
        await jobs.subject.advance(10.0)
        turn = await jobs.run(WINDOW)
        sent_at = await jobs.later(1.0)
        await jobs.send(policy=WINDOW)
        settled = await self._terminated(jobs, turn, policy=WINDOW)
        assert (await jobs.view()).turn_due_at == sent_at + timedelta(seconds=10)
        assert (settled.ready_queues, settled.soonest) == (frozenset(), 10.0)

    async def test_settle_that_terminates_begins_anew_with_events_that_it_gives_back(self, jobs: JobScene) -> None:
        await jobs.send_all(3, policy=FULL)
        turn = await jobs.run(FULL)
        await self._terminated(jobs, turn, events=EventsEnd.KEPT)
        job = await jobs.job()
        assert (job.epoch, job.status, await jobs.waiting()) == (2, JobStatus.ACTIVE, [1, 2, 3])
        await jobs.assert_job_sound()

    async def test_settle_that_terminates_ends_for_one_job_and_begins_anew_for_its_neighbour(
        self, jobs: JobScene
    ) -> None:
        keys = [SUBJECT._replace(key=str(number)) for number in range(4)]
        for key in keys:
            await jobs.send_all(2, key)
        turns = {turn.root_id: turn for turn in await jobs.claim(TURN)}
        ends: list[Settlement] = []
        for number, key in enumerate(keys):
            claimed = turns[(await jobs.job(key)).id]
            taken = await jobs.take(claimed, ONE if number % 2 else AT_ONCE)
            ends.append(jobs.end(JobTurn(claimed, taken), status=JobStatus.TERMINATED))
        settled = await jobs.storage.settle(ends)
        assert len(settled.accepted) == 4
        found = [await jobs.job(key) for key in keys]
        assert [job.status in ENDED for job in found] == [True, False, True, False]
        assert [job.event_count for job in found] == [2, 1, 2, 1]

    async def test_the_notices_of_a_renewal_are_stored_only_where_a_job_begins_anew(self, jobs: JobScene) -> None:
        for count in (1, 2):
            await jobs.send_all(count)
            turn = await jobs.run(ONE)
            await self._terminated(jobs, turn, renewal=(jobs.make.notice(f"subscriber {count}"),))
        assert await jobs.storage.undelivered() == {"subscriber 2": 1}

    # --- what was handled ------------------------------------------------------------------------------------

    async def test_an_event_that_the_ending_turn_handled_is_known_to_be_over(self, jobs: JobScene) -> None:
        await jobs.send(event_id="earlier")
        earlier = await jobs.run(ONE)
        await jobs.commit(earlier)
        await jobs.send(event_id="last")
        turn = await jobs.run(ONE)
        await self._terminated(jobs, turn)
        assert (await jobs.job()).status is JobStatus.TERMINATED
        assert await jobs.storage.event_end(SUBJECT, "earlier") == (1, earlier.id, True)
        assert await jobs.storage.event_end(SUBJECT, "last") == (2, turn.id, True)
        await jobs.send()
        assert await jobs.storage.event_end(SUBJECT, "last") == (2, turn.id, True)

    async def test_an_event_that_the_ending_turn_handled_is_no_reason_to_begin_anew(self, jobs: JobScene) -> None:
        await jobs.send(event_id="a")
        await self._terminated(jobs, await jobs.run(ONE))
        before = await jobs.snapshot(SUBJECT)
        repeated = await jobs.send(event_id="a")
        assert (repeated.number, repeated.is_duplicate, repeated.is_new_job) == (1, True, False)
        assert (repeated.pending_count, repeated.due_at, repeated.ready_queue) == (0, None, None)
        assert await jobs.snapshot(SUBJECT) == before

    async def test_an_id_is_remembered_in_the_next_incarnation_as_long_as_it_would_have_been(
        self, jobs: JobScene
    ) -> None:
        await jobs.send(event_id="a", dedupe_window=60.0)
        await self._terminated(jobs, await jobs.run(ONE))
        await jobs.send(event_id="b")
        assert (await jobs.send(event_id="a")).is_duplicate
        await jobs.subject.advance(60.0)
        accepted = await jobs.send(event_id="a")
        assert (accepted.is_duplicate, accepted.number) == (False, 2)

    # --- dead events -----------------------------------------------------------------------------------------

    async def test_dead_events_stay_with_a_job_that_its_turn_has_ended(self, jobs: JobScene) -> None:
        await self._dead_and_ended(jobs)
        view = await jobs.view()
        assert (view.job.status, view.job.dead_count) == (JobStatus.TERMINATED, 1)

    async def test_redrive_begins_an_ended_job_anew_with_its_dead_events(self, jobs: JobScene) -> None:
        await self._dead_and_ended(jobs)
        now = await jobs.later(1.0)
        done = await jobs.redrive()
        assert done.job is not None
        assert (done.job.status, done.job.epoch, done.job.created_at) == (JobStatus.ACTIVE, 2, now)
        assert (done.job.pending_count, done.job.state, done.ready_queue) == (1, None, "default")
        await jobs.assert_job_sound()
        assert payloads((await jobs.run(WINDOW)).taken.events) == ['"dead"']

    async def test_redrive_puts_the_dead_events_of_an_earlier_incarnation_first(self, jobs: JobScene) -> None:
        await self._dead_and_ended(jobs)
        await jobs.send(payload='"new"')
        await jobs.redrive()
        assert payloads(await jobs.storage.pending_events(SUBJECT)) == ['"dead"', '"new"']
        turn = await jobs.run(WINDOW)
        assert payloads(turn.taken.events) == ['"dead"']
        await jobs.commit(turn, policy=AT_ONCE)
        assert payloads((await jobs.run(WINDOW._replace(max_events=1))).taken.events) == ['"new"']

    async def test_end_job_throws_away_the_dead_events_of_earlier_incarnations_but_no_ids(self, jobs: JobScene) -> None:
        await self._dead_and_ended(jobs)
        await jobs.send()
        await jobs.storage.end_job(SUBJECT, reason=None)
        assert (await jobs.job()).dead_count == 0
        assert (await jobs.send(event_id="last")).is_duplicate

    async def _dead_and_ended(self, jobs: JobScene) -> None:
        """A job with a dead event, which was ended by its next turn, on the event `last`."""
        await jobs.send(payload='"dead"')
        await jobs.commit(await jobs.run(ONE), events=EventsEnd.DEAD, error=ERROR)
        await jobs.send(event_id="last")
        await self._terminated(jobs, await jobs.run(ONE))

    async def _terminated(self, jobs: JobScene, turn: JobTurn, **fields: Any) -> Settled:
        return await jobs.commit(turn, status=JobStatus.TERMINATED, **fields)
