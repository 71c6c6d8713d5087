"""Contract of the doctor: what breaks an invariant is found, named, and put right where it can be."""

from __future__ import annotations

from typing import Any

import pytest

from durable.execution import CloseStatus, Status
from durable.testing.contract.scene import CHILD, EXECUTOR, PARENT, Case, Scene

__all__ = ["DoctorContract"]


class DoctorContract(Case):
    async def _found(self, scene: Scene) -> set[tuple[str, str]]:
        return {(defect.id, defect.kind) for defect in await scene.storage.defects(limit=99)}

    async def _mend(self, scene: Scene, *ids: str) -> set[tuple[str, str]]:
        return {(defect.id, defect.kind) for defect in await scene.storage.mend(ids)}

    async def test_defects_finds_nothing_in_a_sound_store(self, scene: Scene) -> None:
        await scene.in_every_status()
        family = await scene.family(2)
        await scene.storage.cancel([family.id], reason="cancelled")
        await scene.assert_sound()
        await scene.storage.claim_closes(limit=9, lease=1.0)
        await scene.assert_sound()

    @pytest.mark.parametrize("count", [0, 1, 3, 7])
    async def test_a_wrong_count_is_found_and_rebuilt(self, scene: Scene, count: int) -> None:
        family = await scene.family(2)
        await scene.subject.tamper(family.id, active_children_count=count)
        assert (family.id, "count") in await self._found(scene)
        assert (family.id, "count") in await self._mend(scene, family.id)
        record = await scene.get(family.id)
        assert (record.active_children_count, record.status) == (2, Status.WAITING_FOR_CHILDREN)
        await scene.assert_sound()
        await scene.complete_all(await scene.claim(CHILD))
        assert await scene.status_of(family.id) is Status.READY

    async def test_a_count_that_nothing_would_lower_is_rebuilt_and_the_parent_goes_on(self, scene: Scene) -> None:
        family = await scene.family(1)
        await scene.subject.tamper(family.id, active_children_count=2)
        await scene.complete_all(await scene.claim(CHILD))
        assert (family.id, "count") in await self._found(scene)
        await scene.storage.mend([family.id])
        assert [turn.id for turn in await scene.claim(PARENT)] == [family.id]
        await scene.assert_sound()

    async def test_a_wrong_count_of_a_finished_parent_is_rebuilt(self, scene: Scene) -> None:
        id_ = await scene.in_status(Status.COMPLETED)
        await scene.subject.tamper(id_, active_children_count=1)
        assert await self._found(scene) == {(id_, "count")}
        await scene.storage.mend([id_])
        record = await scene.get(id_)
        assert (record.active_children_count, record.close_status) == (0, CloseStatus.CLOSED)
        await scene.assert_sound()

    async def test_a_parent_stranded_without_children_goes_on(self, scene: Scene) -> None:
        family = await scene.family(1)
        await scene.complete_all(await scene.claim(CHILD))
        await scene.subject.tamper(family.id, status=Status.WAITING_FOR_CHILDREN)
        assert await self._found(scene) == {(family.id, "stranded")}
        assert await self._mend(scene, family.id) == {(family.id, "stranded")}
        assert [turn.id for turn in await scene.claim(PARENT)] == [family.id]
        await scene.assert_sound()

    @pytest.mark.parametrize("is_running", [True, False])
    async def test_an_orphan_is_found_and_cancelled(self, scene: Scene, is_running: bool) -> None:
        id_ = (await scene.turn()).id if is_running else await scene.enqueue()
        await scene.subject.tamper(id_, parent_id=scene.make.id())
        assert await self._found(scene) == {(id_, "orphan")}
        assert await self._mend(scene, id_) == {(id_, "orphan")}
        record = await scene.get(id_)
        assert (record.status, record.close_status) == (Status.CANCELLED, CloseStatus.CLOSED)
        assert record.finished_at == record.closed_at == await scene.subject.now()
        picked = await scene.storage.pick_up_cancelled(executor_id=EXECUTOR, limit=9)
        assert picked == ([id_] if is_running else [])
        await scene.assert_sound()

    async def test_a_finished_orphan_is_left_in_peace(self, scene: Scene) -> None:
        id_ = await scene.in_status(Status.COMPLETED)
        await scene.subject.tamper(id_, parent_id=scene.make.id())
        await scene.assert_sound()

    async def test_what_finished_outside_the_close_pipeline_is_put_into_it(self, scene: Scene) -> None:
        leaf = await scene.in_status(Status.COMPLETED)
        family = await scene.family(1)
        await scene.storage.cancel([family.id], reason="cancelled")
        for id_ in (leaf, family.id):
            await scene.subject.tamper(id_, close_status=CloseStatus.IDLE, closed_at=None)
        expected = {(leaf, "unclosed"), (family.id, "unclosed")}
        assert await self._found(scene) == expected
        assert await self._mend(scene, leaf, family.id) == expected
        records = await scene.get_all([leaf, family.id])
        assert [record.close_status for record in records] == [CloseStatus.CLOSED, CloseStatus.READY]
        await scene.close_everything()
        await scene.assert_sound()

    @pytest.mark.parametrize(
        "columns", [{"finished_at": None}, {"attempts": 9}, {"attempts": -1}, {"deliveries": 99}, {"deliveries": -1}]
    )
    async def test_columns_that_contradict_each_other_are_found(self, scene: Scene, columns: dict[str, Any]) -> None:
        id_ = await scene.in_status(Status.COMPLETED)
        await scene.subject.tamper(id_, **columns)
        (defect,) = await scene.storage.defects(limit=9)
        assert (defect.id, defect.kind, defect.is_mendable) == (id_, "contradiction", False)

    @pytest.mark.parametrize("payload", ["input", "output", "run_output", "error", "progress", "retry"])
    async def test_a_spoiled_payload_is_found_and_not_touched(self, scene: Scene, payload: str) -> None:
        id_ = await scene.in_status(Status.COMPLETED)
        spoiled: dict[str, Any] = {payload: '{"cut off'}
        await scene.subject.tamper(id_, **spoiled)
        (defect,) = await scene.storage.defects(limit=9)
        assert (defect.id, defect.kind, defect.is_mendable) == (id_, "spoiled", False)
        before = await scene.get(id_)
        assert await scene.storage.mend([id_]) == []
        assert await scene.get(id_) == before

    @pytest.mark.parametrize("payload", ["", "NaN", "{'a': 1}", "[1,]", '"\\x"'])
    async def test_text_that_is_not_json_is_spoiled(self, scene: Scene, payload: str) -> None:
        id_ = await scene.enqueue()
        await scene.subject.tamper(id_, input=payload)
        assert await self._found(scene) == {(id_, "spoiled")}

    async def test_mend_leaves_what_is_sound(self, scene: Scene) -> None:
        ids = (await scene.in_every_status()).values()
        before = await scene.everything()
        assert await scene.storage.mend([*ids, scene.make.id()]) == []
        assert await scene.storage.mend([]) == []
        assert await scene.everything() == before

    async def test_mend_puts_right_only_what_it_is_asked_for(self, scene: Scene) -> None:
        one, two = await scene.family(1), await scene.family(1)
        for family in (one, two):
            await scene.subject.tamper(family.id, active_children_count=5)
        await scene.storage.mend([one.id])
        assert await self._found(scene) == {(two.id, "count")}

    async def test_defects_holds_its_limit(self, scene: Scene) -> None:
        for _ in range(4):
            await scene.subject.tamper((await scene.family(1)).id, active_children_count=5)
        assert len(await scene.storage.defects(limit=3)) == 3
        assert await scene.storage.defects(limit=0) == []
