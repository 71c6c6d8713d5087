"""Contract of wake: the first wake-up wins, whether it comes before or after the sleeping task; and deadlines."""

from __future__ import annotations

import pytest

from durable.execution import CloseStatus, Kind, Status, WakeResult
from durable.storage import ExecutionFilter
from durable.testing.contract.scene import CHILD, ERROR, PARENT, TASK, Case, Scene
from durable.transitions import spawn

__all__ = ["WakeContract"]


class WakeContract(Case):
    async def _sleep(self, scene: Scene, sleeping_id: str = "door", **fields: object) -> str:
        row = scene.make.sleeper(sleeping_id, **fields)
        await scene.storage.enqueue([row])
        return row.id

    async def test_wake_completes_the_sleeping_task(self, scene: Scene) -> None:
        id_ = await self._sleep(scene)
        await scene.subject.advance(3.0)
        result = await scene.storage.wake(TASK, "door", output='{"open": true}', error=None)
        assert result == WakeResult(id_, Status.COMPLETED)
        record, now = await scene.get(id_), await scene.subject.now()
        assert (record.status, record.output, record.error) == (Status.COMPLETED, '{"open": true}', None)
        assert (record.finished_at, record.closed_at) == (now, now)
        assert record.close_status is CloseStatus.CLOSED

    async def test_wake_with_an_error_fails_the_sleeping_task(self, scene: Scene) -> None:
        id_ = await self._sleep(scene)
        result = await scene.storage.wake(TASK, "door", output=None, error=ERROR)
        assert result == WakeResult(id_, Status.FAILED)
        record = await scene.get(id_)
        assert (record.status, record.output, record.error) == (Status.FAILED, None, ERROR)

    async def test_wake_without_an_output_gives_null(self, scene: Scene) -> None:
        id_ = await self._sleep(scene)
        await scene.storage.wake(TASK, "door", output=None, error=None)
        record = await scene.get(id_)
        assert (record.status, record.output) == (Status.COMPLETED, "null")

    async def test_wake_raises_the_fence(self, scene: Scene) -> None:
        id_ = await self._sleep(scene)
        await scene.storage.wake(TASK, "door", output="1", error=None)
        assert (await scene.get(id_)).fence == 1

    async def test_wake_a_second_time_gives_what_is_there(self, scene: Scene) -> None:
        id_ = await self._sleep(scene)
        await scene.storage.wake(TASK, "door", output='"first"', error=None)
        before = await scene.get(id_)
        again = await scene.storage.wake(TASK, "door", output=None, error=ERROR)
        assert again == WakeResult(id_, Status.COMPLETED)
        await scene.storage.apply_wakeups(limit=10)
        assert await scene.get(id_) == before

    @pytest.mark.parametrize("end", [Status.TIMED_OUT, Status.CANCELLED])
    async def test_wake_gives_the_end_of_what_ended_otherwise(self, scene: Scene, end: Status) -> None:
        id_ = await self._sleep(scene, timeout=1.0)
        await scene.subject.advance(1.0)
        if end is Status.TIMED_OUT:
            await scene.storage.expire_waits(limit=9)
        else:
            await scene.storage.cancel([id_], reason="cancelled")
        assert await scene.storage.wake(TASK, "door", output="1", error=None) == WakeResult(id_, end)
        assert await scene.status_of(id_) is end

    async def test_wake_finds_only_its_own_task_and_id(self, scene: Scene) -> None:
        ids = [await self._sleep(scene, "door"), await self._sleep(scene, "window")]
        other = await self._sleep(scene, "door", task_name=CHILD)
        await scene.storage.wake(CHILD, "door", output="1", error=None)
        assert {await scene.status_of(id_) for id_ in ids} == {Status.WAITING}
        assert await scene.status_of(other) is Status.COMPLETED

    async def test_wake_past_the_deadline_still_wins_before_the_expiry(self, scene: Scene) -> None:
        id_ = await self._sleep(scene, timeout=5.0)
        await scene.subject.advance(60.0)
        assert (await scene.storage.wake(TASK, "door", output="1", error=None)).status is Status.COMPLETED
        assert (await scene.storage.expire_waits(limit=9)).accepted == frozenset()
        assert await scene.status_of(id_) is Status.COMPLETED

    # --- before the sleeping task ----------------------------------------------------------------------------

    async def test_wake_before_the_sleeping_task_is_kept_for_it(self, scene: Scene) -> None:
        assert await scene.storage.wake(TASK, "door", output='"early"', error=None) == WakeResult(None, None)
        id_ = await self._sleep(scene)
        await scene.storage.apply_wakeups(limit=10)
        record = await scene.get(id_)
        assert (record.status, record.output) == (Status.COMPLETED, '"early"')

    async def test_wake_before_the_sleeping_task_with_an_error_is_kept_for_it(self, scene: Scene) -> None:
        await scene.storage.wake(TASK, "door", output=None, error=ERROR)
        id_ = await self._sleep(scene)
        await scene.storage.apply_wakeups(limit=10)
        record = await scene.get(id_)
        assert (record.status, record.output, record.error) == (Status.FAILED, None, ERROR)

    async def test_wake_twice_before_the_sleeping_task_keeps_the_first(self, scene: Scene) -> None:
        await scene.storage.wake(TASK, "door", output='"first"', error=None)
        await scene.storage.wake(TASK, "door", output='"second"', error=None)
        id_ = await self._sleep(scene)
        await scene.storage.apply_wakeups(limit=10)
        assert (await scene.get(id_)).output == '"first"'

    async def test_wake_after_the_sleeping_task_yields_to_the_one_before(self, scene: Scene) -> None:
        await scene.storage.wake(TASK, "door", output='"first"', error=None)
        id_ = await self._sleep(scene)
        assert await scene.storage.wake(TASK, "door", output=None, error=ERROR) == WakeResult(id_, Status.COMPLETED)
        assert (await scene.get(id_)).output == '"first"'

    async def test_a_kept_wakeup_meets_one_execution_only(self, scene: Scene) -> None:
        await scene.storage.wake(TASK, "door", output="1", error=None)
        await self._sleep(scene, "window")
        await self._sleep(scene, "door", task_name=CHILD)
        assert (await scene.storage.apply_wakeups(limit=10)).accepted == frozenset()
        waiting = await scene.storage.search(ExecutionFilter(statuses=(Status.WAITING,)), limit=9)
        assert len(waiting) == 2

    async def test_a_kept_wakeup_is_met_by_the_enqueue_itself(self, scene: Scene) -> None:
        await scene.storage.wake(TASK, "door", output='"early"', error=None)
        id_ = await self._sleep(scene)
        assert await scene.status_of(id_) is Status.COMPLETED

    async def test_a_kept_wakeup_meets_a_child_that_is_spawned_later(self, scene: Scene) -> None:
        await scene.storage.wake(CHILD, "door", output="1", error=None)
        family = await scene.family(1, child={"kind": Kind.SLEEPING, "sleeping_id": "door"})
        assert family.settled.ready_queues == {"default"}
        assert await scene.status_of(family.child_ids[0]) is Status.COMPLETED
        record = await scene.get(family.id)
        assert (record.status, record.active_children_count) == (Status.READY, 0)

    async def test_a_kept_wakeup_does_not_touch_what_has_ended(self, scene: Scene) -> None:
        await scene.storage.wake(TASK, "door", output="1", error=None)
        id_ = await self._sleep(scene)
        await scene.storage.apply_wakeups(limit=10)
        before = await scene.get(id_)
        assert (await scene.storage.apply_wakeups(limit=10)).accepted == frozenset()
        assert await scene.get(id_) == before

    async def test_wake_of_a_child_tells_its_parent(self, scene: Scene) -> None:
        family = await scene.family(1, child={"kind": Kind.SLEEPING, "sleeping_id": "door"})
        result = await scene.storage.wake(CHILD, "door", output="1", error=None)
        assert result == WakeResult(family.child_ids[0], Status.COMPLETED, frozenset({"default"}))
        assert [turn.id for turn in await scene.claim(PARENT)] == [family.id]

    async def test_wake_of_a_suspended_execution_needs_its_sleeping_id(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.storage.settle([scene.make.suspension(turn)])
        await scene.subject.advance(1e6)
        assert (await scene.storage.expire_waits(limit=9)).accepted == frozenset()
        assert await scene.status_of(turn.id) is Status.WAITING

    # --- deadlines -------------------------------------------------------------------------------------------

    async def test_expire_waits_ends_a_wait_exactly_at_its_deadline(self, scene: Scene) -> None:
        id_ = await self._sleep(scene, timeout=5.0)
        await scene.subject.advance(4.999)
        assert (await scene.storage.expire_waits(limit=9)).accepted == frozenset()
        await scene.subject.advance(0.001)
        assert (await scene.storage.expire_waits(limit=9)).accepted == {id_}
        record, now = await scene.get(id_), await scene.subject.now()
        assert (record.status, record.reason, record.fence) == (Status.TIMED_OUT, "expired", 1)
        assert (record.finished_at, record.closed_at) == (now, now)
        assert record.error is not None

    async def test_expire_waits_leaves_those_without_a_deadline(self, scene: Scene) -> None:
        id_ = await self._sleep(scene)
        await scene.subject.advance(1e6)
        assert (await scene.storage.expire_waits(limit=9)).accepted == frozenset()
        assert await scene.status_of(id_) is Status.WAITING

    async def test_expire_waits_takes_the_earliest_up_to_its_limit(self, scene: Scene) -> None:
        ids = {timeout: await self._sleep(scene, str(timeout), timeout=timeout) for timeout in (3.0, 1.0, 2.0, 9.0)}
        await scene.subject.advance(5.0)
        assert (await scene.storage.expire_waits(limit=2)).accepted == {ids[1.0], ids[2.0]}
        assert (await scene.storage.expire_waits(limit=0)).accepted == frozenset()
        assert (await scene.storage.expire_waits(limit=9)).accepted == {ids[3.0]}

    async def test_expire_waits_ends_each_once(self, scene: Scene) -> None:
        id_ = await self._sleep(scene, timeout=1.0)
        await scene.subject.advance(1.0)
        await scene.storage.expire_waits(limit=9)
        before = await scene.get(id_)
        assert (await scene.storage.expire_waits(limit=9)).accepted == frozenset()
        assert await scene.get(id_) == before

    async def test_expire_waits_tells_the_parents_and_their_queues(self, scene: Scene) -> None:
        await scene.enqueue(task_name=PARENT, queue="q")
        parent = await scene.claim_one(PARENT, queues=["q"])
        child = scene.make.child(parent, kind=Kind.SLEEPING, sleeping_id="door", timeout=1.0)
        await scene.storage.settle([spawn(parent, None, (child,))])
        await scene.subject.advance(1.0)
        expired = await scene.storage.expire_waits(limit=9)
        assert expired.accepted == {child.id}
        assert expired.ready_queues == {"q"}
        assert await scene.status_of(parent.id) is Status.READY

    # --- finding it ------------------------------------------------------------------------------------------

    async def test_get_sleeping_finds_the_record_by_its_id(self, scene: Scene) -> None:
        id_ = await self._sleep(scene, 'door "1", {}')
        found = await scene.storage.get_sleeping(TASK, 'door "1", {}')
        assert found == await scene.get(id_)

    async def test_get_sleeping_finds_it_after_its_end(self, scene: Scene) -> None:
        id_ = await self._sleep(scene)
        await scene.storage.wake(TASK, "door", output="1", error=None)
        found = await scene.storage.get_sleeping(TASK, "door")
        assert found is not None
        assert (found.id, found.status) == (id_, Status.COMPLETED)

    async def test_get_sleeping_gives_none_for_another_task_or_id(self, scene: Scene) -> None:
        await self._sleep(scene)
        assert await scene.storage.get_sleeping(CHILD, "door") is None
        assert await scene.storage.get_sleeping(TASK, "window") is None
