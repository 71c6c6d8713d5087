"""Contract of enqueue: what is stored, in which order it is answered, and what stands in a row's way."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from durable.execution import (
    PRIORITIES,
    RECORD_VERSION,
    CloseStatus,
    Enqueued,
    Kind,
    NewExecution,
    Phase,
    Status,
)
from durable.testing.contract.scene import CHILD, TASK, Case, Scene

__all__ = ["EnqueueContract"]

PAYLOADS = [
    '""', "null", "0", "[]", '{"a": "ä€😀"}', '"a\\"b\\\\c{},NULL\'%s"', '"\\u0000"', '"line\\nline\\t"', "~wrapped",
]  # fmt: skip
"""Text that has to come back as it was given; most of it means something to a storage's own notations."""


class EnqueueContract(Case):
    async def test_enqueue_stores_every_field(self, scene: Scene) -> None:
        row = NewExecution(
            id=scene.make.id(), root_id=scene.make.id(), parent_id=None, child_index=4, is_finalize=True, depth=2,
            kind=Kind.LOOP, task_name="invoice, {it}", task_version=7, queue='q "1"', priority=-3, input='{"a": [1]}',
            idempotency_key="key 'one'", idempotency_hash="hash", sleeping_id=None, retry='{"max": 3}', max_attempts=9,
            max_deliveries=4, timeout=2.5, delay=1.5, run_at=None,
        )  # fmt: skip
        assert await scene.storage.enqueue([row]) == [Enqueued(row.id, True, False)]
        record = await scene.get(row.id)
        expected = {name: value for name, value in row._asdict().items() if name != "run_at"}
        assert {name: getattr(record, name) for name in expected} == expected

    @pytest.mark.parametrize("late", ["delay", "run_at", "past"])
    async def test_enqueue_of_rows_that_differ_in_their_input_stores_what_it_stores_of_others(
        self, scene: Scene, late: str
    ) -> None:
        """A storage may have a shorter way for them."""
        now = await scene.subject.now()
        run_at = {"delay": None, "run_at": now + timedelta(hours=2), "past": now - timedelta(hours=2)}[late]
        options: dict[str, Any] = {
            "kind": Kind.LOOP, "task_name": "invoice, {it}", "task_version": 7, "queue": 'q "1"', "priority": -3,
            "retry": '{"max": 3}', "max_attempts": 9, "max_deliveries": 4, "timeout": 2.5, "delay": 1.5,
            "run_at": run_at, "is_pooled": True, "serial_key": "a 'key'", "on_complete": '{"when": null}',
        }  # fmt: skip
        alike = [scene.make.row(input=payload, **options) for payload in PAYLOADS]
        mixed = [scene.make.row(input=payload, **options) for payload in PAYLOADS]
        await scene.storage.enqueue(alike)
        await scene.storage.enqueue([*mixed, scene.make.row(queue="another")])
        for one, other in zip(alike, mixed, strict=True):
            stored = (await scene.get(one.id))._replace(id="", root_id="")
            assert stored == (await scene.get(other.id))._replace(id="", root_id="")
            assert stored.input == one.input

    async def test_enqueue_of_alike_rows_repeated_in_part_stores_the_rest(self, scene: Scene) -> None:
        rows = scene.make.rows(6)
        await scene.storage.enqueue(rows[:3])
        assert await scene.storage.enqueue(rows) == [Enqueued(row.id, True, False) for row in rows]
        assert await scene.storage.existing([row.id for row in rows]) == {row.id for row in rows}

    async def test_enqueue_starts_a_record_ready_and_untouched(self, scene: Scene) -> None:
        record = await scene.get(await scene.enqueue())
        assert (record.status, record.phase, record.close_status) == (Status.READY, Phase.RUN, CloseStatus.IDLE)
        assert record.record_version == RECORD_VERSION
        counters = (record.fence, record.settled_fence, record.attempts, record.deliveries, record.iteration)
        assert counters == (0, 0, 0, 0, 0)
        assert (record.children_count, record.active_children_count, record.needs_cancel) == (0, 0, False)
        assert not record.is_finished

    async def test_enqueue_leaves_what_has_not_happened_empty(self, scene: Scene) -> None:
        record = await scene.get(await scene.enqueue())
        for name in (
            "parent_id", "child_index", "idempotency_key", "idempotency_hash", "sleeping_id", "retry", "timeout",
            "executor_id", "output", "run_output", "error", "reason", "progress", "started_at", "lease_expires_at",
            "wait_expires_at", "waiting_for_children_at", "waiting_for_finalize_at", "finished_at",
            "close_lease_expires_at", "closed_at",
        ):  # fmt: skip
            assert getattr(record, name) is None, name

    async def test_enqueue_takes_its_times_from_the_storage_clock(self, scene: Scene) -> None:
        await scene.subject.advance(3600)
        record = await scene.get(await scene.enqueue())
        now = await scene.subject.now()
        assert (record.created_at, record.due_at, record.updated_at) == (now, now, now)
        assert record.created_at.utcoffset() is not None

    async def test_enqueue_counts_the_delay_from_now(self, scene: Scene) -> None:
        record = await scene.get(await scene.enqueue(delay=90.5))
        assert record.due_at == record.created_at + timedelta(seconds=90.5)

    async def test_enqueue_prefers_run_at_to_the_delay(self, scene: Scene) -> None:
        run_at = await scene.subject.now() + timedelta(hours=2)
        record = await scene.get(await scene.enqueue(delay=5.0, run_at=run_at))
        assert record.due_at == run_at

    async def test_enqueue_takes_a_run_at_in_the_past_for_now(self, scene: Scene) -> None:
        run_at = await scene.subject.now() - timedelta(days=1)
        record = await scene.get(await scene.enqueue(run_at=run_at, delay=60.0))
        assert record.due_at == await scene.subject.now()

    async def test_enqueue_answers_in_the_order_of_the_rows(self, scene: Scene) -> None:
        rows = list(reversed(scene.make.rows(20)))
        assert [result.id for result in await scene.storage.enqueue(rows)] == [row.id for row in rows]

    async def test_enqueue_of_nothing_gives_nothing(self, scene: Scene) -> None:
        assert await scene.storage.enqueue([]) == []
        assert await scene.storage.enqueue([], all_or_nothing=True) == []

    async def test_enqueue_takes_thousands_of_rows_in_one_call(self, scene: Scene) -> None:
        rows = scene.make.rows(3_000)
        results = await scene.storage.enqueue(rows)
        assert results == [Enqueued(row.id, True, False) for row in rows]
        assert await scene.storage.existing([row.id for row in rows]) == {row.id for row in rows}

    @pytest.mark.parametrize("payload", PAYLOADS)
    async def test_enqueue_gives_payloads_back_as_they_were(self, scene: Scene, payload: str) -> None:
        id_ = await scene.enqueue(input=payload, retry=payload)
        record = await scene.get(id_)
        assert (record.input, record.retry) == (payload, payload)

    async def test_enqueue_takes_a_payload_of_a_megabyte(self, scene: Scene) -> None:
        payload = '"' + "a€" * 500_000 + '"'
        id_ = await scene.enqueue(input=payload)
        assert (await scene.get(id_)).input == payload

    @pytest.mark.parametrize("kind", list(Kind))
    async def test_enqueue_can_store_every_kind(self, scene: Scene, kind: Kind) -> None:
        fields = {"sleeping_id": "unique"} if kind is Kind.SLEEPING else {}
        record = await scene.get(await scene.enqueue(kind=kind, **fields))
        assert record.kind is kind

    @pytest.mark.parametrize("priority", list(PRIORITIES))
    async def test_enqueue_can_store_every_priority(self, scene: Scene, priority: int) -> None:
        assert (await scene.get(await scene.enqueue(priority=priority))).priority == priority

    # --- what is there already -------------------------------------------------------------------------------

    async def test_enqueue_of_a_stored_id_counts_as_stored_by_an_earlier_try(self, scene: Scene) -> None:
        row = scene.make.row(input='"first"')
        await scene.storage.enqueue([row])
        (again,) = await scene.storage.enqueue([row._replace(input='"second"')])
        assert (again.id, again.is_conflict) == (row.id, False)
        assert (await scene.get(row.id)).input == '"first"'
        assert len(await scene.everything()) == 1

    async def test_enqueue_repeated_after_the_work_began_changes_nothing(self, scene: Scene) -> None:
        row = scene.make.row()
        await scene.storage.enqueue([row])
        await scene.complete_all(await scene.claim())
        before = await scene.get(row.id)
        (again,) = await scene.storage.enqueue([row])
        assert (again.id, again.is_conflict) == (row.id, False)
        assert await scene.get(row.id) == before

    async def test_enqueue_gives_the_execution_that_has_the_key(self, scene: Scene) -> None:
        first, second = scene.make.rows(2, idempotency_key="order-1", idempotency_hash="h")
        await scene.storage.enqueue([first])
        assert await scene.storage.enqueue([second]) == [Enqueued(first.id, False, False)]
        assert await scene.storage.existing([second.id]) == frozenset()

    async def test_enqueue_calls_a_key_with_another_hash_a_conflict(self, scene: Scene) -> None:
        first, second = scene.make.rows(2, idempotency_key="order-1", idempotency_hash="h")
        await scene.storage.enqueue([first])
        results = await scene.storage.enqueue([second._replace(idempotency_hash="other")])
        assert results == [Enqueued(first.id, False, True)]
        assert await scene.storage.existing([second.id]) == frozenset()

    async def test_enqueue_keeps_the_keys_of_tasks_apart(self, scene: Scene) -> None:
        await scene.enqueue(idempotency_key="order-1", idempotency_hash="h")
        row = scene.make.row(task_name=CHILD, idempotency_key="order-1", idempotency_hash="other")
        assert await scene.storage.enqueue([row]) == [Enqueued(row.id, True, False)]

    async def test_enqueue_finds_the_key_of_a_finished_execution(self, scene: Scene) -> None:
        first, second = scene.make.rows(2, idempotency_key="order-1", idempotency_hash="h")
        await scene.storage.enqueue([first])
        await scene.complete_all(await scene.claim())
        assert await scene.storage.enqueue([second]) == [Enqueued(first.id, False, False)]

    async def test_enqueue_of_two_rows_with_one_key_has_one_creator(self, scene: Scene) -> None:
        rows = scene.make.rows(3, idempotency_key="order-1", idempotency_hash="h")
        results = await scene.storage.enqueue([*rows[:2], rows[2]._replace(idempotency_hash="other")])
        creators = [result.id for result in results if result.is_new]
        assert len(creators) == 1
        assert {result.id for result in results} == set(creators)
        assert len(await scene.everything()) == 1

    async def test_enqueue_of_rows_without_a_key_never_meets_another(self, scene: Scene) -> None:
        await scene.enqueue_all(5, idempotency_hash="h")
        assert len(await scene.everything()) == 5

    async def test_enqueue_calls_a_taken_sleeping_id_a_conflict(self, scene: Scene) -> None:
        first, second = scene.make.sleeper("door"), scene.make.sleeper("door")
        await scene.storage.enqueue([first])
        assert await scene.storage.enqueue([second]) == [Enqueued(first.id, False, True)]
        assert await scene.storage.existing([second.id]) == frozenset()

    async def test_enqueue_calls_the_sleeping_id_of_a_finished_execution_taken(self, scene: Scene) -> None:
        first, second = scene.make.sleeper("door"), scene.make.sleeper("door")
        await scene.storage.enqueue([first])
        await scene.storage.wake(TASK, "door", output="1", error=None)
        assert await scene.storage.enqueue([second]) == [Enqueued(first.id, False, True)]

    async def test_enqueue_keeps_the_sleeping_ids_of_tasks_apart(self, scene: Scene) -> None:
        await scene.storage.enqueue([scene.make.sleeper("door")])
        row = scene.make.sleeper("door", task_name=CHILD)
        assert await scene.storage.enqueue([row]) == [Enqueued(row.id, True, False)]

    async def test_enqueue_of_two_rows_with_one_sleeping_id_stores_one(self, scene: Scene) -> None:
        rows = [scene.make.sleeper("door"), scene.make.sleeper("door")]
        results = await scene.storage.enqueue(rows)
        assert sorted((result.is_new, result.is_conflict) for result in results) == [(False, True), (True, False)]
        assert len(await scene.everything()) == 1

    async def test_enqueue_repeated_under_its_key_gives_the_sleeping_task_it_made(self, scene: Scene) -> None:
        first, second = (scene.make.sleeper("door", idempotency_key="order-1", idempotency_hash="h") for _ in range(2))
        await scene.storage.enqueue([first])
        assert await scene.storage.enqueue([second]) == [Enqueued(first.id, False, False)]

    async def test_enqueue_stores_the_neighbours_of_a_conflict(self, scene: Scene) -> None:
        await scene.enqueue(idempotency_key="taken", idempotency_hash="h")
        before, conflict, after = scene.make.rows(3)
        conflict = conflict._replace(idempotency_key="taken", idempotency_hash="other")
        results = await scene.storage.enqueue([before, conflict, after])
        assert [(result.is_new, result.is_conflict) for result in results] == [
            (True, False), (False, True), (True, False),
        ]  # fmt: skip
        assert await scene.storage.existing([before.id, conflict.id, after.id]) == {before.id, after.id}

    async def test_enqueue_all_or_nothing_stores_nothing_for_one_conflict(self, scene: Scene) -> None:
        taken = await scene.enqueue(idempotency_key="taken", idempotency_hash="h")
        before, conflict, after = scene.make.rows(3)
        conflict = conflict._replace(idempotency_key="taken", idempotency_hash="other")
        results = await scene.storage.enqueue([before, conflict, after], all_or_nothing=True)
        assert [(result.is_new, result.is_conflict) for result in results] == [
            (False, False), (False, True), (False, False),
        ]  # fmt: skip
        assert results[1].id == taken
        assert set(await scene.everything()) == {taken}

    async def test_enqueue_all_or_nothing_leaves_the_keys_of_what_it_dropped_free(self, scene: Scene) -> None:
        taken, dropped = scene.make.sleeper("taken"), scene.make.sleeper("free", idempotency_key="free")
        await scene.storage.enqueue([taken])
        await scene.storage.enqueue([dropped, scene.make.sleeper("taken")], all_or_nothing=True)
        again = scene.make.sleeper("free", idempotency_key="free")
        assert await scene.storage.enqueue([again]) == [Enqueued(again.id, True, False)]

    async def test_enqueue_all_or_nothing_stores_all_without_a_conflict(self, scene: Scene) -> None:
        known = scene.make.row(idempotency_key="known", idempotency_hash="h")
        await scene.storage.enqueue([known])
        fresh, again = scene.make.row(), scene.make.row(idempotency_key="known", idempotency_hash="h")
        results = await scene.storage.enqueue([fresh, again], all_or_nothing=True)
        assert results == [Enqueued(fresh.id, True, False), Enqueued(known.id, False, False)]

    # --- sleeping tasks --------------------------------------------------------------------------------------

    async def test_enqueue_lets_a_sleeping_task_wait_until_its_deadline(self, scene: Scene) -> None:
        row = scene.make.sleeper("door", timeout=60.0)
        await scene.storage.enqueue([row])
        record = await scene.get(row.id)
        assert record.status is Status.WAITING
        assert record.wait_expires_at == record.created_at + timedelta(seconds=60)
        assert record.started_at == record.created_at

    async def test_enqueue_counts_the_delay_of_a_sleeping_task_before_its_timeout(self, scene: Scene) -> None:
        row = scene.make.sleeper("door", timeout=60.0, delay=10.0)
        await scene.storage.enqueue([row])
        record = await scene.get(row.id)
        assert record.wait_expires_at == record.created_at + timedelta(seconds=70)

    async def test_enqueue_gives_a_sleeping_task_without_timeout_no_deadline(self, scene: Scene) -> None:
        row = scene.make.sleeper("door")
        await scene.storage.enqueue([row])
        assert (await scene.get(row.id)).wait_expires_at is None
