"""Contract of counts, closes and cancellations under contention. Nothing here depends on who wins."""

from __future__ import annotations

import asyncio
from collections import Counter

from durable.execution import Claimed, CloseStatus, Kind, Status
from durable.testing.contract.scene import CHILD, EXECUTOR, LEASE, LIMIT, PARENT, Case, Scene
from durable.testing.contract.together import in_threads, together
from durable.transitions import complete, spawn

__all__ = ["TreeRacesContract"]


class TreeRacesContract(Case):
    async def test_siblings_that_settle_together_lose_no_count(self, scene: Scene) -> None:
        family = await scene.family(60)
        turns = await scene.claim(CHILD)
        batches = [turns[start : start + 5] for start in range(0, 60, 5)]
        results = await together(*(
            scene.subject.handles[index % 3].settle([complete(turn, "1") for turn in batch])
            for index, batch in enumerate(batches)
        ))  # fmt: skip
        assert sum(len(result.accepted) for result in results) == 60
        record = await scene.get(family.id)
        assert (record.status, record.active_children_count) == (Status.READY, 0)
        assert [result.ready_queues for result in results if result.ready_queues] == [{"default"}]
        await scene.assert_sound()

    async def test_siblings_that_settle_on_threads_lose_no_count(self, scene: Scene) -> None:
        family = await scene.family(6)
        turns = await scene.claim(CHILD)
        handles = scene.subject.handles
        await in_threads([handles[index % 3].settle([complete(turn, "1")]) for index, turn in enumerate(turns)])
        record = await scene.get(family.id)
        assert (record.status, record.active_children_count) == (Status.READY, 0)

    async def test_batches_that_touch_the_same_parents_crosswise_all_succeed(self, scene: Scene) -> None:
        families = [await scene.family(8) for _ in range(6)]
        turns = {turn.id: turn for turn in await scene.claim(CHILD)}
        batches = [
            [turns[family.child_ids[index]] for family in (families if index % 2 else reversed(families))]
            for index in range(8)
        ]
        results = await together(*(
            scene.subject.handles[index % 3].settle([complete(turn, "1") for turn in batch])
            for index, batch in enumerate(batches)
        ))  # fmt: skip
        assert sum(len(result.accepted) for result in results) == 48
        records = await scene.get_all([family.id for family in families])
        assert {(record.status, record.active_children_count) for record in records} == {(Status.READY, 0)}

    async def test_children_that_end_in_different_ways_together_all_count(self, scene: Scene) -> None:
        family = await scene.family(9, child={"max_deliveries": 1})
        settling, cancelling, lost = family.child_ids[:3], family.child_ids[3:6], family.child_ids[6:]
        turns = {turn.id: turn for turn in await scene.claim(CHILD)}
        await scene.subject.advance(LEASE)
        held = [(turn.id, turn.fence) for turn in turns.values() if turn.id not in lost]
        await scene.storage.renew(held, lease=LEASE)
        first, second, third = scene.subject.handles[:3]

        async def settle(id_: str) -> None:
            assert (await first.settle([complete(turns[id_], "1")])).accepted == {id_}

        async def cancel(id_: str) -> None:
            assert (await second.cancel([id_], reason="cancelled"))[0].is_cancelled

        async def recover() -> None:
            await third.recover(limit=2)

        await together(*map(settle, settling), *map(cancel, cancelling), recover(), recover())
        await scene.storage.recover(limit=9)
        record = await scene.get(family.id)
        assert (record.status, record.active_children_count) == (Status.READY, 0)
        await scene.assert_sound()

    async def test_a_child_s_end_and_its_parent_s_count_show_at_the_same_moment(self, scene: Scene) -> None:
        family = await scene.family(2)
        turns = await scene.claim(CHILD)
        settle = scene.storage.settle([complete(turn, "1") for turn in turns])
        async with asyncio.timeout(LIMIT):
            async with scene.subject.hold([family.id]) as held:
                settling = asyncio.ensure_future(together(settle))
                await held.contended()
                seen = await scene.subject.handles[1].get([family.id, *family.child_ids])
                statuses = [record.status for record in seen if record is not None]
                if scene.subject.has_row_locks:
                    assert statuses == [Status.WAITING_FOR_CHILDREN, Status.RUNNING, Status.RUNNING]
            await settling
        assert await scene.status_of(family.id) is Status.READY

    async def test_the_counts_are_right_at_every_moment(self, scene: Scene) -> None:
        families = [await scene.family(10) for _ in range(3)]
        turns = await scene.claim(CHILD)
        watcher, first, second = scene.subject.handles[:3]
        is_over = asyncio.Event()

        async def watch() -> int:
            looks = 0
            while not (is_over.is_set() and looks):
                assert await watcher.defects(limit=9) == []
                looks += 1
            return looks

        async def finish() -> int:
            await together(*(
                (first, second)[index % 2].settle([complete(turn, "1")]) for index, turn in enumerate(turns)
            ))  # fmt: skip
            is_over.set()
            return 0

        assert sum(await together(watch(), finish())) > 0
        records = await scene.get_all([family.id for family in families])
        assert {record.status for record in records} == {Status.READY}

    # --- cancel and close ------------------------------------------------------------------------------------

    async def test_cancels_of_one_execution_succeed_once(self, scene: Scene) -> None:
        id_ = await scene.enqueue()
        results = await together(*(
            scene.subject.handles[index % 3].cancel([id_], reason="cancelled") for index in range(6)
        ))  # fmt: skip
        assert sorted(result.is_cancelled for (result,) in results) == [*([False] * 5), True]
        assert (await scene.get(id_)).fence == 1

    async def test_a_parent_cancelled_while_its_children_end_stays_cancelled(self, scene: Scene) -> None:
        families = [await scene.family(2) for _ in range(8)]
        turns = {turn.id: turn for turn in await scene.claim(CHILD)}
        first, second, _ = scene.subject.handles[:3]

        async def finish(ids: list[str]) -> None:
            for id_ in ids:
                assert (await first.settle([complete(turns[id_], "1")])).accepted == {id_}

        async def cancel(id_: str) -> None:
            assert (await second.cancel([id_], reason="cancelled"))[0].is_cancelled

        await together(*(race for family in families for race in (finish(family.child_ids), cancel(family.id))))
        await scene.close_everything()
        for record in await scene.get_all([family.id for family in families]):
            assert (record.status, record.active_children_count) == (Status.CANCELLED, 0)
            assert record.close_status is CloseStatus.CLOSED
        await scene.assert_sound()

    async def test_a_child_is_either_settled_or_cancelled_by_the_close(self, scene: Scene) -> None:
        families = [await scene.family(3) for _ in range(5)]
        turns = await scene.claim(CHILD)
        await scene.storage.cancel([family.id for family in families], reason="cancelled")
        ids = await scene.storage.claim_closes(limit=99, lease=LEASE)
        first, second, third = scene.subject.handles[:3]

        async def settle(turn: Claimed) -> list[str]:
            return list((await first.settle([complete(turn, "1")])).accepted)

        async def close(index: int) -> list[str]:
            results = await (second, third)[index].close_trees(ids, reason="parent_cancelled")
            return [result.id for result in results if result.is_cancelled]

        ends = await together(*map(settle, turns), close(0), close(1))
        assert Counter(id_ for batch in ends for id_ in batch) == Counter(turn.id for turn in turns)
        await scene.subject.advance(LEASE)
        await scene.storage.recover_closes(limit=99)
        await scene.close_everything()
        assert {record.close_status for record in (await scene.everything()).values()} == {CloseStatus.CLOSED}
        await scene.assert_sound()

    async def test_claims_of_closes_get_different_executions(self, scene: Scene) -> None:
        families = [await scene.family(1) for _ in range(12)]
        await scene.storage.cancel([family.id for family in families], reason="cancelled")
        batches = await together(*(handle.claim_closes(limit=5, lease=LEASE) for handle in scene.subject.handles[:3]))
        batches.append(await scene.storage.claim_closes(limit=99, lease=LEASE))
        assert Counter(id_ for batch in batches for id_ in batch) == Counter(family.id for family in families)

    async def test_pick_ups_give_each_cancelled_execution_once(self, scene: Scene) -> None:
        turns = await scene.turns(20)
        await scene.storage.cancel([turn.id for turn in turns], reason="cancelled")
        batches = await together(*(
            handle.pick_up_cancelled(executor_id=EXECUTOR, limit=8) for handle in scene.subject.handles[:3]
        ))  # fmt: skip
        batches.append(await scene.storage.pick_up_cancelled(executor_id=EXECUTOR, limit=99))
        assert Counter(id_ for batch in batches for id_ in batch) == Counter(turn.id for turn in turns)

    async def test_redrives_of_one_execution_give_one_life(self, scene: Scene) -> None:
        id_ = await scene.in_status(Status.FAILED)
        fence = (await scene.get(id_)).fence
        results = await together(*(scene.subject.handles[index % 3].redrive([id_]) for index in range(6)))
        assert sorted(len(result) for result in results) == [*([0] * 5), 1]
        assert (await scene.get(id_)).fence == fence + 1

    async def test_a_sleeping_child_is_either_woken_or_expired(self, scene: Scene) -> None:
        parent = await scene.turn(task_name=PARENT)
        children = tuple(
            scene.make.child(parent, index, kind=Kind.SLEEPING, sleeping_id=f"door {index}", timeout=1.0)
            for index in range(12)
        )
        await scene.storage.settle([spawn(parent, None, children)])
        await scene.subject.advance(1.0)
        first, second, third = scene.subject.handles[:3]

        async def wake(index: int) -> list[str]:
            result = await first.wake("task", f"door {index}", output="1", error=None)
            return [children[index].id] if result.status is Status.COMPLETED else []

        async def expire(index: int) -> list[str]:
            return list((await (second, third)[index % 2].expire_waits(limit=3)).accepted)

        ends = await together(*map(wake, range(12)), *map(expire, range(4)))
        assert Counter(id_ for batch in ends for id_ in batch) == Counter(child.id for child in children)
        record = await scene.get(parent.id)
        assert (record.status, record.active_children_count) == (Status.READY, 0)
