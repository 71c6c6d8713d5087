"""Contract of children: spawned and counted with their parent's write, and the parent goes on after the last one."""

from __future__ import annotations

import pytest

from durable.errors import DurableError, SleepingIdConflict
from durable.execution import ChildOutcome, CloseStatus, Kind, NewExecution, Phase, Status
from durable.testing.contract.scene import CHILD, ERROR, FINALIZE, LEASE, PARENT, TASK, Case, Scene
from durable.transitions import complete, fail, spawn, spawn_finalize

__all__ = ["ChildrenContract"]


class ChildrenContract(Case):
    async def test_children_are_stored_with_their_parent_s_write(self, scene: Scene) -> None:
        family = await scene.family(3)
        for row, record in zip(family.children, await scene.get_all(family.child_ids), strict=True):
            expected = {name: value for name, value in row._asdict().items() if name != "run_at"}
            assert {name: getattr(record, name) for name in expected} == expected
            assert (record.status, record.due_at) == (Status.READY, await scene.subject.now())

    async def test_children_are_counted_with_their_parent_s_write(self, scene: Scene) -> None:
        record = await scene.get((await scene.family(3)).id)
        assert (record.children_count, record.active_children_count) == (3, 3)
        assert (record.phase, record.run_output, record.attempts) == (Phase.CHILDREN, '{"own": 1}', 0)

    async def test_children_that_are_due_make_their_queues_ready(self, scene: Scene) -> None:
        parent = await scene.turn(task_name=PARENT)
        children = (
            scene.make.child(parent, 0, queue="now"),
            scene.make.child(parent, 1, queue="later", delay=1.0),
            scene.make.child(parent, 2, queue="asleep", kind=Kind.SLEEPING, sleeping_id="door"),
        )
        settled = await scene.storage.settle([spawn(parent, None, children)])
        assert settled.ready_queues == {"now"}

    async def test_children_may_be_delayed_and_may_sleep(self, scene: Scene) -> None:
        parent = await scene.turn(task_name=PARENT)
        late = scene.make.child(parent, 0, delay=5.0)
        asleep = scene.make.child(parent, 1, kind=Kind.SLEEPING, sleeping_id="door", timeout=9.0)
        await scene.storage.settle([spawn(parent, None, (late, asleep))])
        assert await scene.claim() == []
        record = await scene.get(asleep.id)
        assert record.status is Status.WAITING
        assert record.wait_expires_at is not None
        await scene.subject.advance(5.0)
        assert [turn.id for turn in await scene.claim()] == [late.id]

    async def test_a_parent_without_children_is_ready_for_its_next_phase(self, scene: Scene) -> None:
        await scene.enqueue(task_name=PARENT, queue="q")
        parent = await scene.claim_one(PARENT, queues=["q"])
        settled = await scene.storage.settle([spawn(parent, '"own"', ())])
        assert settled.ready_queues == {"q"}
        again = await scene.claim_one(PARENT, queues=["q"])
        assert (again.phase, again.run_output, again.attempts, again.deliveries) == (Phase.CHILDREN, '"own"', 1, 1)

    async def test_thousands_of_children_fit_in_one_settlement(self, scene: Scene) -> None:
        family = await scene.family(1_200)
        turns = await scene.claim(CHILD)
        assert {turn.id for turn in turns} == set(family.child_ids)
        await scene.complete_all(turns)
        record = await scene.get(family.id)
        assert (record.status, record.active_children_count, record.children_count) == (Status.READY, 0, 1_200)

    # --- going on --------------------------------------------------------------------------------------------

    async def test_the_last_child_makes_its_parent_ready(self, scene: Scene) -> None:
        family = await scene.family(2)
        first, second = await scene.claim(CHILD)
        assert (await scene.complete_all([first])).ready_queues == frozenset()
        assert await scene.claim(PARENT) == []
        await scene.subject.advance(4.0)
        assert (await scene.complete_all([second])).ready_queues == {"default"}
        record = await scene.get(family.id)
        assert (record.status, record.phase, record.active_children_count) == (Status.READY, Phase.CHILDREN, 0)
        assert record.due_at == await scene.subject.now()

    async def test_a_finish_that_is_not_the_last_only_counts(self, scene: Scene) -> None:
        family = await scene.family(3)
        before = await scene.get(family.id)
        await scene.complete_all((await scene.claim(CHILD))[:1])
        after = await scene.get(family.id)
        assert after.active_children_count == 2
        assert after == before._replace(active_children_count=2, updated_at=after.updated_at)

    async def test_siblings_that_finish_in_one_call_all_count(self, scene: Scene) -> None:
        family = await scene.family(5)
        turns = await scene.claim(CHILD)
        await scene.complete_all(turns[:3])
        assert (await scene.get(family.id)).active_children_count == 2
        await scene.complete_all(turns[3:])
        assert await scene.status_of(family.id) is Status.READY

    async def test_children_of_several_parents_in_one_call_count_for_their_own(self, scene: Scene) -> None:
        one, two = await scene.family(2), await scene.family(3)
        turns = {turn.id: turn for turn in await scene.claim(CHILD)}
        chosen = [*one.child_ids, two.child_ids[0]]
        await scene.complete_all([turns[id_] for id_ in chosen])
        assert await scene.status_of(one.id) is Status.READY
        assert (await scene.get(two.id)).active_children_count == 2

    @pytest.mark.parametrize("end", ["failed", "timed_out", "cancelled", "expired", "woken", "poisoned"])
    async def test_a_parent_goes_on_however_its_last_child_ended(self, scene: Scene, end: str) -> None:
        sleeps = {"kind": Kind.SLEEPING, "sleeping_id": "door", "timeout": 5.0} if end in ("expired", "woken") else {}
        family = await scene.family(1, child={"max_deliveries": 1, **sleeps})
        (child_id,) = family.child_ids
        if end in ("failed", "timed_out"):
            turn = await scene.claim_one(CHILD)
            await scene.storage.settle([fail(turn, ERROR, retry_delay=None, timed_out=end == "timed_out")])
        elif end == "cancelled":
            await scene.storage.cancel([child_id], reason="cancelled")
        elif end == "expired":
            await scene.subject.advance(5.0)
            assert (await scene.storage.expire_waits(limit=9)).ready_queues == {"default"}
        elif end == "woken":
            await scene.storage.wake(CHILD, "door", output="1", error=None)
        else:
            await scene.claim_one(CHILD)
            await scene.subject.advance(LEASE)
            await scene.storage.recover(limit=9)
        assert (await scene.get(child_id)).is_finished
        record = await scene.get(family.id)
        assert (record.status, record.active_children_count) == (Status.READY, 0)
        assert record.due_at == await scene.subject.now()

    async def test_a_child_that_is_retried_does_not_count(self, scene: Scene) -> None:
        family = await scene.family(1)
        await scene.storage.settle([fail(await scene.claim_one(CHILD), ERROR, retry_delay=0.0)])
        assert (await scene.get(family.id)).active_children_count == 1

    async def test_a_child_s_repeated_settlement_counts_once(self, scene: Scene) -> None:
        family = await scene.family(2)
        first, _ = await scene.claim(CHILD)
        await scene.storage.settle([complete(first, "1")])
        await scene.storage.settle([complete(first, "1")])
        assert (await scene.get(family.id)).active_children_count == 1

    async def test_a_child_settled_twice_in_one_call_counts_once(self, scene: Scene) -> None:
        family = await scene.family(2)
        first, _ = await scene.claim(CHILD)
        await scene.storage.settle([complete(first, "1"), complete(first, "1")])
        assert (await scene.get(family.id)).active_children_count == 1

    async def test_a_parent_goes_on_once(self, scene: Scene) -> None:
        family = await scene.family(2)
        await scene.complete_all(await scene.claim(CHILD))
        assert [turn.id for turn in await scene.claim(PARENT)] == [family.id]
        assert await scene.claim(PARENT) == []

    async def test_a_sequence_counts_the_children_it_started(self, scene: Scene) -> None:
        turn = await scene.turn(kind=Kind.SEQUENCE, task_name=PARENT)
        for started in (1, 2, 3):
            child = scene.make.child(turn, started - 1, task_name=CHILD)
            await scene.storage.settle([spawn(turn, None, (child,))])
            await scene.complete_all([await scene.claim_one(CHILD)])
            turn = await scene.claim_one(PARENT)
            assert (turn.iteration, turn.phase) == (started, Phase.CHILDREN)
        record = await scene.get(turn.id)
        assert (record.children_count, record.active_children_count) == (3, 0)

    # --- finalize --------------------------------------------------------------------------------------------

    async def test_the_finalize_execution_is_active_but_no_child(self, scene: Scene) -> None:
        family, finalize = await scene.finalizing(2)
        record = await scene.get(family.id)
        assert (record.status, record.phase) == (Status.WAITING_FOR_FINALIZE, Phase.FINALIZE)
        assert (record.children_count, record.active_children_count) == (2, 1)
        assert record.run_output == '{"own": 1}'
        assert (await scene.get(finalize.id)).is_finalize

    @pytest.mark.parametrize("is_failed", [False, True])
    async def test_the_end_of_finalize_makes_the_parent_ready_to_take_it_over(
        self, scene: Scene, is_failed: bool
    ) -> None:
        family, _ = await scene.finalizing()
        turn = await scene.claim_one(FINALIZE)
        await scene.storage.settle([fail(turn, ERROR, retry_delay=None) if is_failed else complete(turn, '"sum"')])
        parent = await scene.claim_one(PARENT)
        assert (parent.id, parent.phase, parent.run_output) == (family.id, Phase.FINALIZE, '{"own": 1}')

    async def test_a_tree_runs_from_its_root_to_its_end(self, scene: Scene) -> None:
        family, finalize = await scene.finalizing(2)
        await scene.complete_all([await scene.claim_one(FINALIZE)], '"sum"')
        await scene.complete_all([await scene.claim_one(PARENT)], '"sum"')
        records = await scene.get_all([family.id, *family.child_ids, finalize.id])
        assert {record.status for record in records} == {Status.COMPLETED}
        assert {record.close_status for record in records} == {CloseStatus.CLOSED}
        assert records[0].output == '"sum"'
        await scene.assert_sound()

    async def test_a_tree_of_three_levels_unwinds_from_below(self, scene: Scene) -> None:
        family = await scene.family(1, child={"kind": Kind.PARENT})
        middle = await scene.claim_one(CHILD)
        leaves = scene.make.children(middle, 2, task_name=TASK)
        await scene.storage.settle([spawn(middle, None, leaves)])
        assert await scene.status_of(family.id) is Status.WAITING_FOR_CHILDREN
        await scene.complete_all(await scene.claim(TASK))
        assert await scene.status_of(family.id) is Status.WAITING_FOR_CHILDREN
        await scene.complete_all([await scene.claim_one(CHILD)])
        assert await scene.status_of(family.id) is Status.READY
        await scene.assert_sound()

    # --- refused ---------------------------------------------------------------------------------------------

    async def test_children_of_a_refused_settlement_are_not_stored(self, scene: Scene) -> None:
        parent = await scene.turn(task_name=PARENT)
        await scene.gone(parent)
        child = scene.make.child(parent)
        assert (await scene.storage.settle([spawn(parent, None, (child,))])).accepted == frozenset()
        assert await scene.storage.existing([child.id]) == frozenset()
        assert (await scene.get(parent.id)).children_count == 0

    @pytest.mark.parametrize("how", ["id", "id of a neighbour", "sleeping id", "sleeping id of a neighbour", "key"])
    async def test_a_child_that_cannot_be_stored_rolls_the_whole_call_back(self, scene: Scene, how: str) -> None:
        taken = scene.make.row(kind=Kind.SLEEPING, sleeping_id="door", idempotency_key="key", task_name=CHILD)
        await scene.storage.enqueue([taken])
        family = await scene.family(2)
        sibling = (await scene.claim(CHILD))[0]
        parent, neighbour = await scene.turns(2)
        fine = scene.make.child(parent, 0, task_name=CHILD)
        clash = self._clash(scene.make.child(parent, 1, task_name=CHILD), fine, taken, how)
        if how == "sleeping id of a neighbour":
            fine = fine._replace(kind=Kind.SLEEPING, sleeping_id=clash.sleeping_id)
        before = await scene.everything()
        with pytest.raises(SleepingIdConflict if how.startswith("sleeping") else DurableError):
            await scene.storage.settle([
                complete(sibling, "1"), spawn(parent, None, (fine, clash)), complete(neighbour, "1"),
            ])  # fmt: skip
        assert await scene.everything() == before
        assert (await scene.get(family.id)).active_children_count == 2

    @staticmethod
    def _clash(child: NewExecution, sibling: NewExecution, taken: NewExecution, how: str) -> NewExecution:
        match how:
            case "id":
                return child._replace(id=taken.id)
            case "id of a neighbour":
                return child._replace(id=sibling.id)
            case "sleeping id":
                return child._replace(kind=Kind.SLEEPING, sleeping_id=taken.sleeping_id)
            case "sleeping id of a neighbour":
                return child._replace(kind=Kind.SLEEPING, sleeping_id="window")
            case _:
                return child._replace(idempotency_key=taken.idempotency_key)

    async def test_a_taken_sleeping_id_is_named_in_the_error(self, scene: Scene) -> None:
        await scene.storage.enqueue([scene.make.sleeper("door, (1)", task_name=CHILD)])
        parent = await scene.turn(task_name=PARENT)
        child = scene.make.child(parent, kind=Kind.SLEEPING, sleeping_id="door, (1)", task_name=CHILD)
        with pytest.raises(SleepingIdConflict) as caught:
            await scene.storage.settle([spawn(parent, None, (child,))])
        assert (caught.value.task, caught.value.sleeping_id) == (CHILD, "door, (1)")
        await scene.complete_all([parent])

    async def test_a_turn_may_end_otherwise_after_its_children_were_refused(self, scene: Scene) -> None:
        await scene.storage.enqueue([scene.make.sleeper("door", task_name=CHILD)])
        parent = await scene.turn(task_name=PARENT)
        child = scene.make.child(parent, kind=Kind.SLEEPING, sleeping_id="door", task_name=CHILD)
        with pytest.raises(SleepingIdConflict):
            await scene.storage.settle([spawn(parent, None, (child,))])
        settled = await scene.storage.settle([fail(parent, ERROR, retry_delay=None)])
        assert settled.accepted == {parent.id}

    # --- reading them ----------------------------------------------------------------------------------------

    async def test_children_are_read_in_child_order_with_their_ends(self, scene: Scene) -> None:
        family = await scene.family(3)
        turns = {turn.id: turn for turn in await scene.claim(CHILD)}
        first, second, third = family.child_ids
        await scene.storage.settle([complete(turns[third], '"c"'), fail(turns[first], ERROR, retry_delay=None)])
        assert await scene.storage.children([family.id]) == [
            ChildOutcome(family.id, 0, first, CHILD, Status.FAILED, None, ERROR, False),
            ChildOutcome(family.id, 1, second, CHILD, Status.RUNNING, None, None, False),
            ChildOutcome(family.id, 2, third, CHILD, Status.COMPLETED, '"c"', None, False),
        ]

    async def test_children_include_the_finalize_execution_marked_as_such(self, scene: Scene) -> None:
        family, finalize = await scene.finalizing(2)
        outcomes = await scene.storage.children([family.id])
        assert [child.id for child in outcomes if not child.is_finalize] == family.child_ids
        assert [child.id for child in outcomes if child.is_finalize] == [finalize.id]

    async def test_children_of_several_parents_are_read_at_once(self, scene: Scene) -> None:
        one, two = await scene.family(2), await scene.family(3)
        outcomes = await scene.storage.children([two.id, one.id, scene.make.id()])
        by_parent = {id_: [child.id for child in outcomes if child.parent_id == id_] for id_ in (one.id, two.id)}
        assert by_parent == {one.id: one.child_ids, two.id: two.child_ids}
        assert len(outcomes) == 5

    async def test_children_of_a_leaf_are_none(self, scene: Scene) -> None:
        assert await scene.storage.children([await scene.enqueue()]) == []
        assert await scene.storage.children([]) == []

    async def test_finalize_is_spawned_without_a_child_before_it(self, scene: Scene) -> None:
        turn = await scene.later_turn()
        finalize = scene.make.finalize(turn, task_name=FINALIZE)
        await scene.storage.settle([spawn_finalize(turn, finalize)])
        assert (await scene.claim_one(FINALIZE)).is_finalize
        assert (await scene.get(turn.id)).children_count == 0
