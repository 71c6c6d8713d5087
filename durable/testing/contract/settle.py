"""Contract of settle: what an accepted end writes, and that a lost fence writes nothing, whatever the end."""

from __future__ import annotations

from datetime import timedelta

import pytest

from durable.execution import FINISHED, Claimed, CloseStatus, Kind, Settled, Status
from durable.testing.contract.ends import ENDS, STATUS_AFTER, end_of, turn_for
from durable.testing.contract.enqueue import PAYLOADS
from durable.testing.contract.scene import ERROR, LEASE, Case, Scene
from durable.transitions import complete, fail, release, repeat

__all__ = ["SettleContract"]

NOBODY = Settled(frozenset(), frozenset())


class SettleContract(Case):
    @pytest.mark.parametrize("end", ENDS)
    async def test_settle_writes_every_end_of_a_turn(self, scene: Scene, end: str) -> None:
        turn = await turn_for(scene, end)
        settlement = end_of(scene, turn, end)
        settled = await scene.storage.settle([settlement])
        record = await scene.get(turn.id)
        assert settled.accepted == {turn.id}
        assert record.status is STATUS_AFTER[end]
        expected = {
            name: value
            for name, value in settlement._asdict().items()
            if name not in ("id", "fence", "delay", "children", "job", "notices", "workflow", "is_bare")
        }
        assert {name: getattr(record, name) for name in expected} == expected
        assert (record.fence, record.settled_fence) == (turn.fence + 1, turn.fence)
        assert record.lease_expires_at is None

    @pytest.mark.parametrize("end", ENDS)
    async def test_settle_times_and_closes_what_it_finishes(self, scene: Scene, end: str) -> None:
        turn = await turn_for(scene, end)
        await scene.subject.advance(3.0)
        await scene.storage.settle([end_of(scene, turn, end)])
        record, now = await scene.get(turn.id), await scene.subject.now()
        if record.status in FINISHED:
            assert (record.finished_at, record.closed_at) == (now, now)
            assert record.close_status is CloseStatus.CLOSED
        else:
            assert (record.finished_at, record.closed_at) == (None, None)
            assert record.close_status is CloseStatus.IDLE
        assert (record.waiting_for_children_at == now) is (record.status is Status.WAITING_FOR_CHILDREN)
        assert (record.waiting_for_finalize_at == now) is (record.status is Status.WAITING_FOR_FINALIZE)
        assert record.updated_at == now

    async def test_settle_clears_what_earlier_turns_have_left(self, scene: Scene) -> None:
        """Of the ends of one batch, one has failed before, one has gone on with other arguments, one is the first."""
        failed, gone_on, fresh = await scene.turns(3)
        await scene.storage.settle([fail(failed, ERROR, retry_delay=0.0), repeat(gone_on, 0.0, '"next"')])
        turns = [*await scene.claim(limit=2), fresh]
        settled = await scene.storage.settle([complete(turn, f'"{turn.id}"') for turn in turns])
        assert settled == Settled(frozenset(turn.id for turn in turns), frozenset())
        for turn in turns:
            record = await scene.get(turn.id)
            assert (record.output, record.run_output, record.error) == (f'"{turn.id}"', None, None)
            assert (record.status, record.attempts, record.iteration) == (
                Status.COMPLETED, turn.attempts, turn.iteration,
            )  # fmt: skip

    # --- fences ----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("end", ENDS)
    async def test_settle_refuses_the_late_end_of_a_turn_that_was_claimed_again(self, scene: Scene, end: str) -> None:
        old = await turn_for(scene, end)
        await scene.subject.advance(LEASE)
        await scene.storage.recover(limit=10)
        new = await scene.claim_one(old.task_name, executor_id="executor-b")
        await self._refused(scene, old, end)
        assert (await scene.storage.settle([complete(new, '"of the new one"')])).accepted == {new.id}
        assert (await scene.get(new.id)).output == '"of the new one"'

    @pytest.mark.parametrize("end", ENDS)
    async def test_settle_refuses_the_late_end_of_a_turn_that_was_recovered(self, scene: Scene, end: str) -> None:
        old = await turn_for(scene, end)
        await scene.subject.advance(LEASE)
        await scene.storage.recover(limit=10)
        await self._refused(scene, old, end)

    @pytest.mark.parametrize("end", ENDS)
    async def test_settle_refuses_the_late_end_of_a_turn_that_was_cancelled(self, scene: Scene, end: str) -> None:
        old = await turn_for(scene, end)
        await scene.storage.cancel([old.id], reason="cancelled")
        await self._refused(scene, old, end)

    @pytest.mark.parametrize("end", ENDS)
    async def test_settle_refuses_a_fence_that_was_never_given(self, scene: Scene, end: str) -> None:
        turn = await turn_for(scene, end)
        await self._refused(scene, turn._replace(fence=turn.fence + 1), end)
        await self._refused(scene, turn._replace(fence=turn.fence - 1), end)

    @pytest.mark.parametrize("end", ENDS)
    async def test_settle_repeated_changes_nothing(self, scene: Scene, end: str) -> None:
        turn = await turn_for(scene, end)
        settlement = end_of(scene, turn, end)
        await scene.storage.settle([settlement])
        before = await scene.everything()
        assert (await scene.storage.settle([settlement])).accepted == frozenset()
        assert await scene.everything() == before

    async def _refused(self, scene: Scene, turn: Claimed, end: str) -> None:
        before = await scene.everything()
        assert await scene.storage.settle([end_of(scene, turn, end)]) == NOBODY
        assert await scene.everything() == before

    async def test_settle_keeps_the_claims_of_one_executor_apart(self, scene: Scene) -> None:
        first = await scene.turn()
        await scene.storage.settle([fail(first, ERROR, retry_delay=0.0)])
        second = await scene.claim_one()
        assert await scene.storage.settle([complete(first, '"late"')]) == NOBODY
        assert (await scene.storage.settle([complete(second, '"right"')])).accepted == {second.id}
        assert (await scene.get(first.id)).output == '"right"'

    async def test_settle_ignores_executions_that_are_not_stored(self, scene: Scene) -> None:
        turn = await scene.turn()
        assert await scene.storage.settle([complete(turn._replace(id=scene.make.id()), "1")]) == NOBODY

    async def test_settle_accepts_the_neighbours_of_a_refused_one(self, scene: Scene) -> None:
        kept, lost, other = await scene.turns(3)
        await scene.gone(lost)
        settled = await scene.storage.settle([complete(turn, "1") for turn in (kept, lost, other)])
        assert settled.accepted == {kept.id, other.id}
        assert await scene.status_of(lost.id) is Status.READY

    async def test_settle_of_nothing_gives_nothing(self, scene: Scene) -> None:
        assert await scene.storage.settle([]) == NOBODY

    async def test_settle_takes_thousands_in_one_call(self, scene: Scene) -> None:
        turns = await scene.turns(1_200)
        await scene.complete_all(turns)
        assert {record.status for record in (await scene.everything()).values()} == {Status.COMPLETED}

    async def test_settle_writes_each_turn_its_own_end(self, scene: Scene) -> None:
        turns = await scene.turns(6)
        await scene.storage.settle([
            complete(turns[0], '"a"'), fail(turns[1], ERROR, retry_delay=None), fail(turns[2], ERROR, retry_delay=9.0),
            release(turns[3]), complete(turns[4], '"b"'), scene.make.suspension(turns[5]),
        ])  # fmt: skip
        records = await scene.get_all([turn.id for turn in turns])
        assert [record.status for record in records] == [
            Status.COMPLETED, Status.FAILED, Status.READY, Status.READY, Status.COMPLETED, Status.WAITING,
        ]  # fmt: skip
        assert [record.output for record in records] == ['"a"', None, None, None, '"b"', None]

    # --- payloads --------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("payload", PAYLOADS)
    async def test_settle_gives_payloads_back_as_they_were(self, scene: Scene, payload: str) -> None:
        done, failed, looped = await scene.turns(3)
        await scene.storage.settle([
            complete(done, payload), fail(failed, payload, retry_delay=None), repeat(looped, 0.0, payload),
        ])  # fmt: skip
        assert (await scene.get(done.id)).output == payload
        assert (await scene.get(failed.id)).error == payload
        assert (await scene.get(looped.id)).run_output == payload

    async def test_settle_takes_a_payload_of_a_megabyte(self, scene: Scene) -> None:
        payload = '"' + "€\\n" * 300_000 + '"'
        turn = await scene.turn()
        await scene.storage.settle([complete(turn, payload)])
        assert (await scene.get(turn.id)).output == payload

    async def test_settle_tells_no_state_from_an_empty_one(self, scene: Scene) -> None:
        without, empty = await scene.turns(2)
        await scene.storage.settle([repeat(without, 0.0, None), repeat(empty, 0.0, '""')])
        records = await scene.get_all([without.id, empty.id])
        assert [record.run_output for record in records] == [None, '""']

    # --- ready again -----------------------------------------------------------------------------------------

    async def test_settle_counts_the_delay_of_a_retry_from_the_write(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.subject.advance(7.0)
        await scene.storage.settle([fail(turn, ERROR, retry_delay=2.5)])
        record = await scene.get(turn.id)
        assert record.due_at == await scene.subject.now() + timedelta(seconds=2.5)
        assert (record.attempts, record.deliveries, record.error) == (1, 0, ERROR)

    async def test_settle_keeps_the_due_time_of_what_does_not_become_ready(self, scene: Scene) -> None:
        turn = await scene.turn()
        due_at = (await scene.get(turn.id)).due_at
        await scene.subject.advance(7.0)
        await scene.complete_all([turn])
        assert (await scene.get(turn.id)).due_at == due_at

    async def test_settle_releases_without_a_trace_on_the_counters(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.storage.settle([fail(turn, ERROR, retry_delay=0.0)])
        second = await scene.claim_one()
        await scene.storage.settle([release(second)])
        record = await scene.get(turn.id)
        assert (record.attempts, record.deliveries, record.error) == (1, 0, ERROR)
        assert record.due_at == await scene.subject.now()

    async def test_settle_releases_as_often_as_asked(self, scene: Scene) -> None:
        turn = await scene.turn(max_attempts=1, max_deliveries=1)
        for _ in range(4):
            await scene.storage.settle([release(turn)])
            turn = await scene.claim_one()
        assert (turn.attempts, turn.deliveries) == (1, 1)

    async def test_settle_forgets_the_error_of_what_completes_in_the_end(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.storage.settle([fail(turn, ERROR, retry_delay=0.0)])
        await scene.complete_all([await scene.claim_one()])
        assert (await scene.get(turn.id)).error is None

    async def test_settle_lets_a_loop_take_many_turns(self, scene: Scene) -> None:
        turn = await scene.turn(kind=Kind.LOOP, max_attempts=1)
        for seen in range(1, 6):
            await scene.storage.settle([repeat(turn, 1.0, str(seen))])
            await scene.subject.advance(1.0)
            turn = await scene.claim_one()
            assert (turn.iteration, turn.run_output, turn.attempts) == (seen, str(seen), 1)

    async def test_settle_names_the_queues_in_which_work_became_ready(self, scene: Scene) -> None:
        turns: dict[str, Claimed] = {}
        for queue in ("retried", "delayed", "released", "done", "repeated"):
            await scene.enqueue(queue=queue)
            turns[queue] = await scene.claim_one(queues=[queue])
        settled = await scene.storage.settle([
            fail(turns["retried"], ERROR, retry_delay=0.0), fail(turns["delayed"], ERROR, retry_delay=1.0),
            release(turns["released"]), complete(turns["done"], "1"), repeat(turns["repeated"], 0.0, None),
        ])  # fmt: skip
        assert settled.ready_queues == {"retried", "released", "repeated"}

    # --- settled ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("end", ENDS)
    async def test_settled_tells_that_a_write_was_accepted(self, scene: Scene, end: str) -> None:
        turn = await turn_for(scene, end)
        assert await scene.storage.settled([(turn.id, turn.fence)]) == frozenset()
        await scene.storage.settle([end_of(scene, turn, end)])
        assert await scene.storage.settled([(turn.id, turn.fence)]) == {turn.id}

    async def test_settled_tells_a_refused_write_from_an_accepted_one(self, scene: Scene) -> None:
        kept, lost, cancelled = await scene.turns(3)
        await scene.subject.advance(LEASE)
        await scene.storage.renew([(turn.id, turn.fence) for turn in (kept, cancelled)], lease=LEASE)
        await scene.storage.recover(limit=10)
        await scene.storage.cancel([cancelled.id], reason="cancelled")
        await scene.storage.settle([complete(turn, "1") for turn in (kept, lost, cancelled)])
        pairs = [(turn.id, turn.fence) for turn in (kept, lost, cancelled)]
        assert await scene.storage.settled(pairs) == {kept.id}

    async def test_settled_stays_true_after_the_next_claim(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.storage.settle([fail(turn, ERROR, retry_delay=0.0)])
        again = await scene.claim_one()
        assert await scene.storage.settled([(turn.id, turn.fence), (again.id, again.fence)]) == {turn.id}

    async def test_settled_is_false_for_what_is_not_stored_or_never_ran(self, scene: Scene) -> None:
        id_ = await scene.enqueue()
        assert await scene.storage.settled([(id_, 0), (id_, 1), (scene.make.id(), 1)]) == frozenset()

    async def test_settled_of_nothing_gives_nothing(self, scene: Scene) -> None:
        assert await scene.storage.settled([]) == frozenset()
