"""Contract of what workflows start: children in ranges, counted and read in pages, and executions of their own."""

from __future__ import annotations

from durable.execution import Claimed, NewExecution, Status
from durable.testing.contract.scene import CHILD, ERROR
from durable.testing.contract.workflows_scene import WorkflowCase, WorkflowScene, entries
from durable.transitions import complete, fail
from durable.workflow_rows import Checkpoint, ChildTally

__all__ = ["WorkflowChildrenContract"]


class WorkflowChildrenContract(WorkflowCase):
    async def test_children_are_tallied_by_ranges_of_their_indexes(self, flow: WorkflowScene) -> None:
        turn, children = await _ended(flow)
        ids = [child.id for child in children]
        found = await flow.storage.tally_children(turn.id, [(2, 5), (0, 3), (0, 99), (7, 9)])
        assert found == [
            ChildTally(1, 0, (ids[3], ids[4])),
            ChildTally(3, 1, ()),
            ChildTally(3, 1, tuple(ids[3:])),
            ChildTally(0, 0, ()),
        ]
        assert await flow.storage.tally_children(turn.id, []) == []
        assert await flow.storage.tally_children(ids[0], [(0, 99)]) == [ChildTally(0, 0, ())]

    async def test_children_of_a_range_are_read_in_order_and_up_to_a_limit(self, flow: WorkflowScene) -> None:
        turn, children = await _ended(flow)
        found = await flow.storage.children_between(turn.id, 1, 4, only_failed=False, limit=2)
        assert [(each.child_index, each.id, each.task_name) for each in found] == [
            (1, children[1].id, CHILD), (2, children[2].id, CHILD),
        ]  # fmt: skip
        failed, completed = found
        assert (failed.parent_id, failed.status, failed.output, failed.error) == (turn.id, Status.FAILED, None, ERROR)
        assert (completed.status, completed.output, completed.is_finalize) == (Status.COMPLETED, "2", False)
        assert await flow.storage.children_between(turn.id, 0, 9, only_failed=False, limit=0) == []
        rest = await flow.storage.children_between(turn.id, 3, 9, only_failed=False, limit=9)
        assert [each.child_index for each in rest] == [3, 4]

    async def test_failed_children_of_a_range_are_those_that_ended_without_a_result(self, flow: WorkflowScene) -> None:
        turn, children = await _ended(flow)
        await flow.storage.cancel([children[4].id], reason="enough")
        found = await flow.storage.children_between(turn.id, 0, 9, only_failed=True, limit=9)
        assert [(each.child_index, each.status) for each in found] == [(1, Status.FAILED), (4, Status.CANCELLED)]
        assert (await flow.storage.children_between(turn.id, 0, 9, only_failed=True, limit=1))[0].child_index == 1

    # --- executions of their own -----------------------------------------------------------------------------

    async def test_checkpoint_starts_executions_that_are_nobodys_children(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        now, later = flow.make.row(task_name="other"), flow.make.row(task_name="other", delay=60.0, queue="slow")
        done = await flow.checkpoint(turn, entries=entries(1), starts=(now, later))
        assert done.ready_queues == {"default"}
        record = await flow.get(now.id)
        assert (record.status, record.root_id, record.parent_id) == (Status.READY, now.id, None)
        assert (await flow.get(later.id)).queue == "slow"
        assert (await flow.get(turn.id)).children_count == 0

    async def test_checkpoint_given_again_starts_nothing_twice(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        row = flow.make.row(task_name="other")
        for _ in range(2):
            await flow.checkpoint(turn, entries=entries(1), starts=(row,))
        (run,) = await flow.claim("other")
        assert run.id == row.id

    async def test_checkpoint_whose_fence_is_gone_starts_nothing(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        await flow.gone(turn)
        row = flow.make.row(task_name="other")
        await flow.storage.checkpoint([Checkpoint(turn.id, turn.fence, entries=entries(1), starts=(row,))])
        assert await flow.storage.get([row.id]) == [None]

    async def test_a_suspension_starts_executions(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        row = flow.make.row(task_name="other")
        assert "default" in (await flow.suspend(turn, entries=entries(1), starts=(row,))).ready_queues
        assert await flow.status_of(row.id) is Status.READY


async def _ended(flow: WorkflowScene) -> tuple[Claimed, tuple[NewExecution, ...]]:
    """A running workflow with five children: 0 and 2 have completed, 1 has failed, 3 and 4 are ready."""
    turn, children = await flow.spawned(5)
    runs = {run.id: run for run in await flow.claim(CHILD, limit=3)}
    ends = [runs[child.id] for child in children[:3]]
    await flow.storage.settle([complete(ends[0], "0"), fail(ends[1], ERROR, retry_delay=None), complete(ends[2], "2")])
    return turn, children
