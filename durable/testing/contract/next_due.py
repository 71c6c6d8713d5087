"""Contract of next_due: the earliest moment at which time alone gives something to do, and none for what it cannot."""

from __future__ import annotations

from datetime import datetime, timedelta

from durable.execution import DEFAULT_QUEUE, RECORD_VERSION, Kind
from durable.testing.contract.scene import CHILD, LEASE, PARENT, TASK, Case, Scene

__all__ = ["NextDueContract"]

NAMES = (TASK, PARENT, CHILD)


async def due(scene: Scene, *queues: str) -> datetime | None:
    return await scene.storage.next_due(queues=queues or (DEFAULT_QUEUE,), task_names=NAMES)


async def after(scene: Scene, seconds: float) -> datetime:
    return await scene.subject.now() + timedelta(seconds=seconds)


class NextDueContract(Case):
    async def test_next_due_is_none_in_an_empty_store(self, scene: Scene) -> None:
        assert await due(scene) is None

    async def test_next_due_is_none_without_queues_or_names_to_serve(self, scene: Scene) -> None:
        await scene.enqueue()
        assert await scene.storage.next_due(queues=(), task_names=NAMES) is None
        assert await scene.storage.next_due(queues=(DEFAULT_QUEUE,), task_names=()) is None

    async def test_next_due_is_the_earliest_of_what_is_ready_whatever_its_priority_and_queue(
        self, scene: Scene
    ) -> None:
        await scene.enqueue(delay=30.0, priority=4)
        await scene.enqueue(delay=10.0, priority=-4, queue="other")
        await scene.enqueue(delay=20.0)
        assert await due(scene) == await after(scene, 20.0)
        assert await due(scene, "other", DEFAULT_QUEUE) == await after(scene, 10.0)

    async def test_next_due_lies_in_the_past_for_what_has_waited(self, scene: Scene) -> None:
        await scene.enqueue(delay=10.0)
        await scene.subject.advance(60.0)
        assert await due(scene) == await after(scene, -50.0)

    async def test_next_due_leaves_out_work_that_nobody_who_asks_would_claim(self, scene: Scene) -> None:
        await scene.enqueue(queue="other")
        await scene.enqueue(task_name="unknown")
        later = await scene.enqueue()
        await scene.subject.tamper(later, record_version=RECORD_VERSION + 1)
        assert await due(scene) is None

    async def test_next_due_is_the_end_of_the_earliest_lease(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.subject.advance(1.0)
        await scene.turn()
        assert await due(scene) == await after(scene, LEASE - 1.0)
        await scene.complete_all([turn])
        assert await due(scene) == await after(scene, LEASE)

    async def test_next_due_is_the_deadline_of_a_wait_and_none_where_there_is_none(self, scene: Scene) -> None:
        await scene.enqueue(kind=Kind.SLEEPING, sleeping_id="for ever")
        assert await due(scene) is None
        await scene.enqueue(kind=Kind.SLEEPING, sleeping_id="door", timeout=5.0)
        assert await due(scene) == await after(scene, 5.0)

    async def test_next_due_is_none_for_a_wakeup_that_nobody_sleeps_for(self, scene: Scene) -> None:
        await scene.storage.wake("nobody", "yet", output="1", error=None)
        assert await due(scene) is None

    async def test_next_due_is_none_for_what_waits_for_children_or_has_finished(self, scene: Scene) -> None:
        await scene.complete_all([await scene.turn()])
        family = await scene.family(child={"task_name": "unknown"})
        assert await due(scene) is None
        await scene.complete_all(await scene.claim("unknown"))
        assert await due(scene) == (await scene.get(family.id)).due_at

    async def test_next_due_is_at_once_for_what_waits_to_be_closed_and_then_the_end_of_the_close_lease(
        self, scene: Scene
    ) -> None:
        family = await scene.family(2, child={"task_name": "unknown"})
        ended_at = await scene.subject.now()
        await scene.storage.cancel([family.id], reason="test")
        await scene.subject.advance(1.0)
        assert await due(scene) == ended_at
        await scene.storage.claim_closes(limit=9, lease=LEASE)
        assert await due(scene) == await after(scene, LEASE)
        await scene.storage.close_trees([family.id], reason="test")
        assert await due(scene) is None

    async def test_next_due_is_the_moment_until_which_a_delivery_was_put_off(self, scene: Scene) -> None:
        notices = [scene.make.notice(name) for name in ("early", "late", "idle")]
        await scene.storage.emit(notices)
        assert await due(scene) is None
        for notice, delay in zip(notices, (5.0, 9.0, 1.0), strict=True):
            await scene.storage.take_notices(notice.subscriber, holder="a", limit=9, lease=LEASE)
            await scene.storage.put_off_delivery(notice.subscriber, holder="a", delay=delay)
        await scene.storage.delivered("idle", [notices[2].id], holder="a")
        assert await due(scene) == await after(scene, 5.0)
        await scene.subject.advance(5.0)
        assert await due(scene) == await after(scene, 4.0)
        await scene.subject.advance(4.0)
        assert await due(scene) is None
