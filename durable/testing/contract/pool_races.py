"""Contract of pools under contention: the limits hold at every moment, and nothing is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from durable.execution import Claimed
from durable.pool_rows import PooledClaim
from durable.storage import Operation, Storage
from durable.testing.contract.pool_scene import POOL, PoolScene
from durable.testing.contract.scene import LEASE, TASK, Case, Scene
from durable.testing.contract.together import in_threads, together
from durable.transitions import complete

__all__ = ["PoolRacesContract"]

CLAIMERS = 16


def _claim(handle: Storage, limit: int = 5) -> Operation[PooledClaim]:
    return handle.claim_pooled(executor_id="racer", pools=[POOL], task_names=[TASK], limit=limit, lease=LEASE)


class PoolRacesContract(Case):
    @pytest.fixture
    def racing(self, scene: Scene) -> PoolScene:
        return PoolScene(scene)

    def _handles(self, scene: Scene) -> Sequence[Storage]:
        return [scene.subject.handles[number % len(scene.subject.handles)] for number in range(CLAIMERS)]

    async def test_claimers_on_threads_never_exceed_the_limit(self, racing: PoolScene, scene: Scene) -> None:
        await racing.open(max_parallelism=7)
        await racing.enqueue(100)
        for _ in range(5):
            claims = await in_threads([_claim(handle) for handle in self._handles(scene)])
            turns = [turn for claim in claims for turn in claim.claimed]
            turns += await racing.turns()
            assert len(turns) == 7
            assert await racing.running() == 7
            await scene.complete_all(turns)

    @pytest.mark.parametrize("keys", [0, 3, 40])
    async def test_claimers_that_work_never_exceed_the_limit_and_finish_everything(
        self, keys: int, racing: PoolScene, scene: Scene
    ) -> None:
        await racing.open(max_parallelism=5)
        ids: list[str] = []
        for number in range(120):
            ids += await racing.enqueue(serial_key=f"key {number % keys}" if keys else None)
        done: list[str] = []
        most = 0

        async def work(handle: Storage) -> None:
            nonlocal most
            while len(done) < len(ids):
                turns = (await _claim(handle, 2)).claimed
                most = max(most, await racing.running())
                await handle.settle([complete(turn, "1") for turn in turns])
                done.extend(turn.id for turn in turns)

        await together(*(work(handle) for handle in self._handles(scene)))
        assert sorted(done) == sorted(ids)
        assert 0 < most <= 5

    async def test_claimers_keep_the_order_and_the_limit_of_every_key(self, racing: PoolScene, scene: Scene) -> None:
        await racing.open(max_parallelism=6)
        by_key = {key: await racing.enqueue(10, serial_key=key) for key in ("a", "b", "c", "d")}
        done: list[str] = []

        async def work(handle: Storage) -> None:
            while len(done) < 40:
                turns = (await _claim(handle)).claimed
                running = await racing.running_keys()
                assert len(running) == len(set(running))
                await handle.settle([complete(turn, "1") for turn in turns])
                done.extend(turn.id for turn in turns)

        await together(*(work(handle) for handle in self._handles(scene)))
        starts = {id_: (await scene.get(id_)).fence for id_ in done}
        assert set(starts.values()) == {2}
        assert {key: [id_ for id_ in done if id_ in ids] for key, ids in by_key.items()} == by_key

    async def test_no_enqueue_is_forgotten_by_claims_that_empty_its_key(self, racing: PoolScene, scene: Scene) -> None:
        await racing.open()
        first, second, third = scene.subject.handles[:3]
        rows = scene.make.rows(80, queue=POOL, is_pooled=True, serial_key="a")
        done: list[str] = []

        async def enqueue() -> None:
            for row in rows:
                await first.enqueue([row])

        async def work(handle: Storage) -> None:
            while len(done) < len(rows):
                turns = (await _claim(handle)).claimed
                await handle.settle([complete(turn, "1") for turn in turns])
                done.extend(turn.id for turn in turns)

        await together(enqueue(), work(second), work(third))
        assert done == [row.id for row in rows]

    async def test_a_rate_holds_over_all_claimers(self, racing: PoolScene, scene: Scene) -> None:
        await racing.open(rate_tokens=9, rate_period=60.0)
        await racing.enqueue(100)
        claims = await in_threads([_claim(handle) for handle in self._handles(scene)])
        turns: list[Claimed] = [turn for claim in claims for turn in claim.claimed]
        turns += await racing.turns()
        assert len(turns) == 9

    async def test_limits_that_change_under_claims_hold_from_then_on(self, racing: PoolScene, scene: Scene) -> None:
        await racing.open(max_parallelism=8)
        await racing.enqueue(60)
        handles = scene.subject.handles
        for limit in (0, 3, 8, 1):
            claims = [_claim(handle) for handle in (*handles, *handles)]
            asyncio_claims = [asyncio.ensure_future(_one(claim)) for claim in claims]
            await racing.configure(max_parallelism=limit)
            turns = [turn for found in await together(*asyncio_claims) for turn in found.claimed]
            before = await racing.running()
            more = await racing.turns()
            assert len(more) == max(limit - before, 0)
            await scene.complete_all([*turns, *more])
            assert await racing.running() == 0


async def _one(operation: Operation[PooledClaim]) -> PooledClaim:
    return await operation
