"""Contract of recover: work comes back from executors that went away, and poison does not come back for ever."""

from __future__ import annotations

import pytest

from durable.execution import CloseStatus, Phase, Recovered, Status
from durable.storage import ExecutionFilter
from durable.testing.contract.pool_scene import PoolScene
from durable.testing.contract.scene import ERROR, EXECUTOR, FINALIZE, LEASE, PARENT, Case, Scene
from durable.transitions import complete, fail, release

__all__ = ["RecoverContract"]


class RecoverContract(Case):
    async def test_recover_leaves_a_lease_that_still_runs(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.subject.advance(LEASE - 0.001)
        assert await scene.storage.recover(limit=9) == []
        assert await scene.status_of(turn.id) is Status.RUNNING

    async def test_recover_takes_a_lease_that_ends_exactly_now(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.subject.advance(LEASE)
        assert await scene.storage.recover(limit=9) == [
            Recovered(turn.id, turn.task_name, Status.READY, "default", EXECUTOR)
        ]

    async def test_recover_gives_the_attempt_back_but_not_the_delivery(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.subject.advance(LEASE + 5.0)
        await scene.storage.recover(limit=9)
        record = await scene.get(turn.id)
        assert (record.status, record.attempts, record.deliveries) == (Status.READY, 0, 1)
        assert (record.fence, record.settled_fence) == (turn.fence + 1, 0)
        assert (record.lease_expires_at, record.finished_at, record.reason) == (None, None, None)
        assert record.due_at == await scene.subject.now()
        assert record.error is not None

    async def test_recover_makes_it_claimable_at_once_by_anybody(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.subject.advance(LEASE)
        await scene.subject.handles[1].recover(limit=9)
        again = await scene.claim_one(executor_id="executor-b", handle=2)
        assert (again.id, again.attempts, again.deliveries) == (turn.id, 1, 2)
        assert again.fence > turn.fence

    async def test_recover_takes_each_once(self, scene: Scene) -> None:
        await scene.turn()
        await scene.subject.advance(LEASE)
        assert len(await scene.storage.recover(limit=9)) == 1
        assert await scene.storage.recover(limit=9) == []

    async def test_recover_takes_the_earliest_up_to_its_limit(self, scene: Scene) -> None:
        ids: list[str] = []
        for lease in (3.0, 1.0, 2.0, 60.0):
            await scene.enqueue()
            ids.append((await scene.claim_one(lease=lease)).id)
        await scene.subject.advance(10.0)
        assert await scene.storage.recover(limit=0) == []
        assert {taken.id for taken in await scene.storage.recover(limit=2)} == {ids[1], ids[2]}
        assert {taken.id for taken in await scene.storage.recover(limit=9)} == {ids[0]}

    async def test_recover_takes_thousands_in_one_call(self, scene: Scene) -> None:
        turns = await scene.turns(1_200)
        await scene.subject.advance(LEASE)
        assert {taken.id for taken in await scene.storage.recover(limit=5_000)} == {turn.id for turn in turns}

    @pytest.mark.parametrize("status", sorted(set(Status) - {Status.RUNNING}))
    async def test_recover_touches_nothing_that_is_not_running(self, scene: Scene, status: Status) -> None:
        id_ = await scene.in_status(status)
        before = await scene.get(id_)
        await scene.subject.advance(1e6)
        await scene.storage.recover(limit=99)
        assert await scene.get(id_) == before

    async def test_recover_needs_no_executor_to_be_known(self, scene: Scene) -> None:
        turn = await scene.turn()
        assert await scene.storage.executors() == []
        await scene.subject.advance(LEASE)
        assert [taken.id for taken in await scene.storage.recover(limit=9)] == [turn.id]

    async def test_pool_23_a_lost_worker_costs_a_delivery_and_its_late_end_changes_no_count(self, scene: Scene) -> None:
        """The case asks for the loss to count as an attempt; here it counts as a delivery, on purpose.

        Its point holds either way: the loss is counted once, it is tried again or has failed, and a late end of the
        lost worker is refused and changes no count. See RET-12 for the reason.
        """
        pool = PoolScene(scene)
        await pool.open()
        (id_,) = await pool.enqueue(max_attempts=2, max_deliveries=2)
        (lost,) = await pool.turns()
        await scene.subject.advance(LEASE)
        await scene.storage.recover(limit=9)
        (again,) = await pool.turns()
        assert (again.attempts, again.deliveries) == (1, 2)
        before = await scene.get(id_)
        for late in (complete(lost, "1"), fail(lost, ERROR, retry_delay=0.0), release(lost)):
            assert (await scene.storage.settle([late])).accepted == frozenset()
        assert await scene.get(id_) == before
        await scene.storage.settle([fail(again, ERROR, retry_delay=0.0)])
        record = await scene.get(id_)
        assert (record.status, record.attempts, record.deliveries) == (Status.READY, 1, 0)

    # --- poison ----------------------------------------------------------------------------------------------

    async def test_recover_ends_as_poisoned_after_the_last_delivery(self, scene: Scene) -> None:
        id_ = await scene.enqueue(max_deliveries=3, max_attempts=1)
        statuses: list[Status] = []
        for _ in range(3):
            await scene.claim_one()
            await scene.subject.advance(LEASE)
            statuses += [taken.status for taken in await scene.storage.recover(limit=9)]
        assert statuses == [Status.READY, Status.READY, Status.FAILED]
        record, now = await scene.get(id_), await scene.subject.now()
        assert (record.reason, record.attempts, record.deliveries) == ("poisoned", 1, 3)
        assert (record.finished_at, record.closed_at) == (now, now)
        assert record.close_status is CloseStatus.CLOSED
        assert record.error is not None
        assert await scene.claim() == []

    async def test_recover_ends_a_later_phase_as_finalize_failed(self, scene: Scene) -> None:
        turn = await scene.later_turn()
        max_deliveries = (await scene.get(turn.id)).max_deliveries
        for _ in range(max_deliveries - 1):
            await scene.subject.advance(LEASE)
            assert [taken.status for taken in await scene.storage.recover(limit=9)] == [Status.READY]
            turn = await scene.claim_one(PARENT)
        await scene.subject.advance(LEASE)
        assert [taken.status for taken in await scene.storage.recover(limit=9)] == [Status.FINALIZE_FAILED]
        record = await scene.get(turn.id)
        assert (record.status, record.reason) == (Status.FINALIZE_FAILED, "poisoned")
        assert record.phase is Phase.CHILDREN

    async def test_recover_counts_deliveries_anew_after_an_accepted_end(self, scene: Scene) -> None:
        await scene.enqueue(max_deliveries=2, max_attempts=9)
        for _ in range(3):
            await scene.claim_one()
            await scene.subject.advance(LEASE)
            (taken,) = await scene.storage.recover(limit=9)
            assert taken.status is Status.READY
            await scene.storage.settle([fail(await scene.claim_one(), ERROR, retry_delay=0.0)])

    async def test_recover_tells_the_parent_of_a_poisoned_child_only(self, scene: Scene) -> None:
        family = await scene.family(1, child={"max_deliveries": 2})
        await scene.claim_one("child")
        await scene.subject.advance(LEASE)
        await scene.storage.recover(limit=9)
        assert (await scene.get(family.id)).active_children_count == 1
        await scene.claim_one("child")
        await scene.subject.advance(LEASE)
        await scene.storage.recover(limit=9)
        assert [turn.id for turn in await scene.claim(PARENT)] == [family.id]

    async def test_recover_of_a_poisoned_finalize_lets_the_parent_take_it_over(self, scene: Scene) -> None:
        family, finalize = await scene.finalizing()
        for _ in range(5):
            await scene.claim_one(FINALIZE)
            await scene.subject.advance(LEASE)
            await scene.storage.recover(limit=9)
        assert await scene.status_of(finalize.id) is Status.FAILED
        assert (await scene.claim_one(PARENT)).id == family.id

    async def test_recover_counts_several_poisoned_siblings(self, scene: Scene) -> None:
        family = await scene.family(3, child={"max_deliveries": 1})
        await scene.claim("child")
        await scene.subject.advance(LEASE)
        assert len(await scene.storage.recover(limit=9)) == 3
        record = await scene.get(family.id)
        assert (record.status, record.active_children_count) == (Status.READY, 0)
        await scene.assert_sound()

    async def test_recover_keeps_what_was_poisoned_for_inspection(self, scene: Scene) -> None:
        turn = await scene.turn(max_deliveries=1, input='"evidence"')
        await scene.subject.advance(LEASE)
        await scene.storage.recover(limit=9)
        (found,) = await scene.storage.search(ExecutionFilter(statuses=(Status.FAILED,)), limit=9)
        assert (found.id, found.input, found.executor_id) == (turn.id, '"evidence"', EXECUTOR)
