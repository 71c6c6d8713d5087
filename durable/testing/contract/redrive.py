"""Contract of redrive: a failed execution gets another life, unless somebody counted its end."""

from __future__ import annotations

import pytest

from durable.execution import CloseStatus, Kind, Phase, Status
from durable.testing.contract.scene import CHILD, ERROR, EXECUTOR, FINALIZE, LEASE, PARENT, TASK, Case, Scene
from durable.transitions import fail, spawn_finalize

__all__ = ["RedriveContract"]

STARTS_ANEW = [Status.FAILED, Status.TIMED_OUT, Status.CANCELLED]
REFUSED = sorted(set(Status) - {*STARTS_ANEW, Status.FINALIZE_FAILED})


class RedriveContract(Case):
    @pytest.mark.parametrize("status", STARTS_ANEW)
    async def test_redrive_starts_a_failed_execution_anew(self, scene: Scene, status: Status) -> None:
        id_ = await scene.in_status(status)
        before = await scene.get(id_)
        await scene.subject.advance(5.0)
        assert await scene.storage.redrive([id_]) == [id_]
        record = await scene.get(id_)
        assert (record.status, record.phase, record.close_status) == (Status.READY, Phase.RUN, CloseStatus.IDLE)
        assert (record.attempts, record.deliveries, record.reason) == (0, 0, None)
        assert record.fence == before.fence + 1
        assert (record.finished_at, record.closed_at) == (None, None)
        assert record.due_at == await scene.subject.now()
        assert (await scene.claim_one()).id == id_

    async def test_redrive_of_a_lost_finalize_finalizes_again(self, scene: Scene) -> None:
        family = await scene.family(2)
        await scene.complete_all(await scene.claim(CHILD))
        parent = await scene.claim_one(PARENT)
        await scene.storage.settle([fail(parent, ERROR, retry_delay=None)])
        assert await scene.storage.redrive([family.id]) == [family.id]
        again = await scene.claim_one(PARENT)
        assert (again.phase, again.run_output, again.attempts) == (Phase.CHILDREN, '{"own": 1}', 1)
        assert len(await scene.storage.children([family.id])) == 2

    async def test_redrive_keeps_the_error_as_the_previous_one(self, scene: Scene) -> None:
        id_ = await scene.in_status(Status.FAILED)
        await scene.storage.redrive([id_])
        assert (await scene.claim_one()).error == ERROR

    async def test_redrive_gives_a_poisoned_execution_all_its_deliveries(self, scene: Scene) -> None:
        turn = await scene.turn(max_deliveries=1)
        await scene.subject.advance(LEASE)
        await scene.storage.recover(limit=9)
        assert await scene.storage.redrive([turn.id]) == [turn.id]
        assert (await scene.claim_one()).deliveries == 1

    async def test_redrive_takes_back_an_unheard_cancellation(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.storage.cancel([turn.id], reason="cancelled")
        await scene.storage.redrive([turn.id])
        assert await scene.storage.pick_up_cancelled(executor_id=EXECUTOR, limit=9) == []

    @pytest.mark.parametrize("status", REFUSED)
    async def test_redrive_leaves_what_is_unfinished_or_completed(self, scene: Scene, status: Status) -> None:
        id_ = await scene.in_status(status)
        before = await scene.get(id_)
        assert await scene.storage.redrive([id_]) == []
        assert await scene.get(id_) == before

    async def test_redrive_leaves_what_is_not_closed(self, scene: Scene) -> None:
        family = await scene.family(1)
        await scene.storage.cancel([family.id], reason="cancelled")
        for _ in range(2):
            before = await scene.everything()
            assert await scene.storage.redrive([family.id]) == []
            assert await scene.everything() == before
            await scene.storage.claim_closes(limit=9, lease=LEASE)

    async def test_redrive_leaves_a_closed_execution_that_has_children(self, scene: Scene) -> None:
        family = await scene.family(1)
        await scene.storage.cancel([family.id], reason="cancelled")
        await scene.close_everything()
        assert await scene.storage.redrive([family.id]) == []

    async def test_redrive_leaves_a_parent_without_children_whose_finalize_goes_on(self, scene: Scene) -> None:
        parent = await scene.later_turn()
        await scene.storage.settle([spawn_finalize(parent, scene.make.finalize(parent, task_name=FINALIZE))])
        await scene.storage.cancel([parent.id], reason="cancelled")
        assert await scene.storage.redrive([parent.id]) == []
        await scene.close_everything()
        assert await scene.storage.redrive([parent.id]) == [parent.id]

    async def test_redrive_leaves_a_child_that_its_parent_counted(self, scene: Scene) -> None:
        family = await scene.family(1)
        await scene.storage.settle([fail(await scene.claim_one(CHILD), ERROR, retry_delay=None)])
        before = await scene.everything()
        assert await scene.storage.redrive(family.child_ids) == []
        assert await scene.everything() == before

    async def test_redrive_leaves_a_sleeping_task(self, scene: Scene) -> None:
        row = scene.make.sleeper("door")
        await scene.storage.enqueue([row])
        await scene.storage.wake(TASK, "door", output=None, error=ERROR)
        assert await scene.storage.redrive([row.id]) == []
        assert await scene.status_of(row.id) is Status.FAILED

    async def test_redrive_does_what_it_can_of_a_list(self, scene: Scene) -> None:
        failed, done = await scene.in_status(Status.FAILED), await scene.in_status(Status.COMPLETED)
        other = await scene.in_status(Status.CANCELLED)
        assert set(await scene.storage.redrive([done, failed, scene.make.id(), other])) == {failed, other}

    async def test_redrive_of_nothing_gives_nothing(self, scene: Scene) -> None:
        assert await scene.storage.redrive([]) == []

    async def test_redrive_twice_gives_one_life(self, scene: Scene) -> None:
        id_ = await scene.in_status(Status.FAILED)
        await scene.storage.redrive([id_])
        assert await scene.storage.redrive([id_]) == []

    async def test_redrive_refuses_the_end_of_the_life_before(self, scene: Scene) -> None:
        turn = await scene.turn(kind=Kind.LOOP)
        await scene.storage.cancel([turn.id], reason="cancelled")
        await scene.storage.redrive([turn.id])
        assert (await scene.storage.settle([fail(turn, ERROR, retry_delay=None)])).accepted == frozenset()
        assert await scene.status_of(turn.id) is Status.READY
