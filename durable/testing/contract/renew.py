"""Contract of renew and heartbeat: what holds a lease, and what a lost fence may no longer write."""

from __future__ import annotations

from datetime import timedelta

import pytest

from durable.execution import Status
from durable.testing.contract.scene import LEASE, Case, Scene
from durable.transitions import complete

__all__ = ["RenewContract"]


class RenewContract(Case):
    async def test_renew_extends_the_lease_from_now(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.subject.advance(10.0)
        assert await scene.storage.renew([(turn.id, turn.fence)], lease=LEASE) == {turn.id}
        expected = await scene.subject.now() + timedelta(seconds=LEASE)
        assert (await scene.get(turn.id)).lease_expires_at == expected

    async def test_renew_leaves_everything_else_as_it_is(self, scene: Scene) -> None:
        turn = await scene.turn()
        before = await scene.get(turn.id)
        await scene.subject.advance(1.0)
        await scene.storage.renew([(turn.id, turn.fence)], lease=LEASE)
        after = await scene.get(turn.id)
        assert after._replace(lease_expires_at=None, updated_at=before.updated_at) == before._replace(
            lease_expires_at=None
        )

    async def test_leased_tells_who_still_has_the_fence(self, scene: Scene) -> None:
        kept, lost, gone = [await scene.turn() for _ in range(3)]
        await scene.storage.settle([complete(gone, "1")])
        pairs = [(kept.id, kept.fence), (lost.id, lost.fence - 1), (gone.id, gone.fence)]
        assert await scene.storage.leased(pairs) == {kept.id}
        await scene.subject.advance(LEASE + 1)
        assert await scene.storage.leased(pairs) == {kept.id}

    async def test_nothing_is_held_while_nobody_holds_it(self, scene: Scene) -> None:
        turn = await scene.turn()
        assert await scene.storage.held_rows([turn.id, scene.make.row().id]) == frozenset()

    @pytest.mark.parametrize("lost_by", [-1, 1, 100])
    async def test_renew_refuses_another_fence(self, scene: Scene, lost_by: int) -> None:
        turn = await scene.turn()
        before = await scene.get(turn.id)
        await scene.subject.advance(1.0)
        assert await scene.storage.renew([(turn.id, turn.fence + lost_by)], lease=LEASE) == frozenset()
        assert await scene.get(turn.id) == before

    async def test_renew_refuses_the_fence_of_the_claim_before(self, scene: Scene) -> None:
        old = await scene.turn()
        await scene.gone(old)
        new = await scene.claim_one(lease=LEASE)
        before = await scene.get(old.id)
        assert await scene.storage.renew([(old.id, old.fence)], lease=900.0) == frozenset()
        assert await scene.get(new.id) == before

    async def test_renew_refuses_what_was_settled(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.complete_all([turn])
        assert await scene.storage.renew([(turn.id, turn.fence), (turn.id, turn.fence + 1)], lease=LEASE) == frozenset()
        assert (await scene.get(turn.id)).lease_expires_at is None

    async def test_renew_refuses_what_was_cancelled(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.storage.cancel([turn.id], reason="cancelled")
        assert await scene.storage.renew([(turn.id, turn.fence), (turn.id, turn.fence + 1)], lease=LEASE) == frozenset()

    async def test_renew_refuses_what_was_recovered(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.subject.advance(LEASE)
        await scene.storage.recover(limit=10)
        assert await scene.storage.renew([(turn.id, turn.fence), (turn.id, turn.fence + 1)], lease=LEASE) == frozenset()
        assert await scene.status_of(turn.id) is Status.READY

    async def test_renew_extends_a_lease_that_ran_out_and_was_not_taken(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.subject.advance(LEASE + 60)
        assert await scene.storage.renew([(turn.id, turn.fence)], lease=LEASE) == {turn.id}
        assert await scene.storage.recover(limit=10) == []

    async def test_renew_tells_the_lost_from_the_held(self, scene: Scene) -> None:
        kept, lost = await scene.turns(2)
        await scene.gone(lost)
        held = [(kept.id, kept.fence), (lost.id, lost.fence), (scene.make.id(), 1)]
        assert await scene.storage.renew(held, lease=LEASE) == {kept.id}

    async def test_renew_of_nothing_gives_nothing(self, scene: Scene) -> None:
        assert await scene.storage.renew([], lease=LEASE) == frozenset()

    async def test_renew_takes_thousands_in_one_call(self, scene: Scene) -> None:
        turns = await scene.turns(1_200)
        held = [(turn.id, turn.fence) for turn in turns]
        assert await scene.storage.renew(held, lease=LEASE) == {turn.id for turn in turns}

    # --- heartbeat -------------------------------------------------------------------------------------------

    async def test_heartbeat_stores_the_details(self, scene: Scene) -> None:
        turn = await scene.turn()
        assert await scene.storage.heartbeat([(turn.id, turn.fence, '{"done": 3, "of": "a\\"b"}')]) == {turn.id}
        assert (await scene.get(turn.id)).progress == '{"done": 3, "of": "a\\"b"}'

    async def test_heartbeat_keeps_the_latest_details(self, scene: Scene) -> None:
        turn = await scene.turn()
        for done in ("1", "2"):
            await scene.storage.heartbeat([(turn.id, turn.fence, done)])
        assert (await scene.get(turn.id)).progress == "2"

    async def test_heartbeat_does_not_extend_the_lease(self, scene: Scene) -> None:
        turn = await scene.turn()
        before = (await scene.get(turn.id)).lease_expires_at
        await scene.subject.advance(5.0)
        await scene.storage.heartbeat([(turn.id, turn.fence, "1")])
        assert (await scene.get(turn.id)).lease_expires_at == before

    @pytest.mark.parametrize("lost_by", [-1, 1, 100])
    async def test_heartbeat_refuses_another_fence(self, scene: Scene, lost_by: int) -> None:
        turn = await scene.turn()
        before = await scene.get(turn.id)
        assert await scene.storage.heartbeat([(turn.id, turn.fence + lost_by, "1")]) == frozenset()
        assert await scene.get(turn.id) == before

    async def test_heartbeat_refuses_the_fence_of_the_claim_before(self, scene: Scene) -> None:
        old = await scene.turn()
        await scene.gone(old)
        await scene.claim_one()
        assert await scene.storage.heartbeat([(old.id, old.fence, "1")]) == frozenset()
        assert (await scene.get(old.id)).progress is None

    async def test_heartbeat_refuses_what_is_no_longer_running(self, scene: Scene) -> None:
        done, freed, ended = await scene.turns(3)
        await scene.complete_all([done])
        await scene.gone(freed)
        await scene.storage.cancel([ended.id], reason="cancelled")
        beats = [(turn.id, turn.fence + more, "1") for turn in (done, freed, ended) for more in (0, 1)]
        assert await scene.storage.heartbeat(beats) == frozenset()

    async def test_heartbeat_stores_the_neighbours_of_a_refused_one(self, scene: Scene) -> None:
        kept, lost = await scene.turns(2)
        await scene.gone(lost)
        assert await scene.storage.heartbeat([(lost.id, lost.fence, "1"), (kept.id, kept.fence, "2")]) == {kept.id}
        assert (await scene.get(kept.id)).progress == "2"

    async def test_heartbeat_of_nothing_gives_nothing(self, scene: Scene) -> None:
        assert await scene.storage.heartbeat([]) == frozenset()

    async def test_heartbeat_stays_after_the_execution_has_ended(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.storage.heartbeat([(turn.id, turn.fence, '"half"')])
        await scene.complete_all([turn])
        assert (await scene.get(turn.id)).progress == '"half"'
