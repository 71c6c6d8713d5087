"""Contract of take_turns: why a turn runs and on which events is decided once, and holds for all its attempts."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from durable.job import StoredEvent, TurnCause, TurnPolicy, TurnToTake
from durable.testing.contract.jobs_scene import (
    AT_ONCE,
    FULL,
    ONE,
    OTHER,
    SLIDING,
    SUBJECT,
    TURN,
    WINDOW,
    JobCase,
    JobScene,
    JobTurn,
    payloads,
)
from durable.testing.contract.scene import LEASE, LIMIT

__all__ = ["JobTakeContract"]


class JobTakeContract(JobCase):
    # --- why -------------------------------------------------------------------------------------------------

    async def test_take_turns_runs_for_the_planned_moment(self, jobs: JobScene) -> None:
        slot = (await jobs.start(delay=5.0)).scheduled_at
        await jobs.subject.advance(7.0)
        turn = await jobs.run()
        assert (turn.job.turn_cause, turn.job.turn_slot, turn.job.scheduled_at) == (TurnCause.SCHEDULE, slot, None)
        assert (turn.taken.events, turn.taken.due_at) == ((), None)
        assert turn.taken.now == await jobs.subject.now()
        assert await jobs.job() == turn.job

    async def test_take_turns_runs_for_events(self, jobs: JobScene) -> None:
        await jobs.send_all(3)
        now = await jobs.subject.now()
        turn = await jobs.run()
        assert (turn.job.turn_cause, turn.job.turn_slot) == (TurnCause.EVENTS, None)
        assert turn.taken.events == tuple(StoredEvent(n, None, str(n), now, turn.id) for n in (1, 2, 3))
        assert (turn.job.pending_count, turn.job.pending_first_at, turn.job.pending_last_at) == (0, None, None)
        assert turn.job.event_count == 3
        assert await jobs.job() == turn.job

    async def test_take_turns_runs_for_a_trigger_before_all_else(self, jobs: JobScene) -> None:
        job = await jobs.start()
        await jobs.send()
        await jobs.trigger()
        turn = await jobs.run()
        assert (turn.job.turn_cause, turn.job.turn_slot) == (TurnCause.TRIGGER, None)
        assert (turn.job.is_triggered, turn.job.scheduled_at) == (False, job.scheduled_at)
        assert (turn.taken.events, turn.job.pending_count) == ((), 1)

    async def test_take_turns_of_a_trigger_takes_the_events_of_a_window(self, jobs: JobScene) -> None:
        await jobs.send_all(2, policy=WINDOW)
        await jobs.trigger()
        turn = await jobs.run(WINDOW)
        assert (turn.job.turn_cause, turn.numbers, turn.job.pending_count) == (TurnCause.TRIGGER, [1, 2], 0)

    async def test_take_turns_of_a_trigger_takes_no_more_than_the_limit(self, jobs: JobScene) -> None:
        await jobs.send_all(5, policy=FULL)
        await jobs.trigger()
        turn = await jobs.run(FULL)
        assert (turn.numbers, turn.job.pending_count) == ([1, 2, 3], 2)

    async def test_take_turns_prefers_a_plan_that_came_before_the_first_event_was_due(self, jobs: JobScene) -> None:
        await jobs.start(delay=1.0)
        await jobs.subject.advance(2.0)
        await jobs.send()
        turn = await jobs.run()
        assert (turn.job.turn_cause, turn.numbers, turn.job.pending_count) == (TurnCause.SCHEDULE, [], 1)

    async def test_take_turns_prefers_events_that_were_due_before_the_plan(self, jobs: JobScene) -> None:
        job = await jobs.start(delay=3.0)
        await jobs.send()
        await jobs.subject.advance(5.0)
        turn = await jobs.run()
        assert (turn.job.turn_cause, turn.numbers) == (TurnCause.EVENTS, [1])
        assert (turn.job.turn_slot, turn.job.scheduled_at) == (None, job.scheduled_at)

    async def test_take_turns_prefers_a_plan_to_events_of_the_same_moment(self, jobs: JobScene) -> None:
        await jobs.start(delay=10.0)
        await jobs.send(policy=WINDOW)
        await jobs.subject.advance(10.0)
        turn = await jobs.run(WINDOW)
        assert (turn.job.turn_cause, turn.numbers) == (TurnCause.SCHEDULE, [])

    async def test_take_turns_counts_a_window_and_not_the_arrival_against_the_plan(self, jobs: JobScene) -> None:
        await jobs.start(delay=5.0)
        await jobs.send(policy=WINDOW)
        await jobs.subject.advance(20.0)
        assert (await jobs.run(WINDOW)).job.turn_cause is TurnCause.SCHEDULE

    async def test_take_turns_runs_the_plan_and_the_events_one_after_the_other(self, jobs: JobScene) -> None:
        await jobs.start(delay=1.0)
        await jobs.subject.advance(2.0)
        await jobs.send()
        causes: list[TurnCause | None] = []
        while not await self._is_over(jobs):
            turn = await jobs.run()
            causes.append(turn.job.turn_cause)
            await jobs.commit(turn)
        assert causes == [TurnCause.SCHEDULE, TurnCause.EVENTS]

    async def _is_over(self, jobs: JobScene) -> bool:
        return (await jobs.job()).turn_id is None

    async def test_take_turns_leaves_a_plan_in_the_future(self, jobs: JobScene) -> None:
        job = await jobs.start(delay=60.0)
        await jobs.send()
        turn = await jobs.run()
        assert (turn.job.turn_cause, turn.job.scheduled_at) == (TurnCause.EVENTS, job.scheduled_at)

    # --- nothing ---------------------------------------------------------------------------------------------

    async def test_take_turns_finds_nothing_when_a_window_has_moved_on(self, jobs: JobScene) -> None:
        await jobs.send(policy=SLIDING)
        await jobs.subject.advance(6.0)
        await jobs.send(policy=SLIDING)
        await jobs.subject.advance(4.0)
        before = await jobs.job()
        turn = await jobs.run(SLIDING)
        assert (turn.job.turn_cause, turn.job.turn_slot, turn.taken.events) == (TurnCause.NOTHING, None, ())
        assert turn.taken.due_at == await jobs.subject.now() + timedelta(seconds=6)
        assert await jobs.job() == before

    async def test_take_turns_ends_a_sliding_window_at_its_longest_wait(self, jobs: JobScene) -> None:
        first_at = await jobs.subject.now()
        await jobs.send(policy=SLIDING)
        for _ in range(3):
            await jobs.subject.advance(6.0)
            await jobs.send(policy=SLIDING)
        claimed = await jobs.claim_one(TURN)
        taken = await jobs.take(claimed, SLIDING)
        assert (taken.job.turn_cause, taken.due_at) == (TurnCause.NOTHING, first_at + timedelta(seconds=25))
        await jobs.subject.advance(7.0)
        again = await jobs.take(claimed, SLIDING)
        assert (again.job.turn_cause, [event.number for event in again.events]) == (TurnCause.EVENTS, [1, 2, 3, 4])

    async def test_take_turns_finds_nothing_until_the_plan_or_the_events(self, jobs: JobScene) -> None:
        await jobs.start(delay=5.0)
        await jobs.send()
        claimed = await jobs.claim_one(TURN)
        assert (await jobs.take(claimed, WINDOW)).due_at == await self._in(jobs, 5.0)
        assert (await jobs.take(claimed, TurnPolicy(window=2.0))).due_at == await self._in(jobs, 2.0)

    async def _in(self, jobs: JobScene, seconds: float) -> datetime:
        return await jobs.subject.now() + timedelta(seconds=seconds)

    async def test_take_turns_decides_again_after_nothing(self, jobs: JobScene) -> None:
        await jobs.send()
        claimed = await jobs.claim_one(TURN)
        await jobs.take(claimed, WINDOW)
        assert (await jobs.take(claimed, AT_ONCE)).job.turn_cause is TurnCause.EVENTS

    # --- which events ----------------------------------------------------------------------------------------

    async def test_take_turns_takes_so_many_events_and_leaves_the_others(self, jobs: JobScene) -> None:
        await jobs.send_all(2)
        await jobs.subject.advance(1.0)
        second_at = await jobs.subject.now()
        await jobs.send_all(2)
        await jobs.subject.advance(1.0)
        turn = await jobs.run(TurnPolicy(max_events=2))
        assert (turn.numbers, turn.job.pending_count) == ([1, 2], 2)
        assert (turn.job.pending_first_at, turn.job.pending_last_at) == (second_at, second_at)
        assert await jobs.waiting() == [1, 2, 3, 4]

    async def test_take_turns_takes_one_event_after_the_other(self, jobs: JobScene) -> None:
        await jobs.send_all(3)
        taken: list[list[int]] = []
        for _ in range(3):
            turn = await jobs.run(ONE)
            taken.append(turn.numbers)
            await jobs.commit(turn, policy=ONE)
        assert taken == [[1], [2], [3]]
        assert (await jobs.job()).turn_id is None

    async def test_take_turns_takes_all_events_when_the_first_is_due(self, jobs: JobScene) -> None:
        await jobs.send(policy=WINDOW)
        await jobs.subject.advance(9.0)
        await jobs.send(policy=WINDOW)
        await jobs.subject.advance(1.0)
        assert (await jobs.run(WINDOW)).numbers == [1, 2]

    async def test_take_turns_takes_a_full_inbox_before_its_window_ends(self, jobs: JobScene) -> None:
        await jobs.send_all(4, policy=FULL)
        turn = await jobs.run(FULL)
        assert (turn.job.turn_cause, turn.numbers, turn.job.pending_count) == (TurnCause.EVENTS, [1, 2, 3], 1)

    async def test_take_turns_does_not_take_what_came_after(self, jobs: JobScene) -> None:
        await jobs.send(payload='"first"')
        turn = await jobs.run()
        await jobs.send(payload='"second"')
        again = await jobs.take(turn.claimed)
        assert payloads(again.events) == ['"first"']
        assert again.job.pending_count == 1

    # --- all attempts alike ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("way", ["retried", "released", "recovered"])
    async def test_take_turns_gives_every_attempt_the_same_events(self, jobs: JobScene, way: str) -> None:
        await jobs.send_all(2)
        turn = await jobs.run(ONE)
        await self._leave(jobs, turn, way)
        await jobs.send_all(2)
        again = await jobs.run(AT_ONCE)
        assert (again.id, again.taken.events) == (turn.id, turn.taken.events)
        assert (again.job.turn_cause, again.job.pending_count) == (TurnCause.EVENTS, 3)

    async def test_take_turns_gives_every_attempt_the_same_slot(self, jobs: JobScene) -> None:
        slot = (await jobs.start()).scheduled_at
        turn = await jobs.run()
        await jobs.retry(turn, 5.0)
        await jobs.send()
        await jobs.subject.advance(5.0)
        again = await jobs.run()
        assert (again.job.turn_cause, again.job.turn_slot, again.numbers) == (TurnCause.SCHEDULE, slot, [])
        assert again.taken.now == await jobs.subject.now()

    async def test_take_turns_gives_every_attempt_of_a_trigger_its_cause(self, jobs: JobScene) -> None:
        await jobs.send_all(2, policy=WINDOW)
        await jobs.trigger()
        turn = await jobs.run(WINDOW)
        await jobs.retry(turn, 0.0)
        again = await jobs.run(WINDOW)
        assert (again.job.turn_cause, again.job.is_triggered, again.numbers) == (TurnCause.TRIGGER, False, [1, 2])

    async def test_take_turns_does_not_take_the_trigger_that_came_during_the_turn(self, jobs: JobScene) -> None:
        await jobs.send()
        turn = await jobs.run()
        await jobs.trigger()
        again = await jobs.take(turn.claimed)
        assert (again.job.turn_cause, again.job.is_triggered) == (TurnCause.EVENTS, True)

    async def _leave(self, jobs: JobScene, turn: JobTurn, way: str) -> None:
        """The attempt ends, and another may begin at once."""
        if way == "retried":
            await jobs.retry(turn, 0.0)
        elif way == "released":
            await jobs.gone(turn.claimed)
        else:
            await jobs.subject.advance(LEASE)
            assert [taken.id for taken in await jobs.storage.recover(limit=9)] == [turn.id]

    # --- who may ---------------------------------------------------------------------------------------------

    async def test_take_turns_takes_several_at_once(self, jobs: JobScene) -> None:
        await jobs.send()
        await jobs.send_all(2, OTHER)
        claimed = {turn.root_id: turn for turn in await jobs.claim(TURN)}
        asked = [TurnToTake(turn.id, turn.fence, AT_ONCE) for turn in claimed.values()]
        taken = {each.turn_id: each for each in await jobs.storage.take_turns(asked)}
        assert {each.job.job_key: len(each.events) for each in taken.values()} == {SUBJECT: 1, OTHER: 2}
        assert all(claimed[each.job.id].id == each.turn_id for each in taken.values())

    async def test_take_turns_leaves_out_a_fence_that_is_gone(self, jobs: JobScene) -> None:
        await jobs.send()
        old = await jobs.claim_one(TURN)
        await jobs.gone(old)
        new = await jobs.claim_one(TURN)
        before = await jobs.snapshot(SUBJECT)
        asked = [TurnToTake(turn.id, turn.fence, AT_ONCE) for turn in (old, new._replace(fence=new.fence + 1))]
        assert await jobs.storage.take_turns(asked) == []
        assert await jobs.snapshot(SUBJECT) == before

    async def test_take_turns_leaves_out_what_is_no_running_turn(self, jobs: JobScene) -> None:
        task = await jobs.turn()
        job = await jobs.start()
        ready = TurnToTake(str(job.turn_id), 0, AT_ONCE)
        asked = [ready, TurnToTake(task.id, task.fence, AT_ONCE), TurnToTake(jobs.make.id(), 1, AT_ONCE)]
        assert await jobs.storage.take_turns(asked) == []
        assert (await jobs.job()).turn_cause is None

    async def test_take_turns_of_nothing_gives_nothing(self, jobs: JobScene) -> None:
        assert await jobs.storage.take_turns([]) == []

    async def test_take_turns_leaves_out_a_job_whose_row_somebody_holds(self, jobs: JobScene) -> None:
        job = await jobs.start()
        claimed = await jobs.claim_one(TURN)
        asked = [TurnToTake(claimed.id, claimed.fence, AT_ONCE)]
        async with jobs.subject.rolled_back() as connection, asyncio.timeout(LIMIT):
            await jobs.storage.append_events([jobs.make.event(SUBJECT)]).await_on(connection)
            taken = await jobs.subject.handles[1].take_turns(asked)
        assert [each.job.id for each in taken] == ([] if jobs.subject.has_transactions else [job.id])
        assert (await jobs.take(claimed)).job.id == job.id
