"""Contract of duties: one look tells which upkeep has something to do, and only that."""

from __future__ import annotations

from durable.execution import Kind
from durable.storage import Duties
from durable.testing.contract.scene import LEASE, TASK, Case, Scene

__all__ = ["DutiesContract"]

NONE = Duties(*[False] * len(Duties._fields))


class DutiesContract(Case):
    async def test_duties_are_none_in_an_empty_store(self, scene: Scene) -> None:
        assert await scene.storage.duties() == NONE

    async def test_duties_do_not_come_from_what_is_ready_running_or_finished(self, scene: Scene) -> None:
        await scene.enqueue_all(3)
        await scene.claim(limit=1)
        assert await scene.storage.duties() == NONE

    async def test_duties_name_a_lease_that_ends_exactly_now(self, scene: Scene) -> None:
        await scene.turn()
        await scene.subject.advance(LEASE - 0.001)
        assert await scene.storage.duties() == NONE
        await scene.subject.advance(0.001)
        assert await scene.storage.duties() == NONE._replace(recover=True)
        await scene.storage.recover(limit=9)
        assert await scene.storage.duties() == NONE

    async def test_duties_name_a_wait_that_is_over(self, scene: Scene) -> None:
        await scene.enqueue(kind=Kind.SLEEPING, sleeping_id="door", timeout=5.0)
        assert await scene.storage.duties() == NONE
        await scene.subject.advance(5.0)
        assert await scene.storage.duties() == NONE._replace(expire_waits=True)

    async def test_duties_name_a_kept_wakeup(self, scene: Scene) -> None:
        await scene.storage.wake("nobody", "yet", output="1", error=None)
        assert await scene.storage.duties() == NONE._replace(apply_wakeups=True)

    async def test_duties_do_not_name_a_wakeup_that_has_met_its_execution(self, scene: Scene) -> None:
        await scene.storage.enqueue([scene.make.sleeper("first")])
        await scene.storage.wake(TASK, "first", output=None, error=None)
        await scene.storage.wake(TASK, "second", output=None, error=None)
        await scene.storage.enqueue([scene.make.sleeper("second")])
        assert await scene.storage.duties() == NONE

    async def test_duties_name_what_waits_to_be_closed_and_what_was_left_closing(self, scene: Scene) -> None:
        family = await scene.family(2)
        await scene.storage.cancel([family.id], reason="test")
        assert await scene.storage.duties() == NONE._replace(close=True)
        await scene.storage.claim_closes(limit=9, lease=LEASE)
        assert await scene.storage.duties() == NONE
        await scene.subject.advance(LEASE)
        assert await scene.storage.duties() == NONE._replace(recover_closes=True)
