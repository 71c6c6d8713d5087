"""Contract of reading: records, ends, pages and counts."""

from __future__ import annotations

import pytest

from durable.execution import FINISHED, CloseStatus, Execution, FinishedExecution, Kind, Phase, Status
from durable.storage import ExecutionFilter
from durable.testing.contract.scene import CHILD, ERROR, PARENT, TASK, Case, Scene
from durable.transitions import complete, fail

__all__ = ["LookContract"]

ALL = ExecutionFilter()


class LookContract(Case):
    async def test_get_answers_in_the_order_of_the_ids(self, scene: Scene) -> None:
        first, second = await scene.enqueue_all(2)
        unknown = scene.make.id()
        found = await scene.storage.get([second, unknown, first, second])
        assert [record and record.id for record in found] == [second, None, first, second]

    async def test_get_of_nothing_gives_nothing(self, scene: Scene) -> None:
        assert await scene.storage.get([]) == []

    async def test_get_takes_thousands_of_ids(self, scene: Scene) -> None:
        ids = await scene.enqueue_all(1_200)
        assert [record and record.id for record in await scene.storage.get(ids)] == ids

    async def test_get_gives_records_of_the_library_s_own_types(self, scene: Scene) -> None:
        record = await scene.get(await scene.enqueue())
        assert type(record) is Execution
        types = (type(record.kind), type(record.status), type(record.phase), type(record.close_status))
        assert types == (Kind, Status, Phase, CloseStatus)

    async def test_get_gives_a_record_that_later_writes_do_not_change(self, scene: Scene) -> None:
        turn = await scene.turn()
        before = await scene.get(turn.id)
        await scene.complete_all([turn])
        assert before.status is Status.RUNNING

    async def test_existing_gives_what_is_stored_finished_or_not(self, scene: Scene) -> None:
        done, ready = await scene.in_status(Status.COMPLETED), await scene.enqueue()
        assert await scene.storage.existing([done, scene.make.id(), ready]) == {done, ready}
        assert await scene.storage.existing([]) == frozenset()

    @pytest.mark.parametrize("status", list(Status))
    async def test_finished_gives_the_ends_and_nothing_else(self, scene: Scene, status: Status) -> None:
        id_ = await scene.in_status(status)
        record = await scene.get(id_)
        expected = [FinishedExecution(id_, status, record.output, record.error)]
        assert await scene.storage.finished([id_]) == (expected if status in FINISHED else [])

    async def test_finished_finds_the_ends_among_many(self, scene: Scene) -> None:
        turns = await scene.turns(4)
        await scene.storage.settle([complete(turns[0], '"a"'), fail(turns[2], ERROR, retry_delay=None)])
        found = await scene.storage.finished([scene.make.id(), *(turn.id for turn in turns)])
        assert {(end.id, end.output, end.error) for end in found} == {
            (turns[0].id, '"a"', None), (turns[2].id, None, ERROR),
        }  # fmt: skip

    async def test_finished_tells_a_null_result_from_none(self, scene: Scene) -> None:
        null, failed = await scene.turns(2)
        await scene.storage.settle([complete(null, "null"), fail(failed, ERROR, retry_delay=None)])
        found = {end.id: end.output for end in await scene.storage.finished([null.id, failed.id])}
        assert found == {null.id: "null", failed.id: None}

    # --- search ----------------------------------------------------------------------------------------------

    async def test_search_gives_the_newest_first(self, scene: Scene) -> None:
        ids: list[str] = []
        for _ in range(4):
            ids.append(await scene.enqueue())
            await scene.subject.advance(1.0)
        assert [record.id for record in await scene.storage.search(ALL, limit=9)] == ids[::-1]

    async def test_search_pages_without_gap_or_repetition(self, scene: Scene) -> None:
        ids = await scene.enqueue_all(25)
        seen: list[str] = []
        before: str | None = None
        while page := await scene.storage.search(ALL, limit=7, before=before):
            assert len(page) <= 7
            seen += [record.id for record in page]
            before = seen[-1]
        assert seen == ids[::-1]

    async def test_search_holds_its_limit(self, scene: Scene) -> None:
        await scene.enqueue_all(5)
        assert len(await scene.storage.search(ALL, limit=2)) == 2
        assert await scene.storage.search(ALL, limit=0) == []

    @pytest.mark.parametrize("status", list(Status))
    async def test_search_finds_each_status(self, scene: Scene, status: Status) -> None:
        id_ = await scene.in_status(status)
        found = await scene.storage.search(ExecutionFilter(statuses=(status,)), limit=99)
        assert id_ in {record.id for record in found}
        assert {record.status for record in found} == {status}

    async def test_search_finds_several_statuses(self, scene: Scene) -> None:
        done, failed = await scene.in_status(Status.COMPLETED), await scene.in_status(Status.FAILED)
        await scene.enqueue()
        where = ExecutionFilter(statuses=(Status.COMPLETED, Status.FAILED))
        assert [record.id for record in await scene.storage.search(where, limit=9)] == [failed, done]
        assert await scene.storage.search(ExecutionFilter(statuses=()), limit=9) == []

    async def test_search_finds_by_name_and_queue(self, scene: Scene) -> None:
        here = await scene.enqueue(task_name='na"me', queue="q, {1}")
        await scene.enqueue(task_name='na"me')
        await scene.enqueue(queue="q, {1}")
        where = ExecutionFilter(task_name='na"me', queue="q, {1}")
        assert [record.id for record in await scene.storage.search(where, limit=9)] == [here]

    async def test_search_finds_a_tree_its_children_and_its_root(self, scene: Scene) -> None:
        family, other = await scene.family(2), await scene.family(1)
        tree = await scene.storage.search(ExecutionFilter(root_id=family.id), limit=9)
        assert {record.id for record in tree} == {family.id, *family.child_ids}
        children = await scene.storage.search(ExecutionFilter(parent_id=family.id), limit=9)
        assert {record.id for record in children} == set(family.child_ids)
        roots = await scene.storage.search(ExecutionFilter(roots_only=True), limit=9)
        assert [record.id for record in roots] == [other.id, family.id]

    async def test_search_gives_whole_records(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.complete_all([turn])
        assert await scene.storage.search(ALL, limit=1) == [await scene.get(turn.id)]

    async def test_search_takes_every_condition_together(self, scene: Scene) -> None:
        family = await scene.family(2)
        await scene.complete_all((await scene.claim(CHILD))[:1])
        where = ExecutionFilter((Status.COMPLETED,), CHILD, "default", family.id, family.id)
        assert len(await scene.storage.search(where, limit=9)) == 1
        assert await scene.storage.search(where._replace(roots_only=True), limit=9) == []
        assert await scene.storage.search(where._replace(queue="other"), limit=9) == []

    # --- counts ----------------------------------------------------------------------------------------------

    async def test_counts_are_by_queue_and_status(self, scene: Scene) -> None:
        await scene.enqueue_all(3, queue="a")
        await scene.enqueue_all(2, queue="b")
        await scene.claim(queues=["b"], limit=1)
        counts = {key: count for key, count in (await scene.storage.counts()).items() if count}
        assert counts == {("a", Status.READY): 3, ("b", Status.READY): 1, ("b", Status.RUNNING): 1}

    async def test_counts_leave_out_what_has_finished(self, scene: Scene) -> None:
        for status in FINISHED:
            await scene.in_status(status)
        assert not any((await scene.storage.counts()).values())

    @pytest.mark.parametrize("status", sorted(set(Status) - FINISHED))
    async def test_counts_know_each_unfinished_status(self, scene: Scene, status: Status) -> None:
        await scene.in_status(status)
        counts = await scene.storage.counts()
        assert counts["default", status] == 1
        assert {type(each) for _, each in counts} == {Status}

    async def test_counts_include_what_nobody_knows_and_what_is_not_due(self, scene: Scene) -> None:
        await scene.enqueue(task_name="of another deploy")
        await scene.enqueue(delay=900.0)
        assert (await scene.storage.counts())["default", Status.READY] == 2

    # --- vocabulary ------------------------------------------------------------------------------------------

    async def test_every_status_phase_and_close_status_can_be_stored(self, scene: Scene) -> None:
        records = await scene.get_all(list((await scene.in_every_status()).values()))
        seen = {word for record in records for word in (record.status, record.phase, ("close", record.close_status))}
        family = await scene.family(1)
        await scene.storage.cancel([family.id], reason="cancelled")
        seen.add(("close", (await scene.get(family.id)).close_status))
        await scene.storage.claim_closes(limit=99, lease=1.0)
        seen.add(("close", (await scene.get(family.id)).close_status))
        assert seen == {*Status, *Phase, *(("close", status) for status in CloseStatus)}

    async def test_a_whole_life_leaves_its_times_in_order(self, scene: Scene) -> None:
        await scene.enqueue(task_name=PARENT, kind=Kind.PARENT, delay=1.0)
        await scene.subject.advance(2.0)
        parent = await scene.claim_one(PARENT)
        await scene.subject.advance(2.0)
        await scene.complete_all([parent])
        record = await scene.get(parent.id)
        assert record.started_at is not None
        assert record.finished_at is not None
        assert record.created_at < record.due_at < record.started_at < record.finished_at
        assert record.task_name != TASK
