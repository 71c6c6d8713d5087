"""Contract of suspects: what was lost before, or may be lost only once, counts a delivery when it starts."""

from __future__ import annotations

import pytest

from durable.execution import UNSTARTED, Claimed, Status
from durable.testing.contract.pool_scene import PoolScene
from durable.testing.contract.scene import LEASE, Case, Scene
from durable.transitions import counted, release

__all__ = ["SuspectsContract"]


async def lose(scene: Scene, times: int) -> None:
    """Claim all there is, start it, and let it be lost."""
    for _ in range(times):
        await scene.claim()
        await scene.subject.advance(LEASE)
        await scene.storage.recover(limit=1_000)


async def claim(scene: Scene) -> list[Claimed]:
    """As an executor does, which counts the starts of suspects later."""
    return await scene.claim(starts=False)


class SuspectsContract(Case):
    @pytest.mark.parametrize(
        ("limit", "lost", "is_suspect"), [(1, 0, True), (2, 0, False), (2, 1, True), (5, 1, False), (5, 2, True)]
    )
    async def test_claim_gives_as_suspect_what_was_lost_twice_or_has_one_delivery_left(
        self, scene: Scene, limit: int, lost: int, is_suspect: bool
    ) -> None:
        id_ = await scene.enqueue(max_deliveries=limit)
        await lose(scene, lost)
        (turn,) = await claim(scene)
        record = await scene.get(id_)
        assert (turn.is_suspect, turn.attempts, turn.deliveries) == (is_suspect, 1, lost + (not is_suspect))
        assert (record.deliveries, record.reason) == (turn.deliveries, UNSTARTED if is_suspect else None)

    async def test_claim_from_a_pool_gives_suspects_as_well(self, scene: Scene) -> None:
        pool = PoolScene(scene)
        await pool.open()
        await pool.enqueue(max_deliveries=1)
        await pool.enqueue(max_deliveries=2)
        turns = (await pool.claim()).claimed
        assert sorted((turn.is_suspect, turn.deliveries) for turn in turns) == [(False, 1), (True, 0)]

    async def test_recover_takes_no_delivery_from_a_suspect_that_never_started(self, scene: Scene) -> None:
        id_ = await scene.enqueue(max_deliveries=1)
        for _ in range(4):
            await claim(scene)
            await scene.subject.advance(LEASE)
            assert [taken.status for taken in await scene.storage.recover(limit=9)] == [Status.READY]
        record = await scene.get(id_)
        assert (record.attempts, record.deliveries, record.reason) == (0, 0, None)

    async def test_count_starts_counts_the_delivery_of_a_suspect(self, scene: Scene) -> None:
        id_ = await scene.enqueue(max_deliveries=1)
        (turn,) = await claim(scene)
        assert await scene.storage.count_starts([turn[:2]]) == {id_}
        record = await scene.get(id_)
        assert (record.status, record.fence, record.deliveries, record.reason) == (Status.RUNNING, turn.fence, 1, None)
        await scene.subject.advance(LEASE)
        assert [taken.status for taken in await scene.storage.recover(limit=9)] == [Status.FAILED]

    async def test_count_starts_counts_each_claim_once(self, scene: Scene) -> None:
        await scene.enqueue(max_deliveries=1)
        await scene.enqueue(max_deliveries=3)
        turns = await claim(scene)
        for _ in range(3):
            held = [(turn.id, turn.fence) for turn in turns]
            assert await scene.storage.count_starts(held) == {turn.id for turn in turns}
        assert [(await scene.get(turn.id)).deliveries for turn in turns] == [1, 1]

    async def test_count_starts_leaves_alone_what_is_not_held_under_the_fence(self, scene: Scene) -> None:
        late = await scene.enqueue(max_deliveries=1)
        (turn,) = await claim(scene)
        await scene.subject.advance(LEASE)
        await scene.storage.recover(limit=9)
        held = await scene.turn(max_deliveries=2, task_name="other")
        before = await scene.everything()
        assert await scene.storage.count_starts([(late, turn.fence), (held.id, held.fence + 1)]) == frozenset()
        assert await scene.storage.count_starts([]) == frozenset()
        assert await scene.everything() == before

    async def test_count_starts_waits_for_no_end_of_a_cancelled_execution(self, scene: Scene) -> None:
        await scene.enqueue(max_deliveries=1)
        (turn,) = await claim(scene)
        await scene.storage.cancel([turn.id], reason="cancelled")
        assert await scene.storage.count_starts([turn[:2]]) == frozenset()
        assert (await scene.get(turn.id)).deliveries == 0

    @pytest.mark.parametrize("is_started", [True, False])
    async def test_settle_of_a_release_takes_back_only_what_was_counted(self, scene: Scene, is_started: bool) -> None:
        id_ = await scene.enqueue(max_deliveries=2)
        await lose(scene, 1)
        (turn,) = await claim(scene)
        if is_started:
            await scene.storage.count_starts([turn[:2]])
            turn = counted(turn)
        settled = await scene.storage.settle([release(turn)._replace(delay=1.0, reason="suspect")])
        record = await scene.get(id_)
        assert settled.accepted == {id_}
        assert (record.status, record.attempts, record.deliveries) == (Status.READY, 0, 1)
        assert (record.reason, (record.due_at - await scene.subject.now()).total_seconds()) == ("suspect", 1.0)

    async def test_settle_completes_a_suspect_like_any_other(self, scene: Scene) -> None:
        (turn,) = await scene.turns(1, max_deliveries=1)
        await scene.complete_all([turn])
        record = await scene.get(turn.id)
        assert (record.status, record.deliveries, record.reason) == (Status.COMPLETED, 0, None)
