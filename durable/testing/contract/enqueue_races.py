"""Contract of enqueue and wake under contention. Nothing here depends on who wins."""

from __future__ import annotations

from collections import defaultdict

from durable.execution import Kind, NewExecution, Status, WakeResult
from durable.testing.contract.scene import CHILD, TASK, Case, Scene
from durable.testing.contract.together import in_threads, together
from durable.testing.make import Maker
from durable.transitions import spawn

__all__ = ["EnqueueRacesContract"]

CALLERS = 9


class EnqueueRacesContract(Case):
    async def test_callers_with_one_key_get_one_creator(self, scene: Scene) -> None:
        for attempt in range(5):
            rows = scene.make.rows(CALLERS, idempotency_key=f"order-{attempt}", idempotency_hash="h")
            results = await together(*(
                scene.subject.handles[index % 3].enqueue([row]) for index, row in enumerate(rows)
            ))  # fmt: skip
            creators = [result.id for (result,) in results if result.is_new]
            assert len(creators) == 1
            assert {result.id for (result,) in results} == set(creators)
            assert not any(result.is_conflict for (result,) in results)
            assert await scene.storage.existing([row.id for row in rows]) == set(creators)

    async def test_callers_on_threads_with_one_key_get_one_creator(self, scene: Scene) -> None:
        rows = scene.make.rows(6, idempotency_key="order", idempotency_hash="h")
        results = await in_threads([
            scene.subject.handles[index % 3].enqueue([row]) for index, row in enumerate(rows)
        ])  # fmt: skip
        assert sum(result.is_new for (result,) in results) == 1
        assert len({result.id for (result,) in results}) == 1

    async def test_callers_with_one_sleeping_id_get_one_creator(self, scene: Scene) -> None:
        for attempt in range(5):
            rows = [scene.make.sleeper(f"door-{attempt}") for _ in range(CALLERS)]
            results = await together(*(
                scene.subject.handles[index % 3].enqueue([row]) for index, row in enumerate(rows)
            ))  # fmt: skip
            answers = sorted((result.is_new, result.is_conflict) for (result,) in results)
            assert answers == [*([(False, True)] * (CALLERS - 1)), (True, False)]
            assert len(await scene.storage.existing([row.id for row in rows])) == 1

    async def test_one_row_sent_several_times_is_stored_once(self, scene: Scene) -> None:
        row = scene.make.row()
        results = await together(*(handle.enqueue([row]) for handle in scene.subject.handles))
        assert {(result.id, result.is_conflict) for (result,) in results} == {(row.id, False)}
        assert len(await scene.everything()) == 1

    async def test_calls_that_name_the_same_keys_crosswise_all_succeed(self, scene: Scene) -> None:
        def rows(series: int) -> list[NewExecution]:
            make = Maker(series=series, task_name=TASK)
            keys = [f"order-{number}" for number in range(60)]
            ordered = keys if series % 2 else keys[::-1]
            return [make.row(idempotency_key=key, idempotency_hash="h") for key in ordered]

        calls = [rows(series) for series in range(1, 7)]
        results = await together(*(
            scene.subject.handles[index % 3].enqueue(call) for index, call in enumerate(calls)
        ))  # fmt: skip
        by_key: defaultdict[str | None, set[str]] = defaultdict(set)
        for call, answer in zip(calls, results, strict=True):
            for row, result in zip(call, answer, strict=True):
                by_key[row.idempotency_key].add(result.id)
        assert [len(ids) for ids in by_key.values()] == [1] * 60
        assert sum(result.is_new for answer in results for result in answer) == 60

    async def test_a_wakeup_during_the_enqueue_is_not_lost(self, scene: Scene) -> None:
        rows = [scene.make.sleeper(f"door {index}") for index in range(20)]
        first, second, _ = scene.subject.handles[:3]

        async def enqueue(row: NewExecution) -> None:
            await first.enqueue([row])

        async def wake(row: NewExecution) -> None:
            await second.wake(TASK, str(row.sleeping_id), output='"woken"', error=None)

        await together(*(race(row) for row in rows for race in (enqueue, wake)))
        await scene.storage.apply_wakeups(limit=99)
        records = await scene.get_all([row.id for row in rows])
        assert {(record.status, record.output) for record in records} == {(Status.COMPLETED, '"woken"')}

    async def test_a_wakeup_during_the_spawn_is_not_lost(self, scene: Scene) -> None:
        parents = await scene.turns(10)
        first, second, _ = scene.subject.handles[:3]

        async def start(index: int) -> None:
            child = scene.make.child(parents[index], task_name=CHILD, kind=Kind.SLEEPING, sleeping_id=f"door {index}")
            await first.settle([spawn(parents[index], None, (child,))])

        async def wake(index: int) -> None:
            await second.wake(CHILD, f"door {index}", output="1", error=None)

        await together(*(race(index) for index in range(10) for race in (start, wake)))
        await scene.storage.apply_wakeups(limit=99)
        records = await scene.get_all([parent.id for parent in parents])
        assert {(record.status, record.active_children_count) for record in records} == {(Status.READY, 0)}

    async def test_wakers_of_one_execution_see_one_end(self, scene: Scene) -> None:
        for attempt in range(5):
            name = f"door {attempt}"
            row = scene.make.sleeper(name)
            await scene.storage.enqueue([row])
            results = await together(*(
                scene.subject.handles[index % 3].wake(TASK, name, output=f'"{index}"', error=None)
                for index in range(CALLERS)
            ))  # fmt: skip
            record = await scene.get(row.id)
            assert set(results) == {WakeResult(row.id, Status.COMPLETED)}
            assert record.fence == 1
            assert record.output in {f'"{index}"' for index in range(CALLERS)}
