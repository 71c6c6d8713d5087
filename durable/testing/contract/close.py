"""Contract of the close pipeline: what finishes with active children takes them along, level by level."""

from __future__ import annotations

from datetime import timedelta

from durable.execution import CancelResult, CloseStatus, Kind, Status
from durable.testing.contract.scene import CHILD, LEASE, TASK, Case, Family, Scene
from durable.transitions import spawn

__all__ = ["CloseContract"]


class CloseContract(Case):
    async def _cancelled(self, scene: Scene, count: int = 2) -> Family:
        family = await scene.family(count)
        await scene.storage.cancel([family.id], reason="cancelled")
        return family

    async def test_claim_closes_takes_what_has_active_children(self, scene: Scene) -> None:
        family = await self._cancelled(scene)
        assert await scene.storage.claim_closes(limit=9, lease=LEASE) == [family.id]
        record = await scene.get(family.id)
        assert record.close_status is CloseStatus.CLOSING
        assert record.close_lease_expires_at == await scene.subject.now() + timedelta(seconds=LEASE)

    async def test_claim_closes_gives_each_once(self, scene: Scene) -> None:
        await self._cancelled(scene)
        await scene.storage.claim_closes(limit=9, lease=LEASE)
        assert await scene.subject.handles[1].claim_closes(limit=9, lease=LEASE) == []

    async def test_claim_closes_leaves_what_is_closed_or_unfinished(self, scene: Scene) -> None:
        await scene.family(1)
        await scene.in_status(Status.COMPLETED)
        assert await scene.storage.claim_closes(limit=9, lease=LEASE) == []

    async def test_claim_closes_takes_the_earliest_finished_up_to_its_limit(self, scene: Scene) -> None:
        families = [await scene.family(1) for _ in range(3)]
        for family in reversed(families):
            await scene.storage.cancel([family.id], reason="cancelled")
            await scene.subject.advance(1.0)
        assert await scene.storage.claim_closes(limit=0, lease=LEASE) == []
        taken = [(await scene.storage.claim_closes(limit=1, lease=LEASE))[0] for _ in families]
        assert taken == [family.id for family in reversed(families)]

    async def test_close_trees_cancels_the_unfinished_children(self, scene: Scene) -> None:
        family = await self._cancelled(scene, 3)
        done = (await scene.claim(CHILD, limit=1))[0]
        await scene.complete_all([done])
        ids = await scene.storage.claim_closes(limit=9, lease=LEASE)
        results = await scene.storage.close_trees(ids, reason="parent_cancelled")
        rest = [id_ for id_ in family.child_ids if id_ != done.id]
        assert sorted(results) == [CancelResult(id_, Status.READY, True) for id_ in rest]
        assert await scene.status_of(done.id) is Status.COMPLETED
        for record in await scene.get_all(rest):
            assert (record.status, record.reason) == (Status.CANCELLED, "parent_cancelled")
            assert record.close_status is CloseStatus.CLOSED

    async def test_close_trees_closes_what_has_no_active_children_left(self, scene: Scene) -> None:
        family = await self._cancelled(scene)
        ids = await scene.storage.claim_closes(limit=9, lease=LEASE)
        await scene.subject.advance(1.0)
        await scene.storage.close_trees(ids, reason="parent_cancelled")
        record = await scene.get(family.id)
        assert (record.status, record.close_status) == (Status.CANCELLED, CloseStatus.CLOSED)
        assert (record.active_children_count, record.closed_at) == (0, await scene.subject.now())
        assert record.close_lease_expires_at is None
        await scene.assert_sound()

    async def test_close_trees_twice_changes_nothing_more(self, scene: Scene) -> None:
        await self._cancelled(scene)
        ids = await scene.storage.claim_closes(limit=9, lease=LEASE)
        await scene.storage.close_trees(ids, reason="parent_cancelled")
        before = await scene.everything()
        assert await scene.storage.close_trees(ids, reason="parent_cancelled") == []
        assert await scene.everything() == before

    async def test_close_trees_leaves_what_is_not_closing(self, scene: Scene) -> None:
        waiting, cancelled = await scene.family(1), await self._cancelled(scene)
        before = await scene.everything()
        ids = [waiting.id, cancelled.id, scene.make.id()]
        assert await scene.storage.close_trees(ids, reason="parent_cancelled") == []
        assert await scene.everything() == before

    async def test_close_trees_marks_running_children_for_their_executor(self, scene: Scene) -> None:
        await self._cancelled(scene, 1)
        turn = await scene.claim_one(CHILD)
        ids = await scene.storage.claim_closes(limit=9, lease=LEASE)
        assert await scene.storage.close_trees(ids, reason="parent_cancelled") == [
            CancelResult(turn.id, Status.RUNNING, True)
        ]
        record = await scene.get(turn.id)
        assert (record.needs_cancel, record.fence, record.lease_expires_at) == (True, turn.fence + 1, None)

    async def test_close_trees_goes_down_one_level_at_a_time(self, scene: Scene) -> None:
        family = await scene.family(1, child={"kind": Kind.PARENT})
        middle = await scene.claim_one(CHILD)
        leaf = scene.make.child(middle, 0, task_name=TASK)
        await scene.storage.settle([spawn(middle, None, (leaf,))])
        await scene.storage.cancel([family.id], reason="cancelled")
        first = await scene.storage.claim_closes(limit=9, lease=LEASE)
        await scene.storage.close_trees(first, reason="parent_cancelled")
        assert (first, await scene.status_of(leaf.id)) == ([family.id], Status.READY)
        record = await scene.get(middle.id)
        assert (record.status, record.close_status) == (Status.CANCELLED, CloseStatus.READY)
        second = await scene.storage.claim_closes(limit=9, lease=LEASE)
        await scene.storage.close_trees(second, reason="parent_cancelled")
        assert (second, await scene.status_of(leaf.id)) == ([middle.id], Status.CANCELLED)
        assert {each.close_status for each in (await scene.everything()).values()} == {CloseStatus.CLOSED}
        await scene.assert_sound()

    async def test_close_trees_cancels_a_finalize_execution_as_well(self, scene: Scene) -> None:
        family, finalize = await scene.finalizing()
        await scene.storage.cancel([family.id], reason="cancelled")
        await scene.close_everything()
        assert await scene.status_of(finalize.id) is Status.CANCELLED
        await scene.assert_sound()

    async def test_close_trees_takes_several_trees_at_once(self, scene: Scene) -> None:
        families = [await self._cancelled(scene) for _ in range(3)]
        ids = await scene.storage.claim_closes(limit=9, lease=LEASE)
        results = await scene.storage.close_trees(ids, reason="parent_cancelled")
        assert {result.id for result in results} == {id_ for family in families for id_ in family.child_ids}
        assert {record.close_status for record in (await scene.everything()).values()} == {CloseStatus.CLOSED}

    async def test_close_trees_takes_thousands_of_children(self, scene: Scene) -> None:
        await self._cancelled(scene, 1_200)
        ids = await scene.storage.claim_closes(limit=9, lease=LEASE)
        assert len(await scene.storage.close_trees(ids, reason="parent_cancelled")) == 1_200

    async def test_a_closing_tree_is_closed_by_its_last_child_s_own_end(self, scene: Scene) -> None:
        family = await self._cancelled(scene)
        turns = await scene.claim(CHILD)
        await scene.complete_all(turns[:1])
        await scene.storage.claim_closes(limit=9, lease=LEASE)
        await scene.complete_all(turns[1:])
        record = await scene.get(family.id)
        assert (record.status, record.close_status) == (Status.CANCELLED, CloseStatus.CLOSED)
        assert (record.closed_at, record.close_lease_expires_at) == (await scene.subject.now(), None)
        assert {child.status for child in await scene.get_all(family.child_ids)} == {Status.COMPLETED}

    async def test_a_tree_whose_children_finished_before_its_claim_is_closed(self, scene: Scene) -> None:
        family = await self._cancelled(scene)
        await scene.complete_all(await scene.claim(CHILD))
        await scene.close_everything()
        assert (await scene.get(family.id)).close_status is CloseStatus.CLOSED

    # --- recovery --------------------------------------------------------------------------------------------

    async def test_recover_closes_takes_a_lease_that_ends_exactly_now(self, scene: Scene) -> None:
        family = await self._cancelled(scene)
        await scene.storage.claim_closes(limit=9, lease=LEASE)
        await scene.subject.advance(LEASE - 0.001)
        assert await scene.storage.recover_closes(limit=9) == 0
        await scene.subject.advance(0.001)
        assert await scene.storage.recover_closes(limit=9) == 1
        record = await scene.get(family.id)
        assert (record.close_status, record.close_lease_expires_at) == (CloseStatus.READY, None)

    async def test_recover_closes_lets_another_finish_the_work(self, scene: Scene) -> None:
        family = await self._cancelled(scene)
        await scene.storage.claim_closes(limit=9, lease=LEASE)
        await scene.subject.advance(LEASE)
        await scene.subject.handles[1].recover_closes(limit=9)
        ids = await scene.subject.handles[2].claim_closes(limit=9, lease=LEASE)
        await scene.subject.handles[2].close_trees(ids, reason="parent_cancelled")
        assert (await scene.get(family.id)).close_status is CloseStatus.CLOSED

    async def test_recover_closes_takes_the_earliest_up_to_its_limit(self, scene: Scene) -> None:
        for lease in (2.0, 1.0, 90.0):
            await self._cancelled(scene, 1)
            await scene.storage.claim_closes(limit=1, lease=lease)
        await scene.subject.advance(5.0)
        assert await scene.storage.recover_closes(limit=0) == 0
        assert await scene.storage.recover_closes(limit=1) == 1
        assert await scene.storage.recover_closes(limit=9) == 1
        assert await scene.storage.recover_closes(limit=9) == 0

    # --- children that outlive their parent -------------------------------------------------------------------

    async def test_close_trees_leaves_children_alone_that_outlive_their_parent(self, scene: Scene) -> None:
        turn = await scene.turn()
        staying, leaving = scene.make.children(turn, 2, task_name=CHILD)
        await scene.storage.settle([spawn(turn, None, (staying._replace(outlives_parent=True), leaving))])
        await scene.storage.cancel([turn.id], reason="cancelled")
        ids = await scene.storage.claim_closes(limit=9, lease=LEASE)
        results = await scene.storage.close_trees(ids, reason="parent_cancelled")
        assert results == [CancelResult(leaving.id, Status.READY, True)]
        record = await scene.get(turn.id)
        assert (record.close_status, record.active_children_count) == (CloseStatus.CLOSING, 1)
        assert record.close_lease_expires_at is None
        assert (await scene.get(staying.id)).outlives_parent
        await scene.assert_sound()

    async def test_a_child_that_outlives_its_parent_closes_it_by_its_end(self, scene: Scene) -> None:
        turn = await scene.turn()
        child = scene.make.child(turn, task_name=CHILD, outlives_parent=True)
        await scene.storage.settle([spawn(turn, None, (child,))])
        await scene.storage.cancel([turn.id], reason="cancelled")
        await scene.storage.close_trees(
            await scene.storage.claim_closes(limit=9, lease=LEASE), reason="parent_cancelled"
        )
        await scene.subject.advance(LEASE + 1)
        assert await scene.storage.recover_closes(limit=9) == 0
        (run,) = await scene.claim(CHILD)
        await scene.complete_all([run])
        for id_ in (turn.id, child.id):
            assert (await scene.get(id_)).close_status is CloseStatus.CLOSED

    async def test_a_tree_is_kept_while_a_child_outlives_its_parent(self, scene: Scene) -> None:
        turn = await scene.turn()
        child = scene.make.child(turn, task_name=CHILD, outlives_parent=True)
        await scene.storage.settle([spawn(turn, None, (child,))])
        await scene.storage.cancel([turn.id], reason="cancelled")
        await scene.storage.close_trees(
            await scene.storage.claim_closes(limit=9, lease=LEASE), reason="parent_cancelled"
        )
        await scene.subject.advance(1000.0)
        assert (await scene.storage.retire(older_than=10.0, limit=99)).deleted == 0
        assert await scene.status_of(child.id) is Status.READY
