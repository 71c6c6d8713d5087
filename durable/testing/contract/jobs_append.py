"""Contract of append_events: what is appended is kept in order, once, and makes a turn due as the policy says."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from durable.execution import Kind, Status
from durable.job import Job, JobKind, JobStatus, TurnPolicy
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
    payloads,
)

__all__ = ["JobAppendContract"]


class JobAppendContract(JobCase):
    async def test_append_events_makes_a_job_that_does_not_live_without_state(self, jobs: JobScene) -> None:
        event, now = jobs.make.event(SUBJECT, state_version=3), await jobs.subject.now()
        (appended,) = await jobs.storage.append_events([event])
        job = await jobs.job()
        assert job == Job(
            id=event.job_id, kind=JobKind.DEBOUNCE, name="name", key="key", epoch=1, status=JobStatus.ACTIVE,
            reason=None, state=None, state_version=3, turn_id=event.turn.id, turn_cause=None, turn_slot=None,
            turn_began_at=None,
            is_triggered=False, scheduled_at=None, run_count=0, execute_count=0, event_count=1, pending_count=1,
            pending_first_at=now, pending_last_at=now, error=None, created_at=now, updated_at=now, ended_at=None,
            dead_count=0,
        )  # fmt: skip
        assert appended == (event.job_id, 1, True, False, 1, now, now, now, None, "default")
        record = await jobs.get(event.turn.id)
        assert (record.kind, record.status, record.root_id) == (Kind.TURN, Status.READY, job.id)
        await jobs.assert_job_sound()

    async def test_append_events_gives_their_places_in_the_order_given(self, jobs: JobScene) -> None:
        appended = await jobs.storage.append_events([
            jobs.make.event(SUBJECT, payload='"a"'), jobs.make.event(OTHER, payload='"x"'),
            jobs.make.event(SUBJECT, payload='"b"'), jobs.make.event(OTHER, payload='"y"'),
            jobs.make.event(SUBJECT, payload='"c"'),
        ])  # fmt: skip
        assert [(each.number, each.is_new_job) for each in appended] == [
            (1, True), (1, True), (2, False), (2, False), (3, False),
        ]  # fmt: skip
        assert [each.pending_count for each in appended] == [1, 1, 2, 2, 3]
        assert len({each.job_id for each in appended}) == 2
        assert payloads(await jobs.storage.pending_events(SUBJECT)) == ['"a"', '"b"', '"c"']
        assert payloads(await jobs.storage.pending_events(OTHER)) == ['"x"', '"y"']

    async def test_append_events_counts_on_in_later_calls(self, jobs: JobScene) -> None:
        first_at = await jobs.subject.now()
        await jobs.send_all(2)
        last_at = await jobs.later(3.0)
        appended = await jobs.send()
        assert (appended.number, appended.is_new_job, appended.pending_first_at) == (3, False, first_at)
        job = await jobs.job()
        assert (job.event_count, job.pending_count) == (3, 3)
        assert appended.pending_last_at == last_at
        assert (job.pending_first_at, job.pending_last_at) == (first_at, last_at)

    async def test_append_events_stores_when_each_was_received(self, jobs: JobScene) -> None:
        moments: list[datetime] = []
        for _ in range(3):
            moments.append(await jobs.subject.now())
            await jobs.send(event_id=f"id {len(moments)}")
            await jobs.subject.advance(1.5)
        events = await jobs.storage.pending_events(SUBJECT)
        assert [event.received_at for event in events] == moments
        assert [event.event_id for event in events] == ["id 1", "id 2", "id 3"]

    async def test_append_events_of_nothing_gives_nothing(self, jobs: JobScene) -> None:
        assert await jobs.storage.append_events([]) == []

    async def test_append_free_events_appends_where_the_job_is_there(self, jobs: JobScene) -> None:
        await jobs.send()
        first, absent, second = jobs.make.event(SUBJECT), jobs.make.event(OTHER), jobs.make.event(SUBJECT)
        found = await jobs.storage.append_free_events([first, absent, second])
        assert [each and each.number for each in found] == [2, None, 3]
        assert await jobs.waiting() == [1, 2, 3]
        assert await jobs.storage.get_jobs([OTHER]) == [None]
        await jobs.assert_job_sound()

    async def test_append_free_events_begins_an_incarnation_of_an_ended_job(self, jobs: JobScene) -> None:
        await jobs.start()
        await jobs.storage.end_job(SUBJECT, reason=None)
        event = jobs.make.event(SUBJECT)
        (appended,) = await jobs.storage.append_free_events([event])
        assert appended is not None
        assert (appended.is_new_job, appended.number, appended.ready_queue) == (True, 1, "default")
        assert (await jobs.job()).turn_id == event.turn.id

    async def test_append_free_events_knows_an_event_again(self, jobs: JobScene) -> None:
        await jobs.storage.append_events([jobs.make.event(SUBJECT, event_id="a")])
        (appended,) = await jobs.storage.append_free_events([jobs.make.event(SUBJECT, event_id="a")])
        assert appended is not None
        assert (appended.is_duplicate, appended.number) == (True, 1)

    async def test_append_free_events_of_nothing_gives_nothing(self, jobs: JobScene) -> None:
        assert await jobs.storage.append_free_events([]) == []

    async def test_append_events_leaves_state_and_counters_of_a_living_job(self, jobs: JobScene) -> None:
        job = await jobs.idle(state='"mine"')
        await jobs.send(state_version=9)
        after = await jobs.job()
        assert (after.id, after.state, after.state_version, after.run_count) == (job.id, '"mine"', 1, 1)

    async def test_append_events_to_an_ended_job_begins_an_incarnation(self, jobs: JobScene) -> None:
        first = await jobs.start(state='"old"')
        await jobs.send_all(2)
        await jobs.commit(await jobs.run(), runs=3, executes=2, error='{"type": "E", "message": ""}')
        await jobs.storage.end_job(SUBJECT, reason="enough")
        now = await jobs.subject.now()
        event = jobs.make.event(SUBJECT, state_version=2)
        (appended,) = await jobs.storage.append_events([event])
        assert (appended.job_id, appended.number, appended.is_new_job) == (first.id, 1, True)
        job = await jobs.job()
        assert job == Job(
            id=first.id, kind=JobKind.DEBOUNCE, name="name", key="key", epoch=2, status=JobStatus.ACTIVE, reason=None,
            state=None, state_version=2, turn_id=event.turn.id, turn_cause=None, turn_slot=None,
            turn_began_at=None, is_triggered=False,
            scheduled_at=None, run_count=0, execute_count=0, event_count=1, pending_count=1, pending_first_at=now,
            pending_last_at=now, error=None, created_at=now, updated_at=job.updated_at, ended_at=None, dead_count=0,
        )  # fmt: skip
        await jobs.assert_job_sound()

    async def test_append_events_in_a_rolled_back_transaction_leaves_nothing(self, jobs: JobScene) -> None:
        async with jobs.subject.rolled_back() as connection:
            await jobs.storage.append_events([jobs.make.event(SUBJECT)]).await_on(connection)
        is_there = await jobs.storage.get_jobs([SUBJECT]) != [None]
        assert is_there is not jobs.subject.has_transactions
        assert bool(await jobs.claim(TURN)) is is_there

    # --- when a turn is due ----------------------------------------------------------------------------------

    @pytest.mark.parametrize(("policy", "seconds"), [(AT_ONCE, 0), (ONE, 0), (WINDOW, 10), (SLIDING, 10), (FULL, 10)])
    async def test_append_events_makes_a_turn_due_by_the_policy(
        self, jobs: JobScene, policy: TurnPolicy, seconds: int
    ) -> None:
        now = await jobs.subject.now()
        appended = await jobs.send(policy=policy)
        assert appended.due_at == now + timedelta(seconds=seconds)
        assert (await jobs.view()).turn_due_at == appended.due_at
        assert appended.ready_queue == (None if seconds else "default")
        assert await jobs.is_idle() is bool(seconds)

    async def test_append_events_gives_a_job_without_a_turn_one(self, jobs: JobScene) -> None:
        await jobs.idle()
        event = jobs.make.event(SUBJECT, turn=jobs.make.new_turn(queue="fast", priority=1))
        (appended,) = await jobs.storage.append_events([event])
        assert (appended.is_new_job, appended.ready_queue) == (False, "fast")
        assert (await jobs.job()).turn_id == event.turn.id
        await jobs.assert_job_sound()

    @pytest.mark.parametrize("policy", [WINDOW, SLIDING, FULL])
    async def test_append_events_does_not_move_a_turn_later(self, jobs: JobScene, policy: TurnPolicy) -> None:
        first = await jobs.send(policy=policy)
        await jobs.subject.advance(6.0)
        second = await jobs.send(policy=policy)
        assert (second.due_at, second.ready_queue) == (first.due_at, None)
        assert (await jobs.view()).turn_due_at == first.due_at

    async def test_append_events_of_the_number_that_is_enough_are_due_now(self, jobs: JobScene) -> None:
        now = await jobs.subject.now()
        appended = await jobs.send_all(4, policy=FULL)
        later = now + timedelta(seconds=10)
        assert [each.due_at for each in appended] == [later, later, now, now]
        assert [each.ready_queue for each in appended] == [None, None, "default", None]
        assert (await jobs.view()).turn_due_at == now

    async def test_append_events_after_a_while_make_a_full_inbox_due_now(self, jobs: JobScene) -> None:
        await jobs.send_all(2, policy=FULL)
        now = await jobs.later(4.0)
        appended = await jobs.send(policy=FULL)
        assert (appended.due_at, appended.ready_queue) == (now, "default")
        assert (await jobs.view()).turn_due_at == now

    @pytest.mark.parametrize(("policy", "seconds"), [(AT_ONCE, 0), (ONE, 0), (WINDOW, 10), (SLIDING, 10), (FULL, 10)])
    async def test_append_events_makes_a_turn_that_waits_for_its_plan_due_earlier(
        self, jobs: JobScene, policy: TurnPolicy, seconds: int
    ) -> None:
        job = await jobs.start(delay=3600.0)
        now = await jobs.subject.now()
        appended = await jobs.send(policy=policy)
        assert appended.due_at == now + timedelta(seconds=seconds)
        assert appended.ready_queue == (None if seconds else "default")
        assert appended.scheduled_at == job.scheduled_at == (await jobs.job()).scheduled_at
        assert (await jobs.view()).turn_due_at == appended.due_at
        assert len(await jobs.turns_of(job.id)) == 1

    async def test_append_events_leaves_a_plan_that_comes_before_their_window(self, jobs: JobScene) -> None:
        job = await jobs.start(delay=5.0)
        appended = await jobs.send(policy=WINDOW)
        assert (appended.due_at, appended.ready_queue) == (job.scheduled_at, None)

    async def test_append_events_leaves_a_turn_that_runs(self, jobs: JobScene) -> None:
        await jobs.send()
        turn = await jobs.run()
        before = await jobs.get(turn.id)
        now = await jobs.subject.now()
        appended = await jobs.send()
        assert appended == (turn.job.id, 2, False, False, 1, now, now, None, None, None)
        assert await jobs.get(turn.id) == before
        assert len(await jobs.turns_of(turn.job.id)) == 1

    async def test_append_events_leaves_a_turn_that_waits_between_attempts(self, jobs: JobScene) -> None:
        await jobs.send()
        turn = await jobs.run()
        await jobs.retry(turn, 30.0)
        before = await jobs.get(turn.id)
        appended = await jobs.send()
        assert (appended.number, appended.pending_count, appended.due_at, appended.ready_queue) == (2, 1, None, None)
        assert await jobs.get(turn.id) == before

    async def test_append_events_leaves_a_released_turn_that_has_begun(self, jobs: JobScene) -> None:
        await jobs.send()
        turn = await jobs.run()
        await jobs.gone(turn.claimed)
        before = await jobs.get(turn.id)
        assert (await jobs.send()).due_at is None
        assert await jobs.get(turn.id) == before

    # --- paused and failed jobs ------------------------------------------------------------------------------

    async def test_append_events_to_a_paused_job_keeps_them_without_a_turn(self, jobs: JobScene) -> None:
        await jobs.idle()
        await jobs.storage.pause_job(SUBJECT)
        appended = await jobs.send()
        assert (appended.number, appended.pending_count, appended.due_at, appended.ready_queue) == (1, 1, None, None)
        job = await jobs.job()
        assert (job.status, job.turn_id, job.pending_count) == (JobStatus.PAUSED, None, 1)
        assert await jobs.is_idle()

    async def test_append_events_to_a_failed_job_keeps_them_without_a_turn(self, jobs: JobScene) -> None:
        await jobs.failed()
        await jobs.send()
        job = await jobs.job()
        assert (job.status, job.turn_id, job.pending_count) == (JobStatus.FAILED, None, 1)
        assert await jobs.is_idle()

    # --- ids -------------------------------------------------------------------------------------------------

    async def test_append_events_stores_an_id_once(self, jobs: JobScene) -> None:
        first = await jobs.send(event_id="a", payload="1")
        await jobs.send(event_id="b")
        before = await jobs.snapshot(SUBJECT)
        again = await jobs.send(event_id="a", payload="2")
        assert again == first._replace(is_new_job=False, is_duplicate=True, pending_count=2, ready_queue=None)
        assert await jobs.snapshot(SUBJECT) == before

    async def test_append_events_finds_an_id_of_the_same_call(self, jobs: JobScene) -> None:
        appended = await jobs.storage.append_events([
            jobs.make.event(SUBJECT, event_id="a"), jobs.make.event(SUBJECT, event_id="a"),
            jobs.make.event(OTHER, event_id="a"), jobs.make.event(SUBJECT, event_id="b"),
        ])  # fmt: skip
        assert [(each.number, each.is_duplicate) for each in appended] == [
            (1, False),
            (1, True),
            (1, False),
            (2, False),
        ]

    async def test_append_events_without_ids_are_never_duplicates(self, jobs: JobScene) -> None:
        appended = await jobs.send_all(3)
        assert [(each.number, each.is_duplicate) for each in appended] == [(1, False), (2, False), (3, False)]

    async def test_append_events_remembers_the_id_of_a_consumed_event_for_the_window(self, jobs: JobScene) -> None:
        await jobs.send(event_id="a", dedupe_window=60.0)
        await jobs.commit(await jobs.run())
        await jobs.subject.advance(59.999)
        repeated = await jobs.send(event_id="a")
        assert (repeated.number, repeated.is_duplicate, repeated.pending_count) == (1, True, 0)
        assert await jobs.is_idle()
        await jobs.subject.advance(0.001)
        accepted = await jobs.send(event_id="a")
        assert (accepted.number, accepted.is_duplicate, accepted.pending_count) == (2, False, 1)

    @pytest.mark.parametrize("is_taken", [False, True])
    async def test_append_events_remembers_the_id_of_an_event_as_long_as_it_waits(
        self, jobs: JobScene, is_taken: bool
    ) -> None:
        await jobs.send(event_id="a", dedupe_window=1.0)
        if is_taken:
            await jobs.run()
        await jobs.subject.advance(100.0)
        assert (await jobs.send(event_id="a")).is_duplicate

    async def test_append_events_knows_handled_ids_after_the_end_of_their_incarnation(self, jobs: JobScene) -> None:
        await jobs.send(event_id="a")
        await jobs.commit(await jobs.run())
        await jobs.storage.end_job(SUBJECT, reason=None)
        again = await jobs.send(event_id="a")
        assert (again.number, again.is_new_job, again.is_duplicate) == (1, False, True)
