"""Contract of pools without keys: their rows, their limits, their rates, and what stands outside them."""

from __future__ import annotations

from typing import Any

import pytest

from durable.execution import Claimed, Kind, Status
from durable.testing.contract.pool_scene import POOL, PoolScene, pool
from durable.testing.contract.scene import CHILD, ERROR, LEASE, PARENT, TASK, Case, Scene
from durable.transitions import complete, fail, release, spawn

__all__ = ["PoolsContract"]


class PoolsContract(Case):
    @pytest.fixture
    def pools(self, scene: Scene) -> PoolScene:
        return PoolScene(scene)

    # --- the rows --------------------------------------------------------------------------------------------

    async def test_ensure_pools_stores_what_is_not_there(self, pools: PoolScene) -> None:
        wanted = [pool(name="b", max_parallelism=3), pool(name="a", rate_tokens=5, rate_period=60.0)]
        assert await pools.storage.ensure_pools(wanted) == wanted
        assert await pools.storage.pools(["a", "b", "c"]) == [wanted[1], wanted[0]]

    async def test_ensure_pools_leaves_a_stored_pool_as_it_was_configured(self, pools: PoolScene) -> None:
        await pools.open(max_parallelism=3)
        await pools.configure(max_parallelism=7)
        assert (await pools.open(max_parallelism=3)).max_parallelism == 7

    async def test_configure_pool_sets_the_named_fields_alone(self, pools: PoolScene) -> None:
        await pools.open(max_parallelism=3, max_per_key=2, keep_order=False)
        changed = await pools.storage.configure_pool(
            pool(max_parallelism=9, is_paused=True), fields=["max_parallelism", "is_paused"]
        )
        expected = pool(max_parallelism=9, max_per_key=2, keep_order=False, is_paused=True)
        assert changed == expected
        assert await pools.storage.pools() == [expected]

    async def test_configure_pool_stores_a_pool_that_is_not_there(self, pools: PoolScene) -> None:
        assert await pools.configure(max_parallelism=4) == pool(max_parallelism=4)
        assert await pools.storage.pools() == [pool(max_parallelism=4)]

    async def test_pools_gives_all_by_name_where_none_are_named(self, pools: PoolScene) -> None:
        await pools.storage.ensure_pools([pool(name="b"), pool(name="a")])
        assert [each.name for each in await pools.storage.pools()] == ["a", "b"]
        assert await pools.storage.pools([]) == []

    # --- who claims ------------------------------------------------------------------------------------------

    async def test_claim_pooled_gives_what_claim_gives(self, pools: PoolScene, scene: Scene) -> None:
        await pools.open()
        given: dict[str, Any] = {
            "kind": Kind.LOOP, "input": '{"a": 1}', "retry": '{"max": 2}', "max_attempts": 4, "timeout": 2.5,
            "priority": 2, "task_version": 6, "delay": 3.0,
        }  # fmt: skip
        await pools.enqueue(**given)
        await scene.enqueue(**given, queue=POOL)
        await scene.subject.advance(3.5)
        (pooled,) = await pools.turns()
        (ordinary,) = await scene.claim(queues=[POOL])
        assert type(pooled.kind) is Kind
        names = set(Claimed._fields) - {"id", "root_id"}
        assert {name: getattr(pooled, name) for name in names} == {name: getattr(ordinary, name) for name in names}
        record, other = await scene.get(pooled.id), await scene.get(ordinary.id)
        for name in ("status", "executor_id", "started_at", "lease_expires_at", "updated_at", "reason"):
            assert getattr(record, name) == getattr(other, name)

    async def test_claim_leaves_what_is_in_a_pool(self, pools: PoolScene, scene: Scene) -> None:
        await pools.open()
        (pooled,) = await pools.enqueue()
        plain = await scene.enqueue(queue=POOL)
        assert [turn.id for turn in await scene.claim(queues=[POOL])] == [plain]
        assert await pools.ids() == [pooled]

    async def test_claim_pooled_gives_nothing_of_a_pool_that_is_not_there(self, pools: PoolScene) -> None:
        await pools.enqueue()
        assert await pools.claim() == ([], None)
        await pools.open()
        assert len(await pools.ids()) == 1

    @pytest.mark.parametrize(("limit", "names", "wanted"), [(0, [TASK], [POOL]), (5, [], [POOL]), (5, [TASK], [])])
    async def test_claim_pooled_without_room_names_or_pools_gives_nothing(
        self, limit: int, names: list[str], wanted: list[str], pools: PoolScene
    ) -> None:
        await pools.open()
        await pools.enqueue()
        assert await pools.claim(limit, task_names=names, pools=wanted) == ([], None)

    async def test_claim_pooled_passes_over_names_it_does_not_know(self, pools: PoolScene) -> None:
        await pools.open(max_parallelism=2)
        await pools.enqueue(3, task_name="unknown", priority=4)
        known = await pools.enqueue(2)
        assert await pools.ids() == known

    async def test_claim_pooled_takes_from_several_pools_in_the_order_given(self, pools: PoolScene) -> None:
        await pools.storage.ensure_pools([pool(name="a", max_parallelism=1), pool(name="b")])
        for name in ("a", "b"):
            await pools.enqueue(3, queue=name)
        turns = await pools.turns(2, pools=["a", "b"])
        assert sorted(turn.queue for turn in turns) == ["a", "b"]

    async def test_claim_pooled_goes_by_priority_then_due_time_then_id(self, pools: PoolScene, scene: Scene) -> None:
        await pools.open(max_parallelism=1)
        late = await pools.enqueue(2, delay=5.0)
        early = await pools.enqueue(2, delay=1.0)
        urgent = await pools.enqueue(2, delay=5.0, priority=1)
        await scene.subject.advance(5.0)
        assert await pools.drain() == [*urgent, *early, *late]

    async def test_claim_pooled_leaves_what_is_due_a_moment_later(self, pools: PoolScene, scene: Scene) -> None:
        await pools.open()
        (id_,) = await pools.enqueue(delay=10.0)
        await scene.subject.advance(9.999)
        assert await pools.claim() == ([], None)
        await scene.subject.advance(0.001)
        assert await pools.ids() == [id_]

    # --- max_parallelism -------------------------------------------------------------------------------------

    async def test_a_pool_gives_no_more_than_its_limit_over_all_executors(self, pools: PoolScene) -> None:
        await pools.open(max_parallelism=3)
        await pools.enqueue(10)
        assert len(await pools.ids(2)) == 2
        assert len(await pools.ids(5, executor_id="executor-b", handle=1)) == 1
        assert await pools.claim() == ([], None)
        assert await pools.running() == 3

    async def test_a_limit_of_zero_starts_nothing_until_it_is_raised(self, pools: PoolScene) -> None:
        await pools.open(max_parallelism=0)
        await pools.enqueue(5)
        assert await pools.claim() == ([], None)
        await pools.configure(max_parallelism=2)
        assert len(await pools.ids()) == 2

    async def test_a_paused_pool_starts_nothing_and_keeps_its_limit(self, pools: PoolScene) -> None:
        await pools.open(max_parallelism=2)
        await pools.enqueue(5)
        await pools.configure(is_paused=True)
        assert await pools.claim() == ([], None)
        await pools.configure(is_paused=False)
        assert len(await pools.ids()) == 2

    async def test_a_lowered_limit_stops_nothing_and_holds_from_then_on(self, pools: PoolScene, scene: Scene) -> None:
        await pools.open(max_parallelism=4)
        await pools.enqueue(10)
        turns = await pools.turns()
        await pools.configure(max_parallelism=2)
        assert await pools.running() == 4
        await scene.complete_all(turns[:2])
        assert await pools.ids() == []
        await scene.complete_all(turns[2:3])
        assert len(await pools.ids()) == 1

    async def test_a_limit_that_is_lifted_gives_everything(self, pools: PoolScene) -> None:
        await pools.open(max_parallelism=1)
        await pools.enqueue(5)
        await pools.configure(max_parallelism=None)
        assert len(await pools.ids()) == 5

    @pytest.mark.parametrize("end", ["complete", "fail", "retry", "release", "spawn", "cancel", "recover"])
    async def test_whatever_leaves_running_frees_its_place(self, end: str, pools: PoolScene, scene: Scene) -> None:
        await pools.open(max_parallelism=1)
        await pools.enqueue(2)
        (turn,) = await pools.turns()
        children = scene.make.children(turn, 1, task_name=CHILD, queue="other")
        settlements = {
            "complete": complete(turn, "1"),
            "fail": fail(turn, ERROR, retry_delay=None),
            "retry": fail(turn, ERROR, retry_delay=60.0),
            "release": release(turn),
            "spawn": spawn(turn, None, children),
        }
        if end in settlements:
            await pools.storage.settle([settlements[end]])
        elif end == "cancel":
            await pools.storage.cancel([turn.id], reason="cancelled")
        else:
            await scene.subject.advance(LEASE)
            await pools.storage.recover(limit=10)
        assert len(await pools.ids()) == 1
        assert await pools.running() == 1

    async def test_a_redriven_execution_goes_through_the_pool_again(self, pools: PoolScene) -> None:
        await pools.open(max_parallelism=1)
        first, second = await pools.enqueue(2)
        (turn,) = await pools.turns()
        await pools.storage.settle([fail(turn, ERROR, retry_delay=None)])
        assert await pools.ids() == [second]
        await pools.storage.redrive([first])
        assert await pools.ids() == []

    async def test_children_and_their_parent_go_through_the_pool(self, pools: PoolScene, scene: Scene) -> None:
        await pools.open(max_parallelism=1)
        await pools.enqueue(kind=Kind.PARENT, task_name=PARENT)
        (parent,) = await pools.turns(task_names=[PARENT])
        children = scene.make.children(parent, 2, is_pooled=True)
        await pools.storage.settle([spawn(parent, None, children)])
        assert await pools.drain() == [child.id for child in children]
        assert await scene.status_of(parent.id) is Status.READY
        assert await pools.ids(task_names=[PARENT]) == [parent.id]

    # --- rate ------------------------------------------------------------------------------------------------

    async def test_a_rate_gives_its_tokens_and_says_when_the_next_comes(self, pools: PoolScene, scene: Scene) -> None:
        await pools.open(rate_tokens=3, rate_period=60.0)
        await pools.enqueue(10)
        first = await pools.claim()
        assert (len(first.claimed), first.wait) == (3, 60.0)
        await scene.subject.advance(5.0)
        assert await pools.claim() == ([], 55.0)
        await scene.subject.advance(54.999)
        assert await pools.ids() == []
        await scene.subject.advance(0.001)
        again = await pools.claim()
        assert (len(again.claimed), again.wait) == (3, 60.0)

    async def test_a_rate_lets_no_more_start_in_any_period_however_they_come(
        self, pools: PoolScene, scene: Scene
    ) -> None:
        await pools.open(rate_tokens=5, rate_period=60.0)
        await pools.enqueue(200)
        starts: list[float] = []
        for second in range(300):
            limit = 1 + second % 3
            starts += [float(second)] * len((await pools.claim(limit=limit)).claimed)
            await scene.subject.advance(1.0)
        assert max(sum(at <= each < at + 60.0 for each in starts) for at in starts) == 5
        assert len(starts) == 25

    async def test_starts_that_came_apart_come_back_apart(self, pools: PoolScene, scene: Scene) -> None:
        await pools.open(rate_tokens=2, rate_period=60.0)
        await pools.enqueue(9)
        assert len(await pools.ids(limit=1)) == 1
        await scene.subject.advance(20.0)
        assert (len((await pools.claim()).claimed), (await pools.claim()).wait) == (1, 40.0)
        await scene.subject.advance(40.0)
        taken = await pools.claim()
        assert (len(taken.claimed), taken.wait) == (1, 20.0)

    async def test_a_rate_remembers_a_bounded_number_of_starts(self, pools: PoolScene, scene: Scene) -> None:
        await pools.open(rate_tokens=300, rate_period=64.0)
        await pools.enqueue(400)
        for _ in range(300):
            assert len(await pools.ids(limit=1)) == 1
            await scene.subject.advance(0.125)
        assert await pools.ids() == []
        # The first of them came 37.5 s ago: the eight of a second count until a period after the last of these.
        await scene.subject.advance(27.0)
        assert await pools.ids() == []
        await scene.subject.advance(0.5)
        assert len(await pools.ids()) == 8

    async def test_a_rate_fills_up_to_its_tokens_and_no_further(self, pools: PoolScene, scene: Scene) -> None:
        await pools.open(rate_tokens=3, rate_period=60.0)
        await pools.enqueue(20)
        assert len(await pools.ids()) == 3
        await scene.subject.advance(6000.0)
        assert len(await pools.ids()) == 3

    async def test_every_start_takes_a_token(self, pools: PoolScene, scene: Scene) -> None:
        await pools.open(rate_tokens=2, rate_period=60.0)
        await pools.enqueue(1)
        for _ in range(2):
            (turn,) = await pools.turns()
            await pools.storage.settle([fail(turn, ERROR, retry_delay=0.0)])
        assert await pools.claim() == ([], 60.0)
        await scene.subject.advance(60.0)
        assert len(await pools.ids()) == 1

    async def test_tokens_that_nothing_waits_for_ask_for_no_wait(self, pools: PoolScene) -> None:
        await pools.open(rate_tokens=3, rate_period=60.0)
        await pools.enqueue(2)
        assert (await pools.claim()).wait is None

    async def test_a_rate_and_a_limit_hold_together(self, pools: PoolScene) -> None:
        await pools.open(max_parallelism=1, rate_tokens=3, rate_period=60.0)
        await pools.enqueue(10)
        assert [len(await pools.run()) for _ in range(4)] == [1, 1, 1, 0]

    async def test_what_started_before_a_change_counts_in_the_new_rate(self, pools: PoolScene, scene: Scene) -> None:
        await pools.open(rate_tokens=4, rate_period=60.0)
        await pools.enqueue(30)
        assert len(await pools.ids()) == 4
        await scene.subject.advance(30.0)
        await pools.configure(rate_tokens=10, rate_period=60.0)
        assert len(await pools.ids()) == 6
        await pools.configure(rate_tokens=4, rate_period=60.0)
        assert await pools.claim() == ([], 60.0)
        await pools.configure(rate_tokens=None, rate_period=None)
        assert len(await pools.ids()) == 20
