"""Contract of claim, renew and recover under contention. Nothing here depends on who wins."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from durable.execution import DEFAULT_QUEUE, Claimed, Status
from durable.storage import Operation, Storage
from durable.testing.contract.scene import EXECUTOR, LEASE, LIMIT, TASK, Case, Scene
from durable.testing.contract.together import in_threads, together
from durable.transitions import complete

__all__ = ["ClaimRacesContract"]

ROUNDS = 20


def _claim(handle: Storage, limit: int, executor_id: str = EXECUTOR) -> Operation[list[Claimed]]:
    return handle.claim(executor_id=executor_id, queues=[DEFAULT_QUEUE], task_names=[TASK], limit=limit, lease=LEASE)


class ClaimRacesContract(Case):
    async def test_two_claimers_get_different_executions(self, scene: Scene) -> None:
        first, second, _ = scene.subject.handles[:3]
        for _ in range(5):
            ids = set(await scene.enqueue_all(40))
            claimed = await together(_claim(first, 25), _claim(second, 25))
            got = [turn.id for turns in claimed for turn in turns]
            rest = [turn.id for turn in await scene.claim()]
            assert sorted([*got, *rest]) == sorted(ids)

    async def test_claimers_together_get_everything_once(self, scene: Scene) -> None:
        ids = await scene.enqueue_all(300)
        got: list[Claimed] = []

        async def work(handle: Storage, limit: int) -> None:
            while turns := await _claim(handle, limit):
                assert len(turns) <= limit
                got.extend(turns)

        await together(*(work(handle, limit) for handle in scene.subject.handles[:3] for limit in (3, 7)))
        got.extend(await scene.claim())
        assert sorted(turn.id for turn in got) == sorted(ids)
        assert {turn.fence for turn in got} == {1}

    async def test_claimers_on_threads_get_different_executions(self, scene: Scene) -> None:
        ids = await scene.enqueue_all(60)
        claims = [_claim(handle, 15) for handle in scene.subject.handles[:3]]
        claimed = await in_threads(claims)
        assert all(len(turns) <= 15 for turns in claimed)
        got = [turn.id for turns in claimed for turn in turns]
        assert sorted([*got, *(turn.id for turn in await scene.claim())]) == sorted(ids)

    async def test_a_claim_skips_rows_that_another_transaction_holds(self, scene: Scene) -> None:
        held, free = await scene.enqueue_all(2), await scene.enqueue_all(2)
        async with scene.subject.hold(held), asyncio.timeout(LIMIT):
            got = {turn.id for turn in await scene.claim(limit=10)}
        assert got == ({*free} if scene.subject.has_row_locks else {*held, *free})
        rest = {turn.id for turn in await scene.claim(limit=10)}
        assert got | rest == {*held, *free}

    async def test_a_claim_fills_its_limit_past_rows_that_are_held(self, scene: Scene) -> None:
        held = await scene.enqueue_all(3, priority=1)
        free = await scene.enqueue_all(3)
        async with scene.subject.hold(held), asyncio.timeout(LIMIT):
            got = {turn.id for turn in await scene.claim(limit=3)}
        assert got == (set(free) if scene.subject.has_row_locks else set(held))

    async def test_claims_and_cancels_leave_one_clear_end(self, scene: Scene) -> None:
        ids = await scene.enqueue_all(ROUNDS)
        first, second, third = scene.subject.handles[:3]

        async def claim(handle: Storage) -> list[str]:
            return [turn.id for turn in await _claim(handle, ROUNDS // 2)]

        async def cancel(id_: str) -> list[str]:
            assert (await second.cancel([id_], reason="cancelled"))[0].is_cancelled
            return []

        claimed = {id_ for batch in await together(claim(first), *map(cancel, ids), claim(third)) for id_ in batch}
        records = await scene.get_all(ids)
        assert {record.status for record in records} == {Status.CANCELLED}
        assert {record.id for record in records if record.needs_cancel} == claimed
        picked = await scene.storage.pick_up_cancelled(executor_id=EXECUTOR, limit=99)
        assert set(picked) == claimed

    # --- leases ----------------------------------------------------------------------------------------------

    async def test_a_recovery_skips_rows_that_another_transaction_holds(self, scene: Scene) -> None:
        turns = await scene.turns(4)
        held, free = [turn.id for turn in turns[:2]], [turn.id for turn in turns[2:]]
        await scene.subject.advance(LEASE)
        async with scene.subject.hold(held), asyncio.timeout(LIMIT):
            got = {taken.id for taken in await scene.storage.recover(limit=10)}
        assert got == ({*free} if scene.subject.has_row_locks else {*held, *free})
        rest = {taken.id for taken in await scene.storage.recover(limit=10)}
        assert got | rest == {*held, *free}

    async def test_recoveries_take_each_execution_once(self, scene: Scene) -> None:
        turns = await scene.turns(40)
        await scene.subject.advance(LEASE)
        batches = await together(*(handle.recover(limit=15) for handle in scene.subject.handles[:3]))
        batches.append(await scene.storage.recover(limit=99))
        assert Counter(taken.id for batch in batches for taken in batch) == Counter(turn.id for turn in turns)
        assert {record.fence for record in (await scene.everything()).values()} == {2}

    async def test_a_lease_is_either_renewed_or_recovered(self, scene: Scene) -> None:
        turns = await scene.turns(ROUNDS)
        first, second, third = scene.subject.handles[:3]
        await scene.subject.advance(LEASE)

        async def recovered(handle: Storage) -> frozenset[str]:
            return frozenset(taken.id for taken in await handle.recover(limit=5))

        renewals = [first.renew([(turn.id, turn.fence)], lease=LEASE) for turn in turns]
        results = await together(*renewals, *(recovered(handle) for handle in (second, third, second)))
        renewed = frozenset[str]().union(*results[:ROUNDS])
        taken = [id_ for batch in results[ROUNDS:] for id_ in batch]
        assert renewed.isdisjoint(taken)
        assert len(taken) == len(set(taken))
        for record in await scene.get_all([turn.id for turn in turns]):
            assert record.status is (Status.READY if record.id in taken else Status.RUNNING)

    async def test_a_turn_is_either_settled_or_recovered(self, scene: Scene) -> None:
        turns = await scene.turns(ROUNDS)
        first, second, third = scene.subject.handles[:3]
        await scene.subject.advance(LEASE)

        async def settled(turn: Claimed) -> frozenset[str]:
            return (await first.settle([complete(turn, "1")])).accepted

        async def recovered(handle: Storage) -> frozenset[str]:
            return frozenset(taken.id for taken in await handle.recover(limit=6))

        results = await together(*map(settled, turns), *(recovered(handle) for handle in (second, third, second)))
        accepted = [id_ for batch in results[:ROUNDS] for id_ in batch]
        taken = [id_ for batch in results[ROUNDS:] for id_ in batch]
        rest = [each.id for each in await scene.storage.recover(limit=99)]
        assert sorted([*accepted, *taken, *rest]) == sorted(turn.id for turn in turns)
        for record in await scene.get_all(accepted):
            assert (record.status, record.fence) == (Status.COMPLETED, 2)
        for record in await scene.get_all([*taken, *rest]):
            assert (record.status, record.output, record.fence) == (Status.READY, None, 2)

    async def test_a_turn_is_either_settled_or_cancelled(self, scene: Scene) -> None:
        turns = await scene.turns(ROUNDS)
        first, second, _ = scene.subject.handles[:3]

        async def settled(turn: Claimed) -> frozenset[str]:
            return (await first.settle([complete(turn, "1")])).accepted

        async def cancelled(turn: Claimed) -> frozenset[str]:
            (result,) = await second.cancel([turn.id], reason="cancelled")
            return frozenset([turn.id]) if result.is_cancelled else frozenset()

        results = await together(*(race(turn) for turn in turns for race in (settled, cancelled)))
        for turn, accepted, ended in zip(turns, results[::2], results[1::2], strict=True):
            assert len(accepted) + len(ended) == 1
            record = await scene.get(turn.id)
            assert record.status is (Status.COMPLETED if accepted else Status.CANCELLED)
            assert (record.output is None, record.fence) == (not accepted, 2)

    @pytest.mark.parametrize("count", [2, 6])
    async def test_one_settlement_sent_several_times_is_accepted_once(self, scene: Scene, count: int) -> None:
        turn = await scene.turn()
        handles = [scene.subject.handles[index % 3] for index in range(count)]
        results = await together(*(handle.settle([complete(turn, "1")]) for handle in handles))
        assert sorted(len(result.accepted) for result in results) == [*([0] * (count - 1)), 1]
