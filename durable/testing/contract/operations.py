"""Contract of Operation, Lane and the life of a storage: the ways one verb can be run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import pytest

from durable.errors import StorageUnavailable
from durable.storage import Hint
from durable.testing.contract.scene import LIMIT, Case, Scene

__all__ = ["OperationContract"]


class OperationContract(Case):
    async def test_operation_does_nothing_before_it_is_run(self, scene: Scene) -> None:
        row = scene.make.row()
        operation = scene.storage.enqueue([row])
        assert await scene.storage.existing([row.id]) == frozenset()
        await operation
        assert await scene.storage.existing([row.id]) == {row.id}

    async def test_operation_runs_again_when_it_is_run_again(self, scene: Scene) -> None:
        await scene.enqueue_all(2)
        operation = scene.storage.claim(executor_id="a", queues=["default"], task_names=["task"], limit=1, lease=15.0)
        first, second = await operation, await operation
        assert len({turn.id for turn in first + second}) == 2

    async def test_operation_runs_from_a_blocking_thread(self, scene: Scene) -> None:
        row = scene.make.row()
        (result,) = await asyncio.to_thread(scene.storage.enqueue([row]).run)
        assert result.is_new
        assert await scene.storage.existing([row.id]) == {row.id}

    async def test_operation_awaited_on_a_connection_joins_its_transaction(self, scene: Scene) -> None:
        row = scene.make.row()
        async with scene.subject.rolled_back() as connection:
            (result,) = await scene.storage.enqueue([row]).await_on(connection)
            assert result.is_new
            assert await scene.storage.existing([row.id]).await_on(connection) == {row.id}
        stays = not scene.subject.has_transactions
        assert (row.id in await scene.storage.existing([row.id])) is stays

    async def test_operation_run_on_a_connection_joins_its_transaction(self, scene: Scene) -> None:
        row = scene.make.row()

        def enqueue() -> None:
            with scene.subject.rolled_back_blocking() as connection:
                (result,) = scene.storage.enqueue([row]).run_on(connection)
                assert result.is_new
                assert scene.storage.existing([row.id]).run_on(connection) == {row.id}

        await asyncio.to_thread(enqueue)
        stays = not scene.subject.has_transactions
        assert (row.id in await scene.storage.existing([row.id])) is stays

    async def test_operation_all_or_nothing_undoes_only_itself_in_a_caller_s_transaction(self, scene: Scene) -> None:
        await scene.storage.enqueue([scene.make.sleeper("taken")])
        before, dropped, clash = scene.make.row(), scene.make.row(), scene.make.sleeper("taken")
        async with scene.subject.rolled_back() as connection:
            await scene.storage.enqueue([before]).await_on(connection)
            await scene.storage.enqueue([dropped, clash], all_or_nothing=True).await_on(connection)
            stored = await scene.storage.existing([before.id, dropped.id, clash.id]).await_on(connection)
        assert stored == {before.id}

    async def test_operations_of_one_handle_show_on_the_others(self, scene: Scene) -> None:
        id_ = await scene.enqueue()
        for handle in scene.subject.handles:
            assert await handle.existing([id_]) == {id_}

    @pytest.mark.parametrize("count", [1, 3])
    async def test_lane_runs_operations_in_its_own_thread(self, scene: Scene, count: int) -> None:
        rows = scene.make.rows(count)
        ids = [row.id for row in rows]
        lane = scene.storage.lane()

        def work() -> frozenset[str]:
            try:
                for _ in range(2):  # an id sent again is another way through a storage
                    assert [done.id for done in lane.run(scene.storage.enqueue(rows))] == ids
                return lane.run(scene.storage.existing(ids))
            finally:
                lane.close()
                lane.close()

        assert await asyncio.to_thread(work) == set(ids)

    async def test_is_transient_tells_an_outage_from_a_mistake(self, scene: Scene) -> None:
        assert scene.storage.is_transient(StorageUnavailable("gone for a moment"))
        assert not scene.storage.is_transient(ValueError("no"))

    async def test_migrate_of_a_current_schema_applies_nothing(self, scene: Scene) -> None:
        assert await asyncio.to_thread(scene.storage.migrate) == []

    async def test_now_is_an_aware_time_that_moves_with_the_clock(self, scene: Scene) -> None:
        before = await scene.storage.now()
        await scene.subject.advance(2.5)
        after = await scene.subject.handles[1].now()
        assert before.utcoffset() is not None
        assert (after - before).total_seconds() == 2.5

    async def test_hints_reach_a_listener_or_listening_ends_at_once(self, scene: Scene) -> None:
        listener, teller = scene.subject.handles[0], scene.subject.handles[1]
        wanted = Hint("ready", "queue of hints")

        async def hear() -> bool:
            async with aclosing(cast(AsyncGenerator[Hint, None], listener.listen())) as hints:
                async for hint in hints:
                    if hint == wanted:
                        return True
            return False

        hearing = asyncio.ensure_future(hear())
        async with asyncio.timeout(LIMIT):
            # A hint may be lost, so it is told until it is heard.
            while not (await asyncio.wait([hearing], timeout=0.05))[0]:
                await teller.hint([wanted])
        assert hearing.result() is listener.is_shared

    async def test_hint_of_nothing_is_accepted(self, scene: Scene) -> None:
        await scene.storage.hint([])
