"""Contract of checkpoint: what a running workflow writes is there when it returns, under the fence, and once."""

from __future__ import annotations

import pytest

from durable.errors import DurableError, SleepingIdConflict
from durable.execution import CloseStatus, Kind, Status
from durable.testing.contract.noted import Notes
from durable.testing.contract.scene import CHILD, LEASE, TASK
from durable.testing.contract.workflows_scene import WORKFLOW, WorkflowCase, WorkflowScene, entries
from durable.transitions import complete, release
from durable.workflow_rows import (
    Checkpoint,
    Checkpointed,
    Entry,
    MessageKind,
    NewEntry,
    Published,
    StoredChunk,
    Suspension,
)

__all__ = ["WorkflowCheckpointContract"]


class WorkflowCheckpointContract(WorkflowCase):
    # --- entries ---------------------------------------------------------------------------------------------

    async def test_checkpoint_appends_entries_and_the_turn_goes_on(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        new = [
            NewEntry(1, "step", "charge#1", '{"a": "ä\\n"}', None, '"detail"'),
            NewEntry(2, "failed", "mail#1", None, '{"type": "E"}', None),
        ]
        done = await flow.checkpoint(turn, entries=tuple(new))
        now = await flow.subject.now()
        assert done.accepted[turn.id] == (turn.id, 0, 0, now, now)
        assert (await flow.history(turn.id)).entries == [Entry(*entry, at=now) for entry in new]
        record = await flow.get(turn.id)
        assert (record.status, record.fence, record.attempts) == (Status.RUNNING, turn.fence, 1)

    async def test_checkpoint_writes_for_many_workflows_at_once(self, flow: WorkflowScene) -> None:
        turns = await flow.begin_all(30)
        done = await flow.storage.checkpoint(
            [Checkpoint(turn.id, turn.fence, entries(number % 3)) for number, turn in enumerate(turns)]
        )
        assert set(done.accepted) == {turn.id for turn in turns}
        found = await flow.storage.histories([(turn.id, 0, 0) for turn in reversed(turns)])
        assert [len(each.entries) for each in found] == [number % 3 for number in reversed(range(30))]
        assert [each.id for each in found] == [turn.id for turn in reversed(turns)]

    async def test_checkpoint_of_nothing_is_accepted(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        assert await flow.storage.checkpoint([]) == Checkpointed({}, frozenset())
        assert set((await flow.checkpoint(turn)).accepted) == {turn.id}

    async def test_two_checkpoints_of_one_workflow_in_a_call_are_both_written(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        rows = [Checkpoint(turn.id, turn.fence, entries(1, first=seq), chunks=(f'"{seq}"',)) for seq in (1, 2, 3)]
        assert set((await flow.storage.checkpoint(rows)).accepted) == {turn.id}
        assert await flow.keys(turn.id) == ["charge#1", "charge#2", "charge#3"]
        chunks = await flow.storage.stored_chunks(turn.id, after=0, limit=9)
        assert [chunk.payload for chunk in chunks] == ['"1"', '"2"', '"3"']

    async def test_a_checkpoint_whose_fence_is_gone_changes_nothing_and_no_neighbour(self, flow: WorkflowScene) -> None:
        first, stale, last = await flow.begin_all(3)
        await flow.gone(stale)
        child = flow.make.child(stale, task_name=CHILD)
        lost = Checkpoint(
            stale.id, stale.fence, entries(1), children=(child,), values=(("k", "1"),), chunks=("1",),
            messages=(flow.message(first.id),), is_progress=True,
        )  # fmt: skip
        before = await flow.everything()
        rows = [Checkpoint(turn.id, turn.fence, entries(1)) for turn in (first, last)]
        for batch in ([rows[0], lost._replace(children=(), values=(), chunks=(), messages=(), is_progress=False)],
                      [lost, rows[1]]):  # fmt: skip
            done = await flow.storage.checkpoint(batch)
            assert set(done.accepted) == {row.id for row in batch if row.id != stale.id}
        assert await flow.everything() == before
        assert [len(await flow.keys(turn.id)) for turn in (first, stale, last)] == [1, 0, 1]
        assert await flow.storage.published_values(stale.id) == []
        assert await flow.storage.stored_chunks(stale.id, after=0, limit=9) == []
        assert await flow.payloads(first.id) == []

    async def test_a_stale_and_a_live_checkpoint_of_one_workflow_are_told_apart(self, flow: WorkflowScene) -> None:
        old = await flow.begin()
        await flow.gone(old)
        new = await flow.next_turn()
        stale = Checkpoint(old.id, old.fence, (NewEntry(2, "step", "stale#1", None, None, None),))
        live = Checkpoint(new.id, new.fence, entries(1))
        assert set((await flow.storage.checkpoint([stale, live])).accepted) == {new.id}
        assert await flow.keys(new.id) == ["charge#1"]

    async def test_a_recovered_workflow_cannot_be_written_by_its_late_executor(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        await flow.subject.advance(LEASE)
        await flow.subject.handles[1].recover(limit=9)
        done = await flow.storage.checkpoint([Checkpoint(turn.id, turn.fence, entries(1))])
        assert (done.accepted, await flow.keys(turn.id)) == ({}, [])

    @pytest.mark.parametrize("is_rich", [False, True])
    async def test_a_checkpoint_given_again_is_accepted_and_written_once(
        self, flow: WorkflowScene, is_rich: bool
    ) -> None:
        turn, other = await flow.begin_all(2)
        child = flow.make.child(turn, task_name=CHILD)
        row = Checkpoint(turn.id, turn.fence, entries(2))
        if is_rich:
            message = flow.message(other.id)
            row = row._replace(children=(child,), values=(("k", "1"),), chunks=("1",), messages=(message,))
        first = await flow.storage.checkpoint([row])
        again = await flow.storage.checkpoint([row, Checkpoint(other.id, other.fence, entries(1))])
        assert set(first.accepted) == {turn.id}
        assert set(again.accepted) == {turn.id, other.id}
        assert await flow.keys(turn.id) == ["charge#1", "charge#2"]
        assert (await flow.get(turn.id)).active_children_count == (1 if is_rich else 0)
        assert len(await flow.payloads(other.id)) == (1 if is_rich else 0)
        assert len(await flow.storage.stored_chunks(turn.id, after=0, limit=9)) == (1 if is_rich else 0)
        assert [each.version for each in await flow.storage.published_values(turn.id)] == ([1] if is_rich else [])

    @pytest.mark.parametrize("is_rich", [False, True])
    async def test_a_checkpoint_given_again_gives_the_moment_that_is_stored(
        self, flow: WorkflowScene, is_rich: bool
    ) -> None:
        turn, other = await flow.begin_all(2)
        row = Checkpoint(turn.id, turn.fence, entries(2), values=(("k", "1"),) if is_rich else ())
        stored_at = (await flow.storage.checkpoint([row])).accepted[turn.id].at
        await flow.subject.advance(1.0)
        again = await flow.storage.checkpoint([row, Checkpoint(other.id, other.fence, entries(1))])
        now = await flow.subject.now()
        assert now > stored_at
        assert (again.accepted[turn.id].at, again.accepted[turn.id].now) == (stored_at, now)
        assert again.accepted[other.id].at == now
        assert [entry.at for entry in (await flow.history(turn.id)).entries] == [stored_at] * 2

    async def test_a_checkpoint_deletes_the_entries_that_its_own_stand_for(self, flow: WorkflowScene) -> None:
        turn, other, stale = await flow.begin_all(3)
        for each in (turn, other, stale):
            await flow.checkpoint(each, entries=entries(3))
        await flow.gone(stale)
        row = Checkpoint(turn.id, turn.fence, entries(1, first=4), superseded=(1, 3, 9))
        late = Checkpoint(stale.id, stale.fence, entries(1, first=4), superseded=(1,))
        for _ in range(2):
            await flow.storage.checkpoint([row, late, Checkpoint(other.id, other.fence, entries(1, first=4))])
            assert await flow.keys(turn.id) == ["charge#2", "charge#4"]
            assert await flow.keys(other.id) == ["charge#1", "charge#2", "charge#3", "charge#4"]
            assert await flow.keys(stale.id) == ["charge#1", "charge#2", "charge#3"]
        await flow.checkpoint(turn, entries=entries(1, first=5))
        assert await flow.keys(turn.id) == ["charge#2", "charge#4", "charge#5"]

    async def test_a_checkpoint_of_progress_forgives_the_deliveries_before_it(self, flow: WorkflowScene) -> None:
        await flow.begin(max_deliveries=3)
        await flow.subject.advance(LEASE)
        await flow.storage.recover(limit=9)
        turn = await flow.next_turn()
        assert (await flow.get(turn.id)).deliveries == 2
        await flow.checkpoint(turn, entries=entries(1))
        assert (await flow.get(turn.id)).deliveries == 2
        await flow.checkpoint(turn, entries=entries(1, first=2), is_progress=True)
        assert (await flow.get(turn.id)).deliveries == 1
        assert await flow.keys(turn.id) == ["charge#1", "charge#2"]

    # --- children --------------------------------------------------------------------------------------------

    async def test_checkpoint_inserts_and_counts_children(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        first = flow.make.children(turn, 3, task_name=CHILD)
        later = flow.make.child(turn, 3, task_name=CHILD, queue="later", delay=5.0)
        done = await flow.checkpoint(turn, children=(*first, later))
        assert (done.accepted[turn.id].active_children_count, done.ready_queues) == (4, frozenset({"default"}))
        record = await flow.get(turn.id)
        assert (record.status, record.children_count, record.active_children_count) == (Status.RUNNING, 4, 4)
        assert {child.id for child in await flow.claim(CHILD)} == {child.id for child in first}
        await flow.assert_sound()

    async def test_a_running_workflow_only_counts_the_ends_of_its_children(self, flow: WorkflowScene) -> None:
        turn, _ = await flow.spawned(2)
        settled = await flow.complete_all(await flow.claim(CHILD))
        record = await flow.get(turn.id)
        assert (record.status, record.fence, record.active_children_count) == (Status.RUNNING, turn.fence, 0)
        assert settled.ready_queues == frozenset()
        assert (await flow.checkpoint(turn)).accepted[turn.id].active_children_count == 0
        outcomes = await flow.storage.children([turn.id])
        assert [child.status for child in outcomes] == [Status.COMPLETED] * 2
        await flow.assert_sound()

    async def test_a_child_whose_sleeping_id_is_taken_leaves_everything_unwritten(self, flow: WorkflowScene) -> None:
        await flow.storage.enqueue([flow.make.sleeper("door", task_name="sleep")])
        turn, other = await flow.begin_all(2)
        child = flow.make.child(turn, kind=Kind.SLEEPING, sleeping_id="door", task_name="sleep")
        rows = [Checkpoint(turn.id, turn.fence, entries(1), children=(child,)),
                Checkpoint(other.id, other.fence, entries(1))]  # fmt: skip
        with pytest.raises(SleepingIdConflict):
            await flow.storage.checkpoint(rows)
        assert [await flow.keys(turn.id), await flow.keys(other.id)] == [[], []]
        assert (await flow.get(turn.id)).active_children_count == 0

    async def test_a_start_whose_sleeping_id_is_taken_leaves_everything_unwritten(self, flow: WorkflowScene) -> None:
        first = flow.make.sleeper("door", task_name="sleep")
        await flow.storage.enqueue([first])
        turn, other = await flow.begin_all(2)
        second = flow.make.sleeper("door", task_name="sleep")
        rows = [Checkpoint(turn.id, turn.fence, entries(1), starts=(second, flow.make.sleeper("gate"))),
                Checkpoint(other.id, other.fence, entries(1))]  # fmt: skip
        with pytest.raises(SleepingIdConflict, match=r"'sleep'.*'door'"):
            await flow.storage.checkpoint(rows)
        with pytest.raises(SleepingIdConflict):
            await flow.storage.settle([complete(turn, "1", Suspension(starts=(second,)))])
        assert [await flow.keys(turn.id), await flow.keys(other.id)] == [[], []]
        assert await flow.storage.get([second.id]) == [None]
        woken = await flow.storage.wake("sleep", "door", output='"open"', error=None)
        assert woken.execution_id == first.id

    async def test_a_start_that_an_earlier_try_has_stored_is_not_refused(self, flow: WorkflowScene) -> None:
        turn, sleeper = await flow.begin(), flow.make.sleeper("door")
        for _ in range(2):
            done = await flow.checkpoint(turn, starts=(sleeper,))
            assert set(done.accepted) == {turn.id}
        assert (await flow.get(sleeper.id)).status is Status.WAITING

    async def test_a_sleeping_start_meets_a_wake_up_that_was_kept_for_it(self, flow: WorkflowScene) -> None:
        await flow.storage.wake("sleep", "door", output='"open"', error=None)
        turn, sleeper = await flow.begin(), flow.make.sleeper("door", task_name="sleep")
        await flow.checkpoint(turn, starts=(sleeper,))
        record = await flow.get(sleeper.id)
        assert (record.status, record.output) == (Status.COMPLETED, '"open"')

    async def test_a_child_with_the_id_of_another_execution_leaves_everything_unwritten(
        self, flow: WorkflowScene
    ) -> None:
        taken, turn = await flow.enqueue(), await flow.begin()
        child = flow.make.child(turn, id=taken)
        with pytest.raises(DurableError):
            await flow.checkpoint(turn, entries=entries(1), children=(child,))
        assert await flow.keys(turn.id) == []

    async def test_a_sleeping_child_meets_a_wake_up_that_was_kept_for_it(self, flow: WorkflowScene) -> None:
        await flow.storage.wake("sleep", "door", output='"open"', error=None)
        turn = await flow.begin()
        child = flow.make.child(turn, kind=Kind.SLEEPING, sleeping_id="door", task_name="sleep")
        done = await flow.checkpoint(turn, children=(child,))
        record = await flow.get(child.id)
        assert (record.status, record.output) == (Status.COMPLETED, '"open"')
        assert done.accepted[turn.id].active_children_count == 0

    async def test_a_child_that_ends_and_a_checkpoint_of_its_parent_in_one_moment_both_count(
        self, flow: WorkflowScene
    ) -> None:
        turn, _ = await flow.spawned(1, kind=Kind.WORKFLOW, task_name="inner")
        inner = await flow.claim_one("inner")
        leaf = flow.make.child(inner, task_name=CHILD)
        second = flow.make.child(turn, 1, task_name=CHILD)
        rows = [
            Checkpoint(turn.id, turn.fence, entries(1, first=2), children=(second,)),
            Checkpoint(inner.id, inner.fence, entries(1), children=(leaf,)),
        ]
        done = await flow.storage.checkpoint(rows)
        assert {id_: each.active_children_count for id_, each in done.accepted.items()} == {turn.id: 2, inner.id: 1}
        await flow.assert_sound()

    # --- cancels ---------------------------------------------------------------------------------------------

    async def test_checkpoint_cancels_children_of_its_own(self, flow: WorkflowScene) -> None:
        turn, children = await flow.spawned(3)
        stranger = await flow.enqueue()
        running = await flow.claim_one(CHILD, limit=1)
        cancels = (*(child.id for child in children[:2]), stranger, flow.make.id(), turn.id)
        done = await flow.checkpoint(turn, entries=entries(1, first=2), cancels=cancels)
        assert done.accepted[turn.id].active_children_count == 1
        records = await flow.get_all([child.id for child in children])
        assert [record.status for record in records] == [Status.CANCELLED, Status.CANCELLED, Status.READY]
        assert {record.reason for record in records[:2]} == {"cancelled_by_parent"}
        assert await flow.pick_up() == [running.id]
        assert (await flow.status_of(stranger), await flow.status_of(turn.id)) == (Status.READY, Status.RUNNING)
        await flow.assert_sound()

    async def test_checkpoint_asks_child_workflows_that_have_run_to_end(self, flow: WorkflowScene) -> None:
        turn, (started, fresh) = await flow.spawned(2, kind=Kind.WORKFLOW, task_name="inner")
        inner = await flow.claim_one("inner", limit=1)
        assert inner.id == started.id
        await flow.suspend(inner)
        done = await flow.checkpoint(turn, cancels=(started.id, fresh.id))
        assert (done.ready_queues, done.accepted[turn.id].active_children_count) == (frozenset({"default"}), 1)
        assert [message.kind for message in (await flow.history(started.id)).messages] == [MessageKind.CANCEL]
        assert (await flow.status_of(started.id), await flow.status_of(fresh.id)) == (Status.READY, Status.CANCELLED)
        await flow.assert_sound()

    async def test_checkpoint_notes_the_children_it_cancelled(self, flow: WorkflowScene) -> None:
        turn, children = await flow.spawned(2)
        notes = Notes(flow)
        row = Checkpoint(turn.id, turn.fence, cancels=(children[0].id,))
        await flow.storage.checkpoint([row], note=notes)
        assert await notes.stored() == [(children[0].id, "cancelled")]

    async def test_a_cancelled_child_with_children_is_left_to_be_closed(self, flow: WorkflowScene) -> None:
        turn, (child,) = await flow.spawned(1, kind=Kind.PARENT)
        parent = await flow.claim_one(CHILD)
        leaf = flow.make.child(parent, task_name=TASK)
        await flow.storage.settle([release(parent)])
        parent = await flow.claim_one(CHILD)
        await flow.subject.handles[1].settle([
            complete(parent, "1")._replace(status=Status.WAITING_FOR_CHILDREN, output=None, attempts=0,
                                           phase=parent.phase.CHILDREN, children=(leaf,))])  # fmt: skip
        await flow.checkpoint(turn, cancels=(child.id,))
        assert (await flow.get(child.id)).close_status is CloseStatus.READY
        await flow.close_everything()
        assert await flow.status_of(leaf.id) is Status.CANCELLED
        await flow.assert_sound()

    # --- values, chunks, messages ----------------------------------------------------------------------------

    async def test_published_values_keep_the_last_of_each_key_and_count_versions(self, flow: WorkflowScene) -> None:
        turn, other = await flow.begin_all(2)
        await flow.checkpoint(turn, values=(("b", "1"), ("a", '"x"'), ("b", "2"), ("#c", "9")))
        await flow.checkpoint(other, values=(("b", "7"),))
        first = await flow.subject.now()
        await flow.subject.advance(1.0)
        await flow.checkpoint(turn, values=(("b", "3"),))
        second = await flow.subject.now()
        expected = [Published("a", '"x"', 1, first), Published("b", "3", 2, second)]
        assert await flow.storage.published_values(turn.id) == expected
        assert await flow.storage.published_values(turn.id, ["b", "c"]) == expected[1:]
        assert await flow.storage.published_values(turn.id, []) == []
        assert [each.value for each in await flow.storage.published_values(turn.id, ["#c"])] == ["9"]
        assert await flow.storage.published_values(flow.make.id()) == []

    async def test_chunks_are_numbered_in_their_order_over_checkpoints(self, flow: WorkflowScene) -> None:
        turn, other = await flow.begin_all(2)
        rows = [
            Checkpoint(turn.id, turn.fence, chunks=('"a"', '"b"')),
            Checkpoint(other.id, other.fence, chunks=("1",)),
        ]
        await flow.storage.checkpoint(rows)
        await flow.checkpoint(turn, chunks=('"c"',))
        now = await flow.subject.now()
        stored = [StoredChunk(number, payload, now) for number, payload in enumerate(('"a"', '"b"', '"c"'), 1)]
        assert await flow.storage.stored_chunks(turn.id, after=0, limit=99) == stored
        assert await flow.storage.stored_chunks(turn.id, after=1, limit=1) == stored[1:2]
        assert await flow.storage.stored_chunks(turn.id, after=3, limit=9) == []
        assert await flow.storage.stored_chunks(turn.id, after=0, limit=0) == []

    async def test_checkpoint_sends_messages_and_wakes_their_receivers(self, flow: WorkflowScene) -> None:
        receiver = await flow.suspended()
        turn = await flow.begin()
        done = await flow.checkpoint(
            turn, messages=(flow.message(receiver.id, "1"), flow.message(turn.id, "2"), flow.message(flow.make.id()))
        )
        assert (done.ready_queues, done.accepted[turn.id].message_count) == (frozenset({"default"}), 1)
        assert (await flow.payloads(receiver.id), await flow.payloads(turn.id)) == (["1"], ["2"])
        assert await flow.claimable() == [receiver.id]

    async def test_claims_give_the_counts_a_workflow_starts_its_turn_with(self, flow: WorkflowScene) -> None:
        turn, _ = await flow.spawned(3)
        await flow.send(turn.id)
        await flow.suspend(turn, seen_messages=0)
        again = await flow.next_turn()
        assert (turn.message_count, turn.active_children_count) == (0, 0)
        assert (again.message_count, again.active_children_count, again.children_count) == (1, 3, 3)
        assert again.task_name == WORKFLOW
