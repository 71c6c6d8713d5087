"""Contract of keyed work in pools: order and limit of a key, turns between keys, and nothing that is forgotten."""

from __future__ import annotations

import pytest

from durable.execution import Kind, Status
from durable.testing.contract.pool_scene import POOL, PoolScene
from durable.testing.contract.scene import CHILD, ERROR, LEASE, PARENT, TASK, Case, Scene
from durable.transitions import fail, release, spawn

__all__ = ["PoolKeysContract"]


class PoolKeysContract(Case):
    @pytest.fixture
    def keyed(self, scene: Scene) -> PoolScene:
        return PoolScene(scene)

    # --- order and limit -------------------------------------------------------------------------------------

    async def test_one_of_a_key_runs_at_a_time_in_order(self, keyed: PoolScene, scene: Scene) -> None:
        await keyed.open()
        ids = await keyed.enqueue(4, serial_key="a")
        (other,) = await keyed.enqueue(serial_key="b")
        turns = await keyed.turns()
        assert sorted(turn.id for turn in turns) == sorted([ids[0], other])
        assert await keyed.claim() == ([], None)
        await scene.complete_all(turns)
        assert await keyed.drain() == ids[1:]

    async def test_a_key_goes_by_due_time_then_id(self, keyed: PoolScene, scene: Scene) -> None:
        await keyed.open()
        late = await keyed.enqueue(2, serial_key="a", delay=5.0)
        early = await keyed.enqueue(2, serial_key="a", delay=1.0)
        urgent = await keyed.enqueue(1, serial_key="a", delay=5.0, priority=4)
        await scene.subject.advance(5.0)
        assert await keyed.drain() == [*early, *late, *urgent]

    async def test_a_key_takes_up_to_its_limit(self, keyed: PoolScene) -> None:
        await keyed.open(max_per_key=2)
        ids = await keyed.enqueue(5, serial_key="a")
        assert await keyed.ids() == ids[:2]
        assert await keyed.ids() == []

    async def test_keys_without_a_limit_run_all_at_once(self, keyed: PoolScene) -> None:
        await keyed.open(max_per_key=None)
        ids = [*await keyed.enqueue(5, serial_key="a"), *await keyed.enqueue(2, serial_key="b")]
        found: list[str] = []
        while (claim := await keyed.claim()).claimed:
            found += [turn.id for turn in claim.claimed]
        assert sorted(found) == sorted(ids)

    async def test_a_claim_of_less_than_everything_says_that_there_is_more(self, keyed: PoolScene) -> None:
        await keyed.open(max_per_key=None)
        await keyed.enqueue(5, serial_key="a")
        await keyed.enqueue(1, serial_key="b")
        left = 6
        while left:
            claim = await keyed.claim(4)
            left -= len(claim.claimed)
            assert len(claim.claimed) == 4 or claim.wait is not None or not left

    async def test_keys_and_the_keyless_share_the_limit_of_the_pool(self, keyed: PoolScene) -> None:
        await keyed.open(max_parallelism=3)
        for key in ("a", "b", None):
            await keyed.enqueue(2, serial_key=key)
        assert len(await keyed.ids()) == 3
        assert await keyed.ids() == []

    async def test_the_keyless_go_before_keys_by_priority_and_beside_them_by_time(
        self, keyed: PoolScene, scene: Scene
    ) -> None:
        await keyed.open(max_parallelism=1)
        (keyed_id,) = await keyed.enqueue(serial_key="a")
        await scene.subject.advance(1.0)
        (later,) = await keyed.enqueue()
        (urgent,) = await keyed.enqueue(priority=1)
        (least,) = await keyed.enqueue(priority=-1)
        assert await keyed.drain() == [urgent, keyed_id, later, least]

    async def test_a_key_may_hold_any_text(self, keyed: PoolScene) -> None:
        await keyed.open()
        keys = ["", " ", 'a"b', "a\\b", "{a,b}", "ä\n%s", "NULL", "x" * 512]
        for key in keys:
            await keyed.enqueue(2, serial_key=key)
        found = await keyed.keys(await keyed.turns())
        assert sorted(key for key in found if key is not None) == sorted(keys)

    # --- turns between keys ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("max_per_key", [1, 3, None])
    async def test_a_key_with_much_work_does_not_keep_another_waiting(
        self, max_per_key: int | None, keyed: PoolScene, scene: Scene
    ) -> None:
        await keyed.open(max_parallelism=4, max_per_key=max_per_key)
        await keyed.enqueue(2000, serial_key="a")
        assert await keyed.run()
        (other,) = await keyed.enqueue(serial_key="b")
        started = [id_ for _ in range(3) for id_ in await keyed.run()]
        assert other in started

    async def test_keys_take_turns(self, keyed: PoolScene) -> None:
        await keyed.open(max_parallelism=1)
        for key in ("a", "b", "c"):
            await keyed.enqueue(3, serial_key=key)
        order: list[str | None] = []
        for _ in range(9):
            turns = await keyed.turns()
            order += await keyed.keys(turns)
            await keyed.scene.subject.advance(0.001)
            await keyed.scene.complete_all(turns)
        assert [sorted(filter(None, order[start : start + 3])) for start in (0, 3, 6)] == [["a", "b", "c"]] * 3

    @pytest.mark.parametrize("max_per_key", [1, 2, None])
    async def test_keys_take_turns_while_the_clock_stands_still(
        self, max_per_key: int | None, keyed: PoolScene
    ) -> None:
        await keyed.open(max_parallelism=1, max_per_key=max_per_key)
        for key in ("a", "b", "c"):
            await keyed.enqueue(4, serial_key=key)
        (keyless,) = await keyed.enqueue()
        order: list[str | None] = []
        while turns := await keyed.turns():
            order += await keyed.keys(turns)
            await keyed.scene.complete_all(turns)
        assert (order[0], len(order)) == (None, 13)
        assert order[1:] == ["a", "b", "c"] * 4
        assert (await keyed.scene.get(keyless)).attempts == 1

    # --- retries and other returns ---------------------------------------------------------------------------

    async def test_what_waits_for_its_retry_keeps_its_place_in_the_key(self, keyed: PoolScene, scene: Scene) -> None:
        await keyed.open()
        first, second = await keyed.enqueue(2, serial_key="a")
        (turn,) = await keyed.turns()
        await keyed.storage.settle([fail(turn, ERROR, retry_delay=60.0)])
        assert await keyed.claim() == ([], None)
        await scene.subject.advance(60.0)
        assert await keyed.drain() == [first, second]

    async def test_without_keep_order_the_others_pass_what_waits_for_its_retry(
        self, keyed: PoolScene, scene: Scene
    ) -> None:
        await keyed.open(keep_order=False)
        first, second, third = await keyed.enqueue(3, serial_key="a")
        (turn,) = await keyed.turns()
        await keyed.storage.settle([fail(turn, ERROR, retry_delay=60.0)])
        assert await keyed.run() == [second]
        await scene.subject.advance(60.0)
        assert await keyed.drain() == [third, first]

    async def test_with_a_higher_limit_the_waiting_counts_as_one_of_its_key(
        self, keyed: PoolScene, scene: Scene
    ) -> None:
        await keyed.open(max_per_key=2)
        ids = await keyed.enqueue(4, serial_key="a")
        turns = await keyed.turns()
        await keyed.storage.settle([fail(turn, ERROR, retry_delay=60.0) for turn in turns[:1]])
        assert await keyed.ids() == []
        await scene.complete_all(turns[1:])
        assert await keyed.ids() == [ids[2]]

    @pytest.mark.parametrize("way", ["release", "retry", "recover"])
    async def test_what_comes_back_at_once_goes_first_in_its_key(
        self, way: str, keyed: PoolScene, scene: Scene
    ) -> None:
        await keyed.open()
        first, second = await keyed.enqueue(2, serial_key="a")
        (turn,) = await keyed.turns()
        if way == "recover":
            await scene.subject.advance(LEASE)
            await keyed.storage.recover(limit=10)
        else:
            await keyed.storage.settle([release(turn) if way == "release" else fail(turn, ERROR, retry_delay=0.0)])
        assert await keyed.drain() == [first, second]

    @pytest.mark.parametrize("way", ["fail", "poison", "cancel", "cancel_waiting"])
    async def test_the_end_of_what_held_a_key_lets_the_next_go(self, way: str, keyed: PoolScene, scene: Scene) -> None:
        await keyed.open()
        first, second = await keyed.enqueue(2, serial_key="a", max_deliveries=1)
        (turn,) = await keyed.turns()
        if way == "poison":
            await scene.subject.advance(LEASE)
            await keyed.storage.recover(limit=10)
        elif way == "cancel":
            await keyed.storage.cancel([first], reason="cancelled")
        else:
            delay = None if way == "fail" else 60.0
            await keyed.storage.settle([fail(turn, ERROR, retry_delay=delay)])
            assert await keyed.ids() == ([second] if way == "fail" else [])
        if way == "cancel_waiting":
            await keyed.storage.cancel([first], reason="cancelled")
        if way != "fail":
            assert await keyed.ids() == [second]

    async def test_a_cancelled_one_of_a_key_is_left_out(self, keyed: PoolScene) -> None:
        await keyed.open()
        ids = await keyed.enqueue(3, serial_key="a")
        await keyed.storage.cancel(ids[:1], reason="cancelled")
        assert await keyed.drain() == ids[1:]

    async def test_a_redriven_one_comes_back_to_its_key(self, keyed: PoolScene) -> None:
        await keyed.open()
        first, second = await keyed.enqueue(2, serial_key="a")
        (turn,) = await keyed.turns()
        await keyed.storage.settle([fail(turn, ERROR, retry_delay=None)])
        await keyed.storage.redrive([first])
        assert await keyed.drain() == [first, second]

    async def test_children_join_their_key_and_their_parent_comes_back_to_it(
        self, keyed: PoolScene, scene: Scene
    ) -> None:
        await keyed.open()
        await keyed.enqueue(kind=Kind.PARENT, task_name=PARENT, serial_key="a")
        (parent,) = await keyed.turns(task_names=[PARENT])
        children = scene.make.children(parent, 2, is_pooled=True, serial_key="a")
        await keyed.storage.settle([spawn(parent, None, children)])
        assert await keyed.drain() == [child.id for child in children]
        assert await keyed.ids(task_names=[PARENT]) == [parent.id]

    async def test_a_mended_parent_comes_back_to_its_key(self, keyed: PoolScene, scene: Scene) -> None:
        await keyed.open()
        await keyed.enqueue(kind=Kind.PARENT, task_name=PARENT, serial_key="a")
        (parent,) = await keyed.turns(task_names=[PARENT])
        children = scene.make.children(parent, 1, task_name=CHILD)
        await keyed.storage.settle([spawn(parent, None, children)])
        await scene.subject.tamper(parent.id, active_children_count=0)
        await scene.subject.tamper(children[0].id, parent_id=None)
        await keyed.storage.mend([parent.id])
        assert await keyed.ids(task_names=[PARENT]) == [parent.id]

    # --- due times -------------------------------------------------------------------------------------------

    async def test_future_work_of_a_key_does_not_hold_it(self, keyed: PoolScene, scene: Scene) -> None:
        await keyed.open()
        (future,) = await keyed.enqueue(serial_key="a", delay=60.0)
        (due,) = await keyed.enqueue(serial_key="a")
        assert await keyed.drain() == [due]
        assert await keyed.claim() == ([], None)
        await scene.subject.advance(60.0)
        assert await keyed.drain() == [future]

    async def test_a_key_whose_work_ended_is_found_again(self, keyed: PoolScene, scene: Scene) -> None:
        await keyed.open()
        for _ in range(3):
            (id_,) = await keyed.enqueue(serial_key="a")
            assert await keyed.drain() == [id_]
            await scene.subject.advance(1.0)

    # --- unknown names and changed limits --------------------------------------------------------------------

    @pytest.mark.parametrize("keep_order", [True, False])
    @pytest.mark.parametrize("max_per_key", [1, 3])
    async def test_what_is_due_first_in_a_key_is_passed_by_none_also_where_its_name_is_unknown(
        self, max_per_key: int, keep_order: bool, keyed: PoolScene
    ) -> None:
        await keyed.open(max_per_key=max_per_key, keep_order=keep_order)
        before = await keyed.enqueue(1, serial_key="a")
        unknown = await keyed.enqueue(2, serial_key="a", task_name="unknown")
        known = await keyed.enqueue(1, serial_key="a")
        other = await keyed.enqueue(1, serial_key="b")
        assert sorted(await keyed.drain()) == sorted([*before, *other])
        assert await keyed.claim() == ([], None)
        both = [TASK, "unknown"]
        assert await keyed.drain(task_names=both) == [*unknown, *known]

    async def test_keys_without_a_limit_pass_unknown_names(self, keyed: PoolScene) -> None:
        await keyed.open(max_per_key=None)
        unknown = await keyed.enqueue(3, serial_key="a", task_name="unknown")
        known = await keyed.enqueue(2, serial_key="a")
        assert await keyed.drain() == known
        assert await keyed.drain(task_names=["unknown"]) == unknown

    async def test_what_waits_for_its_retry_holds_its_key_for_those_who_do_not_know_it(
        self, keyed: PoolScene, scene: Scene
    ) -> None:
        await keyed.open()
        first = await keyed.enqueue(1, serial_key="a", task_name="unknown")
        second = await keyed.enqueue(1, serial_key="a")
        (turn,) = await keyed.turns(task_names=["unknown"])
        await keyed.storage.settle([fail(turn, ERROR, retry_delay=1.0)])
        await scene.subject.advance(1.0)
        assert await keyed.drain() == []
        assert await keyed.drain(task_names=["unknown"]) == first
        assert await keyed.drain() == second

    async def test_many_keys_of_unknown_names_keep_no_other_waiting(self, keyed: PoolScene) -> None:
        await keyed.open(max_parallelism=2)
        for number in range(150):
            await keyed.enqueue(serial_key=f"unknown {number}", task_name="unknown")
        known = await keyed.enqueue(serial_key="z")
        assert await keyed.ids() == known

    async def test_a_raised_limit_of_keys_holds_at_once(self, keyed: PoolScene) -> None:
        await keyed.open()
        ids = await keyed.enqueue(4, serial_key="a")
        assert await keyed.ids() == ids[:1]
        assert await keyed.ids() == []
        await keyed.configure(max_per_key=3)
        assert await keyed.ids() == ids[1:3]
        await keyed.configure(max_per_key=1)
        assert await keyed.ids() == []

    async def test_an_order_given_up_lets_the_waiting_be_passed_at_once(self, keyed: PoolScene) -> None:
        await keyed.open()
        first, second = await keyed.enqueue(2, serial_key="a")
        (turn,) = await keyed.turns()
        assert turn.id == first
        await keyed.storage.settle([fail(turn, ERROR, retry_delay=60.0)])
        assert await keyed.ids() == []
        await keyed.configure(keep_order=False)
        assert await keyed.ids() == [second]

    async def test_what_an_enqueue_did_not_store_leaves_the_key_in_order(self, keyed: PoolScene) -> None:
        await keyed.open()
        row = keyed.scene.make.row(queue=POOL, is_pooled=True, serial_key="a", idempotency_key="k")
        again = row._replace(id=keyed.scene.make.id())
        await keyed.storage.enqueue([row])
        await keyed.storage.enqueue([again])
        assert await keyed.drain() == [row.id]
        assert (await keyed.scene.get(row.id)).status is Status.COMPLETED
        assert await keyed.ids(task_names=[TASK]) == []
