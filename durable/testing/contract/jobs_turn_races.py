"""Contract of a job's turns under contention: their commits against all that happens to the job meanwhile."""

from __future__ import annotations

from collections import Counter

from durable.execution import Settled, Status
from durable.job import JobStatus, TurnCause, TurnPolicy
from durable.storage import Storage
from durable.testing.contract.jobs_scene import (
    OTHER,
    SUBJECT,
    TURN,
    JobCase,
    JobScene,
    JobTurn,
    settle_until_tried,
    take_until_given,
)
from durable.testing.contract.scene import ERROR, LEASE
from durable.testing.contract.together import together
from durable.transitions import fail

__all__ = ["JobTurnRacesContract"]

ROUNDS = 40
IDLE_ROUNDS = 200
SENDERS = 4
EVENTS = 40
SOME = TurnPolicy(max_events=7)


class JobTurnRacesContract(JobCase):
    async def _running(self, jobs: JobScene, count: int = ROUNDS) -> list[JobTurn]:
        """Turns that run, each of a job of its own that has nothing else to do."""
        keys = [SUBJECT._replace(key=f"{number:03}") for number in range(count)]
        for key in keys:
            await jobs.start(key)
        claimed = await jobs.claim(TURN)
        turns = [JobTurn(each, await jobs.take(each)) for each in claimed]
        return sorted(turns, key=lambda turn: turn.job.key)

    # --- the end of a turn against what asks for another -----------------------------------------------------

    async def test_an_append_to_a_job_that_becomes_idle_is_never_left_without_a_turn(self, jobs: JobScene) -> None:
        first, second, _ = jobs.subject.handles[:3]
        await jobs.send()
        for number in range(2, IDLE_ROUNDS + 2):
            turn = await jobs.run()
            assert turn.numbers == [number - 1]

            async def settle(turn: JobTurn = turn) -> bool:
                return bool((await settle_until_tried(first, jobs.end(turn))).accepted)

            async def append() -> bool:
                (appended,) = await second.append_events([jobs.make.event(SUBJECT)])
                return not appended.is_new_job

            assert await together(settle(), append()) == [True, True]
            view = await jobs.view()
            assert (view.turn_status, view.job.pending_count, view.job.event_count) == (Status.READY, 1, number)

    async def test_a_send_to_a_job_that_becomes_idle_is_never_left_without_a_turn(self, jobs: JobScene) -> None:
        first, second, _ = jobs.subject.handles[:3]
        for _ in range(ROUNDS):
            await jobs.send(OTHER)
            await jobs.send(SUBJECT)
            turns = [JobTurn(each, await jobs.take(each)) for each in await jobs.claim(TURN)]
            turns.sort(key=lambda turn: turn.job.kind)
            sender, receiver = turns
            assert (sender.job.job_key, receiver.job.job_key) == (SUBJECT, OTHER)
            settled = await together(
                settle_until_tried(first, jobs.end(sender, sends=(jobs.make.event(OTHER),))),
                settle_until_tried(second, jobs.end(receiver)),
            )
            assert [each.accepted for each in settled] == [{sender.id}, {receiver.id}]
            assert (await jobs.view(OTHER)).turn_status is Status.READY
            following = await jobs.run()
            assert (following.job.job_key, len(following.numbers)) == (OTHER, 1)
            await jobs.commit(following)

    async def test_a_trigger_during_the_end_of_a_turn_gives_one_more(self, jobs: JobScene) -> None:
        first, second, third = jobs.subject.handles[:3]
        turns = await self._running(jobs)

        async def settle(turn: JobTurn) -> None:
            assert (await settle_until_tried(first, jobs.end(turn))).accepted == {turn.id}

        async def trigger(turn: JobTurn) -> None:
            for handle in (second, third):
                done = await handle.trigger_job(turn.job.job_key, turn=jobs.make.new_turn(), only_pending=False)
                assert done.is_queued is (done.ready_queue is None)

        await together(*(race(turn) for turn in turns for race in (settle, trigger)))
        for turn in turns:
            view = await jobs.view(turn.job.job_key)
            assert (view.turn_status, view.turn_due_at) == (Status.READY, await jobs.subject.now())
            assert (view.job.is_triggered, view.job.run_count) == (True, 1)
            assert len(await jobs.turns_of(turn.job.id)) == 2

    async def test_a_pause_during_the_end_of_a_turn_keeps_the_plan(self, jobs: JobScene) -> None:
        first, second, _ = jobs.subject.handles[:3]
        turns = await self._running(jobs)

        async def settle(turn: JobTurn) -> None:
            end = jobs.end(turn, writes_schedule=True, schedule_delay=5.0)
            assert (await settle_until_tried(first, end)).accepted == {turn.id}

        async def pause(turn: JobTurn) -> None:
            assert await second.pause_job(turn.job.job_key) is not None

        await together(*(race(turn) for turn in turns for race in (settle, pause)))
        for turn in turns:
            job = await jobs.job(turn.job.job_key)
            assert (job.status, job.turn_id, job.run_count) == (JobStatus.PAUSED, None, 1)
            assert job.scheduled_at is not None
            await jobs.assert_job_sound(turn.job.job_key)

    # --- the end of a turn against the end of its job --------------------------------------------------------

    async def test_a_turn_is_either_committed_or_ended_with_its_job(self, jobs: JobScene) -> None:
        first, second, _ = jobs.subject.handles[:3]
        turns = await self._running(jobs)

        async def settle(turn: JobTurn) -> bool:
            end = jobs.end(turn, writes_state=True, state='"new"', writes_schedule=True, schedule_delay=0.0)
            return bool((await settle_until_tried(first, end)).accepted)

        async def end(turn: JobTurn) -> bool:
            before = await second.end_job(turn.job.job_key, reason="enough")
            assert before is not None
            return before.turn_id != turn.id

        results = await together(*(race(turn) for turn in turns for race in (settle, end)))
        for turn, is_accepted, was_over in zip(turns, results[::2], results[1::2], strict=True):
            job = await jobs.job(turn.job.job_key)
            assert is_accepted is was_over
            assert (job.status, job.epoch, job.reason) == (JobStatus.TERMINATED, 2, "enough")
            assert (job.state, job.run_count) == (('"new"', 1) if is_accepted else ("null", 0))
            expected = Status.COMPLETED if is_accepted else Status.CANCELLED
            assert await jobs.status_of(turn.id) is expected
            await jobs.assert_job_sound(turn.job.job_key)

    async def test_a_late_commit_leaves_the_next_incarnation(self, jobs: JobScene) -> None:
        first, second, _ = jobs.subject.handles[:3]
        turns = await self._running(jobs)

        async def settle(turn: JobTurn) -> None:
            await settle_until_tried(first, jobs.end(turn, writes_state=True, state='"old"'))

        async def begin_anew(turn: JobTurn) -> None:
            await second.end_job(turn.job.job_key, reason=None)
            assert (await second.start_job(jobs.make.new_job(turn.job.job_key, state='"new"'))).is_new

        await together(*(race(turn) for turn in turns for race in (settle, begin_anew)))
        for turn in turns:
            job = await jobs.job(turn.job.job_key)
            assert (job.status, job.epoch, job.state, job.run_count) == (JobStatus.ACTIVE, 2, '"new"', 0)
            await jobs.assert_job_sound(turn.job.job_key)

    async def test_a_turn_that_is_lost_sends_nothing(self, jobs: JobScene) -> None:
        first, second, third = jobs.subject.handles[:3]
        turns = await self._running(jobs)
        await jobs.subject.advance(LEASE)

        async def settle(turn: JobTurn) -> frozenset[str]:
            sends = (jobs.make.event(OTHER, event_id=turn.id),)
            return (await settle_until_tried(first, jobs.end(turn, sends=sends))).accepted

        async def recover(handle: Storage) -> frozenset[str]:
            return frozenset(each.id for each in await handle.recover(limit=ROUNDS // 3))

        results = await together(*map(settle, turns), *map(recover, (second, third, second)))
        accepted, lost = frozenset[str]().union(*results[:ROUNDS]), frozenset[str]().union(*results[ROUNDS:])
        lost |= await recover(third) | await recover(third) | await recover(third)
        assert accepted | lost == {turn.id for turn in turns}
        assert accepted.isdisjoint(lost)
        sent = {event.event_id for event in await jobs.storage.pending_events(OTHER)}
        assert sent == accepted
        for turn in turns:
            assert (await jobs.job(turn.job.job_key)).run_count == (1 if turn.id in accepted else 0)

    async def test_one_commit_sent_several_times_is_accepted_once(self, jobs: JobScene) -> None:
        (turn,) = await self._running(jobs, 1)
        end = jobs.end(turn, sends=(jobs.make.event(OTHER),), writes_schedule=True, schedule_delay=5.0)
        handles = jobs.subject.handles
        settled = await together(*(settle_until_tried(handles[number % 3], end) for number in range(6)))
        assert sorted(len(each.accepted) for each in settled) == [*([0] * 5), 1]
        assert ((await jobs.job(turn.job.job_key)).run_count, await jobs.waiting(OTHER)) == (1, [1])

    # --- sends -----------------------------------------------------------------------------------------------

    async def test_sends_of_many_turns_to_one_job_make_it_once_and_lose_nothing(self, jobs: JobScene) -> None:
        handles = jobs.subject.handles
        turns = await self._running(jobs)
        settled = await together(*(
            settle_until_tried(handles[number % 3], jobs.end(turn, sends=tuple(jobs.make.events(OTHER, 2))))
            for number, turn in enumerate(turns)
        ))  # fmt: skip
        assert [each.accepted for each in settled] == [{turn.id} for turn in turns]
        job = await jobs.job(OTHER)
        assert (job.event_count, job.pending_count) == (2 * ROUNDS, 2 * ROUNDS)
        assert await jobs.waiting(OTHER) == list(range(1, 2 * ROUNDS + 1))
        assert len(await jobs.turns_of(job.id)) == 1

    async def test_turns_that_send_to_each_other_s_jobs_all_commit(self, jobs: JobScene) -> None:
        handles = jobs.subject.handles
        turns = await self._running(jobs, 12)
        keys = [turn.job.job_key for turn in turns]

        async def commit(number: int) -> Settled:
            sends = (jobs.make.event(keys[(number + 1) % 12]), jobs.make.event(keys[number - 1]))
            return await settle_until_tried(handles[number % 3], jobs.end(turns[number], sends=sends))

        settled = await together(*(commit(number) for number in range(12)))
        assert [each.accepted for each in settled] == [{turn.id} for turn in turns]
        for turn in turns:
            assert await jobs.waiting(turn.job.job_key) == [1, 2]
            assert (await jobs.job(turn.job.job_key)).run_count == 1
            await jobs.assert_job_sound(turn.job.job_key)

    # --- all together ----------------------------------------------------------------------------------------

    async def test_each_event_is_committed_once_whatever_else_happens(self, jobs: JobScene) -> None:
        """Senders, consumers that at times fail, and an operator, all at one job."""
        handles = jobs.subject.handles[:3]
        consumer = _Consumer(jobs, SENDERS * EVENTS)

        async def send(handle: Storage) -> None:
            for _ in range(EVENTS):
                await handle.append_events([jobs.make.event(SUBJECT, policy=SOME)])

        async def operate(handle: Storage) -> None:
            for _ in range(EVENTS):
                await handle.pause_job(SUBJECT)
                await handle.trigger_job(SUBJECT, turn=jobs.make.new_turn(), only_pending=True)
                await handle.resume_job(SUBJECT, turn=jobs.make.new_turn())

        await together(
            *(send(handles[number % 3]) for number in range(SENDERS)),
            *(consumer.work(number) for number in range(3)),
            operate(handles[0]),
        )
        assert Counter(consumer.consumed) == Counter(range(1, SENDERS * EVENTS + 1))
        job = await jobs.job()
        assert (job.event_count, job.pending_count) == (SENDERS * EVENTS, 0)
        await jobs.assert_job_sound()


class _Consumer:
    """Runs the turns of SUBJECT on several handles until so many events were consumed; every third attempt fails."""

    def __init__(self, jobs: JobScene, enough: int) -> None:
        self._jobs = jobs
        self._enough = enough
        self._running = 0
        self._attempts = 0
        self.consumed: list[int] = []

    async def work(self, handle: int) -> None:
        storage = self._jobs.subject.handles[handle]
        while len(self.consumed) < self._enough:
            for claimed in await self._jobs.claim(TURN, handle=handle):
                taken = await take_until_given(storage, claimed, SOME)
                if taken is not None:
                    await self._run(storage, JobTurn(claimed, taken))

    async def _run(self, storage: Storage, turn: JobTurn) -> None:
        # One that a pause has ended, or that came too early, has nothing to run on.
        runs = turn.taken.job.turn_cause is not TurnCause.NOTHING
        assert not (runs and self._running), "two turns of one job run at the same time"
        self._running += runs
        self._attempts += 1
        await storage.now()
        self._running -= runs
        if self._attempts % 3 == 0:
            await storage.settle([fail(turn.claimed, ERROR, retry_delay=0.0)])
        elif (await settle_until_tried(storage, self._jobs.end(turn, policy=SOME))).accepted:
            self.consumed += turn.numbers
