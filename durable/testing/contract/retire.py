"""Contract of retire: whole trees that have been closed for long go, and nothing else does."""

from __future__ import annotations

import pytest

from durable.execution import FINISHED, CloseStatus, Retired, Status
from durable.storage import Duties
from durable.testing.contract.scene import CHILD, ERROR, PARENT, TASK, Case, Scene
from durable.testing.contract.together import together
from durable.transitions import complete, fail, spawn

__all__ = ["RetireContract"]

AGE = 100.0


async def retire_all(scene: Scene, *, limit: int = 1_000) -> int:
    """Every page; gives how many executions went."""
    page = await scene.storage.retire(older_than=AGE, limit=limit)
    deleted = page.deleted
    while page.last_id is not None:
        page = await scene.storage.retire(older_than=AGE, limit=limit, after=page.last_id)
        deleted += page.deleted
    return deleted


class RetireContract(Case):
    async def test_retire_deletes_what_was_closed_exactly_so_long_ago(self, scene: Scene) -> None:
        id_ = await scene.in_status(Status.COMPLETED)
        await scene.subject.advance(AGE - 0.001)
        assert await scene.storage.retire(older_than=AGE, limit=9) == Retired(0, None)
        await scene.subject.advance(0.001)
        assert await scene.storage.retire(older_than=AGE, limit=9) == Retired(1, None)
        assert await scene.storage.get([id_]) == [None]

    async def test_retire_counts_from_the_end_and_not_from_the_creation(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.subject.advance(AGE * 2)
        await scene.storage.settle([complete(turn, "1")])
        assert await retire_all(scene) == 0
        await scene.subject.advance(AGE)
        assert await retire_all(scene) == 1

    @pytest.mark.parametrize("status", list(Status))
    async def test_retire_takes_what_has_finished_and_leaves_the_rest(self, scene: Scene, status: Status) -> None:
        id_ = await scene.in_status(status)
        before = await scene.everything()
        await scene.subject.advance(AGE * 9)
        await retire_all(scene)
        kept = await scene.everything()
        assert (id_ in kept) is (status not in FINISHED)
        if id_ in kept:
            tree = {record.id: record for record in before.values() if record.root_id == id_}
            assert {key: kept[key] for key in tree} == tree

    async def test_retire_takes_a_tree_whole(self, scene: Scene) -> None:
        family = await scene.family(3)
        await scene.complete_all(await scene.claim(CHILD))
        await scene.subject.advance(AGE * 9)
        assert await retire_all(scene) == 0
        await scene.complete_all([await scene.claim_one(PARENT)])
        await scene.subject.advance(AGE)
        assert await retire_all(scene) == 4
        assert await scene.everything() == {}
        assert family.children

    async def test_retire_leaves_a_tree_with_anything_open_below(self, scene: Scene) -> None:
        family = await scene.family(1)
        (child,) = await scene.claim(CHILD)
        (grandchild,) = scene.make.children(child, 1, task_name="grandchild")
        await scene.storage.settle([spawn(child, None, (grandchild,))])
        await scene.storage.cancel([family.id], reason="enough")
        closing = await scene.storage.claim_closes(limit=9, lease=15.0)
        await scene.storage.close_trees(closing, reason="enough")
        assert (await scene.get(family.id)).close_status is CloseStatus.CLOSED
        assert await scene.status_of(grandchild.id) is Status.READY
        await scene.subject.advance(AGE * 9)
        assert await retire_all(scene) == 0
        await scene.close_everything()
        await scene.subject.advance(AGE - 1.0)
        assert await retire_all(scene) == 0
        await scene.subject.advance(1.0)
        assert await retire_all(scene) == 3

    async def test_retire_goes_by_pages_of_the_records(self, scene: Scene) -> None:
        turns = await scene.turns(5)
        await scene.complete_all(turns)
        await scene.subject.advance(AGE)
        ids = sorted(turn.id for turn in turns)
        assert await scene.storage.retire(older_than=AGE, limit=2) == Retired(2, ids[1])
        assert await scene.storage.retire(older_than=AGE, limit=2, after=ids[1]) == Retired(2, ids[3])
        assert await scene.storage.retire(older_than=AGE, limit=2, after=ids[3]) == Retired(1, None)

    async def test_retire_takes_few_large_trees_in_one_page(self, scene: Scene) -> None:
        first = await scene.family(4)
        second = await scene.family(4)
        await scene.complete_all(await scene.claim(CHILD))
        await scene.complete_all(await scene.claim(PARENT))
        await scene.subject.advance(AGE)
        page = await scene.storage.retire(older_than=AGE, limit=4)
        assert page.deleted == 5
        assert page.last_id is not None
        assert await scene.storage.existing([first.id, second.id]) == {second.id}
        assert await retire_all(scene, limit=4) == 5

    async def test_retire_frees_keys_and_sleeping_ids(self, scene: Scene) -> None:
        keyed = scene.make.row(idempotency_key="k", idempotency_hash="h")
        sleeper = scene.make.sleeper("door")
        await scene.storage.enqueue([keyed, sleeper])
        await scene.storage.cancel([keyed.id, sleeper.id], reason="enough")
        await scene.subject.advance(AGE)
        assert await retire_all(scene) == 2
        again = [scene.make.row(idempotency_key="k", idempotency_hash="other"), scene.make.sleeper("door")]
        results = await scene.storage.enqueue(again)
        assert [(result.is_new, result.is_conflict) for result in results] == [(True, False)] * 2

    async def test_retire_forgets_old_wakeups(self, scene: Scene) -> None:
        await scene.storage.wake(TASK, "old", output="1", error=None)
        await scene.subject.advance(AGE)
        await scene.storage.wake(TASK, "young", output="1", error=None)
        await scene.storage.retire(older_than=AGE, limit=9)
        await scene.storage.enqueue([scene.make.sleeper("old"), scene.make.sleeper("young")])
        old = await scene.storage.get_sleeping(TASK, "old")
        young = await scene.storage.get_sleeping(TASK, "young")
        assert old is not None
        assert young is not None
        assert (old.status, young.status) == (Status.WAITING, Status.COMPLETED)
        assert await scene.storage.duties() == Duties(*[False] * len(Duties._fields))

    async def test_retire_by_several_at_once_takes_each_once(self, scene: Scene) -> None:
        turns = await scene.turns(300)
        await scene.complete_all(turns)
        await scene.subject.advance(AGE)
        pages = await together(*(handle.retire(older_than=AGE, limit=1_000) for handle in [*scene.subject.handles] * 2))
        assert sum(page.deleted for page in pages) <= 300
        await retire_all(scene)
        assert await scene.everything() == {}

    async def test_retire_skips_what_is_locked(self, scene: Scene) -> None:
        held, free = [turn.id for turn in await scene.turns(2)]
        await scene.storage.cancel([held, free], reason="enough")
        await scene.subject.advance(AGE)
        async with scene.subject.hold([held]):
            deleted = (await together(scene.storage.retire(older_than=AGE, limit=9)))[0].deleted
        assert deleted == (1 if scene.subject.has_row_locks else 2)

    async def test_retire_leaves_what_is_redriven(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.storage.settle([fail(turn, ERROR, retry_delay=None)])
        await scene.subject.advance(AGE)
        await scene.storage.redrive([turn.id])
        assert await retire_all(scene) == 0
