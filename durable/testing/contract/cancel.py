"""Contract of cancel and its pick-up: what is unfinished ends at once, and its executor hears of it once."""

from __future__ import annotations

import pytest

from durable.execution import FINISHED, CancelResult, CloseStatus, Kind, Status
from durable.testing.contract.scene import CHILD, EXECUTOR, LEASE, PARENT, Case, Scene

__all__ = ["CancelContract"]

UNFINISHED = sorted(set(Status) - FINISHED)


class CancelContract(Case):
    @pytest.mark.parametrize("status", UNFINISHED)
    async def test_cancel_ends_everything_unfinished_at_once(self, scene: Scene, status: Status) -> None:
        id_ = await scene.in_status(status)
        before = await scene.get(id_)
        await scene.subject.advance(2.0)
        assert await scene.storage.cancel([id_], reason="cancelled") == [CancelResult(id_, status, True)]
        record, now = await scene.get(id_), await scene.subject.now()
        assert (record.status, record.reason, record.finished_at) == (Status.CANCELLED, "cancelled", now)
        assert record.fence == before.fence + 1
        assert record.needs_cancel is (status is Status.RUNNING)
        assert record.lease_expires_at is None
        assert record.error is not None

    @pytest.mark.parametrize("status", sorted(FINISHED))
    async def test_cancel_leaves_what_has_finished(self, scene: Scene, status: Status) -> None:
        id_ = await scene.in_status(status)
        before = await scene.get(id_)
        await scene.subject.advance(2.0)
        assert await scene.storage.cancel([id_], reason="too late") == [CancelResult(id_, status, False)]
        assert await scene.get(id_) == before

    async def test_cancel_answers_in_the_order_of_the_ids(self, scene: Scene) -> None:
        done, unknown = await scene.in_status(Status.COMPLETED), scene.make.id()
        ready, other = await scene.enqueue_all(2)
        assert await scene.storage.cancel([done, other, unknown, ready], reason="cancelled") == [
            CancelResult(done, Status.COMPLETED, False),
            CancelResult(other, Status.READY, True),
            CancelResult(unknown, None, False),
            CancelResult(ready, Status.READY, True),
        ]

    async def test_cancel_of_nothing_gives_nothing(self, scene: Scene) -> None:
        assert await scene.storage.cancel([], reason="cancelled") == []

    async def test_cancel_keeps_the_reason_it_was_given(self, scene: Scene) -> None:
        id_ = await scene.enqueue()
        await scene.storage.cancel([id_], reason="superseded")
        record = await scene.get(id_)
        assert record.reason == "superseded"
        assert record.error is not None
        assert "superseded" in record.error

    async def test_cancel_takes_thousands_in_one_call(self, scene: Scene) -> None:
        ids = await scene.enqueue_all(1_200)
        results = await scene.storage.cancel(ids, reason="cancelled")
        assert results == [CancelResult(id_, Status.READY, True) for id_ in ids]

    async def test_cancel_closes_what_has_no_children(self, scene: Scene) -> None:
        id_ = await scene.enqueue()
        await scene.storage.cancel([id_], reason="cancelled")
        record = await scene.get(id_)
        assert (record.close_status, record.closed_at) == (CloseStatus.CLOSED, await scene.subject.now())

    async def test_cancel_leaves_active_children_to_the_close_pipeline(self, scene: Scene) -> None:
        family = await scene.family(2)
        await scene.storage.cancel([family.id], reason="cancelled")
        record = await scene.get(family.id)
        assert (record.close_status, record.closed_at) == (CloseStatus.READY, None)
        assert record.active_children_count == 2
        assert {child.status for child in await scene.get_all(family.child_ids)} == {Status.READY}

    async def test_cancel_of_a_child_tells_its_parent(self, scene: Scene) -> None:
        family = await scene.family(2)
        await scene.storage.cancel(family.child_ids[:1], reason="cancelled")
        assert (await scene.get(family.id)).active_children_count == 1
        await scene.storage.cancel(family.child_ids[1:], reason="cancelled")
        assert [turn.id for turn in await scene.claim(PARENT)] == [family.id]

    async def test_cancel_of_siblings_in_one_call_counts_them_all(self, scene: Scene) -> None:
        family = await scene.family(3)
        await scene.storage.cancel(family.child_ids, reason="cancelled")
        record = await scene.get(family.id)
        assert (record.status, record.active_children_count) == (Status.READY, 0)

    @pytest.mark.parametrize("is_parent_first", [True, False])
    async def test_cancel_of_a_parent_with_its_child_ends_both(self, scene: Scene, is_parent_first: bool) -> None:
        family = await scene.family(2)
        ids = [family.id, *family.child_ids]
        results = await scene.storage.cancel(ids if is_parent_first else ids[::-1], reason="cancelled")
        assert all(result.is_cancelled for result in results)
        await scene.close_everything()
        records = await scene.get_all(ids)
        assert {record.status for record in records} == {Status.CANCELLED}
        assert {record.close_status for record in records} == {CloseStatus.CLOSED}
        assert records[0].active_children_count == 0
        await scene.assert_sound()

    async def test_cancel_of_a_child_after_its_parent_counts_without_waking_it(self, scene: Scene) -> None:
        family = await scene.family(1)
        await scene.storage.cancel([family.id], reason="cancelled")
        await scene.storage.cancel(family.child_ids, reason="cancelled")
        record = await scene.get(family.id)
        assert (record.status, record.active_children_count) == (Status.CANCELLED, 0)
        await scene.close_everything()
        assert (await scene.get(family.id)).close_status is CloseStatus.CLOSED

    async def test_cancel_takes_a_sleeping_task_its_wakeup_finds_ended(self, scene: Scene) -> None:
        family = await scene.family(1, child={"kind": Kind.SLEEPING, "sleeping_id": "door"})
        await scene.storage.cancel(family.child_ids, reason="cancelled")
        assert (await scene.storage.wake(CHILD, "door", output="1", error=None)).status is Status.CANCELLED
        assert (await scene.get(family.id)).active_children_count == 0

    # --- pick-up ---------------------------------------------------------------------------------------------

    async def test_pick_up_cancelled_gives_each_once(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.storage.cancel([turn.id], reason="cancelled")
        assert await scene.storage.pick_up_cancelled(executor_id=EXECUTOR, limit=9) == [turn.id]
        assert await scene.storage.pick_up_cancelled(executor_id=EXECUTOR, limit=9) == []
        assert (await scene.get(turn.id)).needs_cancel is False

    async def test_pick_up_cancelled_gives_only_what_that_executor_ran(self, scene: Scene) -> None:
        await scene.enqueue()
        mine = await scene.claim_one()
        await scene.enqueue()
        theirs = await scene.claim_one(executor_id="executor-b")
        await scene.storage.cancel([mine.id, theirs.id], reason="cancelled")
        assert await scene.storage.pick_up_cancelled(executor_id="executor-c", limit=9) == []
        assert await scene.storage.pick_up_cancelled(executor_id="executor-b", limit=9) == [theirs.id]
        assert await scene.storage.pick_up_cancelled(executor_id=EXECUTOR, limit=9) == [mine.id]

    async def test_pick_up_cancelled_gives_the_longest_cancelled_up_to_its_limit(self, scene: Scene) -> None:
        turns = await scene.turns(3)
        for turn in reversed(turns):
            await scene.storage.cancel([turn.id], reason="cancelled")
            await scene.subject.advance(1.0)
        assert await scene.storage.pick_up_cancelled(executor_id=EXECUTOR, limit=0) == []
        for turn in reversed(turns):
            assert await scene.storage.pick_up_cancelled(executor_id=EXECUTOR, limit=1) == [turn.id]

    async def test_pick_up_cancelled_gives_nothing_that_did_not_run(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.gone(turn)
        await scene.storage.cancel([turn.id], reason="cancelled")
        assert await scene.storage.pick_up_cancelled(executor_id=EXECUTOR, limit=9) == []

    async def test_pick_up_cancelled_gives_children_that_a_close_cancelled(self, scene: Scene) -> None:
        family = await scene.family(2)
        running = (await scene.claim(CHILD, limit=1))[0]
        await scene.storage.cancel([family.id], reason="cancelled")
        await scene.close_everything()
        assert await scene.storage.pick_up_cancelled(executor_id=EXECUTOR, limit=9) == [running.id]

    async def test_pick_up_cancelled_after_the_lease_would_have_run_out(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.storage.cancel([turn.id], reason="cancelled")
        await scene.subject.advance(LEASE * 4)
        assert await scene.storage.recover(limit=9) == []
        assert await scene.storage.pick_up_cancelled(executor_id=EXECUTOR, limit=9) == [turn.id]
