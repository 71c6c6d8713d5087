"""Contract of next_start: the wait until a claim finds something that comes due, within two bounds."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from durable.execution import DEFAULT_QUEUE, RECORD_VERSION
from durable.testing.contract.pool_scene import POOL, PoolScene
from durable.testing.contract.scene import TASK, Case, Scene

__all__ = ["NextStartContract"]

HOUR: Final = 3600.0


async def wait(
    scene: Scene, *queues: str, names: tuple[str, ...] = (TASK,), since: float | None = None, within: float = HOUR
) -> float | None:
    """`since`: seconds ago, after which things must have come due."""
    now = await scene.subject.now()
    after = None if since is None else now - timedelta(seconds=since)
    found = await scene.storage.next_start(
        queues=queues or (DEFAULT_QUEUE,), pools=(POOL,), task_names=names, after=after, within=within
    )
    assert found.now == now
    return found.wait


class NextStartContract(Case):
    async def test_next_start_is_none_in_an_empty_store(self, scene: Scene) -> None:
        assert await wait(scene) is None

    async def test_next_start_is_zero_for_what_is_due(self, scene: Scene) -> None:
        await scene.enqueue(delay=10.0)
        await scene.enqueue()
        assert await wait(scene) == 0.0
        await scene.subject.advance(HOUR)
        assert await wait(scene) == 0.0

    async def test_next_start_is_the_least_wait_whatever_its_priority_and_queue(self, scene: Scene) -> None:
        await scene.enqueue(delay=30.0, priority=4)
        await scene.enqueue(delay=10.5, priority=-4, queue="other")
        await scene.enqueue(delay=20.25)
        assert await wait(scene) == 20.25
        assert await wait(scene, "other", DEFAULT_QUEUE) == 10.5
        await scene.subject.advance(10.0)
        assert await wait(scene, "other", DEFAULT_QUEUE) == 0.5

    async def test_next_start_leaves_out_what_lies_beyond_its_bounds(self, scene: Scene) -> None:
        await scene.enqueue(delay=10.0)
        assert await wait(scene, within=9.9) is None
        assert await wait(scene, within=10.0) == 10.0
        await scene.subject.advance(15.0)
        assert await wait(scene, since=5.0) is None
        assert await wait(scene, since=5.1) == 0.0
        await scene.enqueue(delay=3.0)
        assert await wait(scene, since=1.0) == 3.0
        assert await wait(scene, since=-2.0) == 3.0
        assert await wait(scene, since=-9.0) == 3.0

    async def test_next_start_leaves_out_work_that_nobody_who_asks_would_claim(self, scene: Scene) -> None:
        await scene.enqueue(queue="other")
        await scene.enqueue(task_name="unknown")
        later = await scene.enqueue()
        await scene.subject.tamper(later, record_version=RECORD_VERSION + 1)
        assert await wait(scene) is None
        assert await wait(scene, names=()) is None

    async def test_next_start_leaves_out_what_runs_or_waits(self, scene: Scene) -> None:
        await scene.turn()
        await scene.enqueue_all(1, task_name="unknown")
        assert await wait(scene) is None

    async def test_next_start_sees_pools_with_keys_and_without(self, scene: Scene) -> None:
        pool = PoolScene(scene)
        await pool.open()
        await pool.enqueue(delay=30.0)
        assert await wait(scene) == 30.0
        await pool.enqueue(delay=20.0, serial_key="a")
        assert await wait(scene) == 20.0
        await scene.subject.advance(20.0)
        assert await wait(scene) == 0.0
        assert await wait(scene, since=1.0) == 0.0
        assert len(await pool.turns()) == 1
        assert await wait(scene, since=1.0) == 10.0

    async def test_next_start_knows_of_a_key_that_a_claim_has_left_waiting(self, scene: Scene) -> None:
        pool = PoolScene(scene)
        await pool.open(max_parallelism=1)
        await pool.enqueue(serial_key="a")
        await pool.enqueue(serial_key="b")
        await pool.run()
        assert await wait(scene) == 0.0

    async def test_next_start_is_none_for_a_pool_that_starts_nothing(self, scene: Scene) -> None:
        pool = PoolScene(scene)
        await pool.open(is_paused=True)
        await pool.enqueue()
        await pool.enqueue(delay=10.0, serial_key="a")
        assert await wait(scene) is None
        await pool.configure(is_paused=False, max_parallelism=0)
        assert await wait(scene) is None
        await pool.configure(max_parallelism=1)
        assert await wait(scene) == 0.0

    async def test_next_start_sees_a_pool_only_where_it_is_asked_for_as_one(self, scene: Scene) -> None:
        pool = PoolScene(scene)
        await pool.open()
        await pool.enqueue()
        found = await scene.storage.next_start(queues=(POOL,), pools=(), task_names=(TASK,), after=None, within=HOUR)
        assert found.wait is None
