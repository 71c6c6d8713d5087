"""Contract of the executors' rows: said, seen, withdrawn, forgotten; nothing else depends on them."""

from __future__ import annotations

from datetime import timedelta

from durable.storage import ExecutorRow
from durable.testing.contract.scene import Case, Scene

__all__ = ["ExecutorsContract"]


class ExecutorsContract(Case):
    async def _row(self, scene: Scene, id_: str = "executor-a") -> ExecutorRow:
        now = await scene.subject.now()
        return ExecutorRow(id_, ("default", 'q, "1"'), ("task", "na{me}"), 3, 10, now, now)

    async def test_announce_stores_what_an_executor_says(self, scene: Scene) -> None:
        row = await self._row(scene)
        await scene.storage.announce(row)
        assert await scene.subject.handles[1].executors() == [row]

    async def test_announce_sees_with_the_storage_clock(self, scene: Scene) -> None:
        row = await self._row(scene)
        await scene.subject.advance(30.0)
        await scene.storage.announce(row)
        (stored,) = await scene.storage.executors()
        assert (stored.started_at, stored.seen_at) == (row.started_at, row.started_at + timedelta(seconds=30))

    async def test_announce_again_replaces_what_was_said(self, scene: Scene) -> None:
        row = await self._row(scene)
        await scene.storage.announce(row)
        await scene.subject.advance(5.0)
        changed = row._replace(queues=(), task_names=("other",), running=0, concurrency=1)
        await scene.storage.announce(changed)
        assert await scene.storage.executors() == [changed._replace(seen_at=await scene.subject.now())]

    async def test_announce_forgets_those_unseen_for_an_hour(self, scene: Scene) -> None:
        await scene.storage.announce(await self._row(scene, "gone"))
        await scene.subject.advance(1_800.0)
        await scene.storage.announce(await self._row(scene, "quiet"))
        await scene.subject.advance(1_801.0)
        await scene.storage.announce(await self._row(scene, "here"))
        assert [row.id for row in await scene.storage.executors()] == ["quiet", "here"]

    async def test_withdraw_removes_the_row_and_may_be_repeated(self, scene: Scene) -> None:
        for id_ in ("executor-a", "executor-b"):
            await scene.storage.announce(await self._row(scene, id_))
        await scene.storage.withdraw("executor-a")
        await scene.storage.withdraw("executor-a")
        assert [row.id for row in await scene.storage.executors()] == ["executor-b"]

    async def test_executors_are_given_in_the_order_of_their_start(self, scene: Scene) -> None:
        for id_ in ("z", "a", "m"):
            await scene.storage.announce(await self._row(scene, id_))
            await scene.subject.advance(1.0)
        assert [row.id for row in await scene.storage.executors()] == ["z", "a", "m"]
