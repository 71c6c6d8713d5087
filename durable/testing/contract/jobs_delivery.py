"""Contract of settle for the events of jobs: what a turn consumed, failed on, or sends elsewhere, in its one commit."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from durable.job import EventsEnd, JobKey, JobStatus, TurnCause
from durable.testing.contract.jobs_scene import ONE, OTHER, SUBJECT, TURN, WINDOW, JobCase, JobScene, JobTurn, payloads
from durable.testing.contract.scene import ERROR, LIMIT
from durable.transitions import complete, fail

__all__ = ["JobDeliveryContract"]


class JobDeliveryContract(JobCase):
    # --- events ----------------------------------------------------------------------------------------------

    async def test_settle_consumes_the_events_of_the_turn(self, jobs: JobScene) -> None:
        await jobs.send_all(3)
        await jobs.commit(await jobs.run(ONE))
        job = await jobs.job()
        assert (await jobs.waiting(), job.pending_count, job.event_count) == ([2, 3], 2, 3)
        await jobs.assert_job_sound()

    async def test_settle_keeps_consumed_events_for_their_ids(self, jobs: JobScene) -> None:
        await jobs.send(event_id="a")
        turn = await jobs.run()
        await jobs.commit(turn)
        assert await jobs.waiting() == []
        assert await jobs.storage.event_end(SUBJECT, "a") == (1, turn.id, True)

    async def test_settle_keeps_dead_events_with_the_turn(self, jobs: JobScene) -> None:
        await jobs.send_all(2)
        await jobs.send(event_id="a")
        turn = await jobs.run()
        await jobs.send()
        await jobs.commit(turn, events=EventsEnd.DEAD, error=ERROR)
        job = await jobs.job()
        assert (await jobs.waiting(), job.pending_count) == ([4], 1)
        assert await jobs.storage.event_end(SUBJECT, "a") == (3, turn.id, True)
        assert (await jobs.run()).numbers == [4]

    async def test_settle_puts_kept_events_back_before_those_that_came_later(self, jobs: JobScene) -> None:
        first_at = await jobs.subject.now()
        await jobs.send(payload='"first"', event_id="a")
        turn = await jobs.run()
        last_at = await jobs.later(1.0)
        await jobs.send(payload='"second"')
        await jobs.commit(turn, events=EventsEnd.KEPT)
        job = await jobs.job()
        assert (job.pending_count, job.pending_first_at, job.pending_last_at) == (2, first_at, last_at)
        assert payloads(await jobs.storage.pending_events(SUBJECT)) == ['"first"', '"second"']
        assert await jobs.storage.event_end(SUBJECT, "a") == (1, None, False)
        assert (await jobs.run(ONE)).numbers == [1]

    async def test_settle_makes_kept_events_due_by_the_policy(self, jobs: JobScene) -> None:
        first_at = await jobs.subject.now()
        await jobs.send(policy=WINDOW)
        await jobs.trigger()
        await jobs.commit(await jobs.run(WINDOW), events=EventsEnd.KEPT, policy=WINDOW)
        assert (await jobs.view()).turn_due_at == first_at + timedelta(seconds=10)

    # --- sends -----------------------------------------------------------------------------------------------

    async def test_settle_appends_what_the_turn_sends(self, jobs: JobScene) -> None:
        await jobs.idle(OTHER)
        await jobs.start()
        sends = (jobs.make.event(OTHER, payload='"a"', event_id="x"), jobs.make.event(OTHER, payload='"b"'))
        settled = await jobs.commit(await jobs.run(), sends=sends)
        assert settled.ready_queues == {"default"}
        assert payloads(await jobs.storage.pending_events(OTHER)) == ['"a"', '"b"']
        turn = await jobs.run()
        assert (turn.job.job_key, turn.numbers) == (OTHER, [1, 2])
        await jobs.assert_job_sound(OTHER)

    async def test_settle_makes_the_job_that_a_turn_sends_to(self, jobs: JobScene) -> None:
        await jobs.start()
        event = jobs.make.event(OTHER)
        await jobs.commit(await jobs.run(), sends=(event,))
        job = await jobs.job(OTHER)
        assert (job.id, job.state, job.epoch, job.turn_id) == (event.job_id, None, 1, event.turn.id)
        assert (await jobs.run()).job.job_key == OTHER

    async def test_settle_begins_an_incarnation_of_an_ended_job_that_a_turn_sends_to(self, jobs: JobScene) -> None:
        await jobs.start(OTHER)
        await jobs.storage.end_job(OTHER, reason=None)
        await jobs.start()
        await jobs.commit(await jobs.run(), sends=(jobs.make.event(OTHER),))
        job = await jobs.job(OTHER)
        assert (job.status, job.epoch, job.pending_count) == (JobStatus.ACTIVE, 2, 1)

    async def test_settle_appends_no_duplicate(self, jobs: JobScene) -> None:
        await jobs.send(OTHER, event_id="a")
        await jobs.start()
        turns = {turn.root_id: turn for turn in await jobs.claim(TURN)}
        claimed = turns[(await jobs.job()).id]
        turn = JobTurn(claimed, await jobs.take(claimed))
        await jobs.commit(turn, sends=(jobs.make.event(OTHER, event_id="a"), jobs.make.event(OTHER, event_id="b")))
        assert await jobs.waiting(OTHER) == [1, 2]

    async def test_settle_lets_a_turn_send_to_its_own_job(self, jobs: JobScene) -> None:
        await jobs.start()
        turn = await jobs.run()
        settled = await jobs.commit(turn, sends=(jobs.make.event(SUBJECT),), writes_schedule=True, schedule_delay=60.0)
        assert settled.ready_queues == {"default"}
        await jobs.assert_job_sound()
        following = await jobs.run()
        assert (following.numbers, following.job.turn_cause) == ([1], TurnCause.EVENTS)

    async def test_settle_lets_a_turn_that_terminates_send_to_its_own_key(self, jobs: JobScene) -> None:
        await jobs.send()
        turn = await jobs.run(ONE)
        await jobs.commit(turn, status=JobStatus.TERMINATED, sends=(jobs.make.event(SUBJECT),))
        job = await jobs.job()
        assert (job.id, job.status, job.epoch, job.event_count) == (turn.job.id, JobStatus.ACTIVE, 2, 1)
        await jobs.assert_job_sound()

    async def test_settle_of_two_jobs_that_send_to_each_other_loses_nothing(self, jobs: JobScene) -> None:
        keys = {SUBJECT: OTHER, OTHER: SUBJECT}
        for key in keys:
            await jobs.start(key)
        turns = [JobTurn(claimed, await jobs.take(claimed)) for claimed in await jobs.claim(TURN)]
        ends = [
            jobs.end(turn, sends=(jobs.make.event(keys[turn.job.job_key]),), status=status)
            for turn, status in zip(turns, (JobStatus.TERMINATED, JobStatus.ACTIVE), strict=True)
        ]
        assert (await jobs.storage.settle(ends)).accepted == {turn.id for turn in turns}
        for key in keys:
            job = await jobs.job(key)
            assert (job.status, job.pending_count) == (JobStatus.ACTIVE, 1)
            await jobs.assert_job_sound(key)

    # --- busy ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("held", [SUBJECT, OTHER])
    async def test_settle_does_not_wait_for_the_row_of_a_job(self, jobs: JobScene, held: JobKey) -> None:
        """The job's own row, and that of one it sends to."""
        await jobs.start()
        await jobs.start(OTHER, delay=60.0)
        turn = await jobs.run()
        plain = await jobs.turn()
        end = jobs.end(turn, writes_state=True, state='"new"', sends=(jobs.make.event(OTHER),))
        async with jobs.subject.rolled_back() as connection, asyncio.timeout(LIMIT):
            await jobs.storage.append_events([jobs.make.event(held)]).await_on(connection)
            settled = await jobs.subject.handles[1].settle([end, complete(plain, "1")])
        if not jobs.subject.has_transactions:
            assert settled.accepted == {turn.id, plain.id}
            assert not settled.busy
            return
        assert settled.accepted == {plain.id}
        assert settled.busy == {turn.id}
        assert ((await jobs.job()).state, await jobs.waiting(OTHER)) == ("null", [])
        assert (await jobs.storage.settle([end])).accepted == {turn.id}
        assert ((await jobs.job()).state, await jobs.waiting(OTHER)) == ('"new"', [1])

    async def test_settle_without_a_job_does_not_need_its_row(self, jobs: JobScene) -> None:
        await jobs.start()
        turn = await jobs.run()
        async with jobs.subject.rolled_back() as connection, asyncio.timeout(LIMIT):
            await jobs.storage.append_events([jobs.make.event(SUBJECT)]).await_on(connection)
            settled = await jobs.subject.handles[1].settle([fail(turn.claimed, ERROR, retry_delay=1.0)])
        assert settled.accepted == {turn.id}
        assert not settled.busy
