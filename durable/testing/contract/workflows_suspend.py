"""Contract of suspensions: a turn ends to wait, and the first thing it waits for starts the next one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from durable.execution import Claimed, CloseStatus, Kind, Status
from durable.testing.contract.scene import CHILD, ERROR, LEASE
from durable.testing.contract.workflows_scene import WORKFLOW, WorkflowCase, WorkflowScene, entries
from durable.transitions import cancelled, complete, fail, release, suspend
from durable.workflow_rows import GIVEN_ID, REMEMBERED_FOR, Checkpoint, MessageKind, SendOutcome, Suspension

__all__ = ["WorkflowSuspendContract"]


class WorkflowSuspendContract(WorkflowCase):
    # --- what a suspension leaves ----------------------------------------------------------------------------

    async def test_a_suspended_workflow_waits_and_holds_nothing(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        settled = await flow.suspend(turn, entries=entries(2))
        record = await flow.get(turn.id)
        assert (record.status, record.fence, record.settled_fence) == (Status.WAITING, turn.fence + 1, turn.fence)
        assert (record.attempts, record.deliveries, record.lease_expires_at) == (0, 0, None)
        assert (record.wake_at_children, settled.ready_queues) == (None, frozenset())
        assert await flow.keys(turn.id) == ["charge#1", "charge#2"]
        assert await flow.claimable() == []

    async def test_a_sleeping_workflow_is_ready_at_its_moment(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        await flow.suspend(turn, delay=30.0)
        record = await flow.get(turn.id)
        assert (record.status, record.attempts) == (Status.READY, 0)
        assert record.due_at == await flow.subject.now() + timedelta(seconds=30)
        await flow.subject.advance(29.9)
        assert await flow.claimable() == []
        await flow.subject.advance(0.1)
        again = await flow.next_turn()
        assert (again.id, again.attempts, again.iteration) == (turn.id, 1, 0)

    async def test_a_suspension_writes_all_that_a_checkpoint_writes(self, flow: WorkflowScene) -> None:
        other, turn = await flow.begin_all(2)
        first, second = flow.make.children(turn, 2, task_name=CHILD)
        await flow.checkpoint(turn, children=(first,))
        settled = await flow.suspend(
            turn, entries=entries(1), children=(second,), values=(("k", "1"),), chunks=("1",),
            messages=(flow.message(other.id),), cancels=(first.id,),
        )  # fmt: skip
        record = await flow.get(turn.id)
        assert (record.children_count, record.active_children_count) == (2, 1)
        assert settled.ready_queues == {"default"}
        assert await flow.status_of(first.id) is Status.CANCELLED
        assert await flow.keys(turn.id) == ["charge#1"]
        assert [each.value for each in await flow.storage.published_values(turn.id)] == ["1"]
        assert len(await flow.storage.stored_chunks(turn.id, after=0, limit=9)) == 1
        assert await flow.payloads(other.id) == ["1"]
        await flow.assert_sound()

    async def test_a_suspension_whose_fence_is_gone_changes_nothing(self, flow: WorkflowScene) -> None:
        turn, other = await flow.begin_all(2)
        await flow.gone(turn)
        before = await flow.everything()
        lost = Suspension(entries=entries(1), values=(("k", "1"),), messages=(flow.message(other.id),), delay=5.0)
        settled = await flow.storage.settle([suspend(turn, lost)])
        assert settled.accepted == frozenset()
        assert await flow.everything() == before
        assert await flow.keys(turn.id) == []
        assert await flow.storage.published_values(turn.id) == []

    @pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
    async def test_a_workflow_ends_with_its_last_entries(self, flow: WorkflowScene, end: str) -> None:
        turn = await flow.begin()
        writes = Suspension(entries=entries(1), values=(("k", "1"),), seen_messages=0, delay=9.0, wake_at_children=0)
        settlement = {
            "completed": complete(turn, '"done"', writes),
            "failed": fail(turn, ERROR, retry_delay=None, writes=writes),
            "cancelled": cancelled(turn, ERROR, "asked", writes),
        }[end]
        notice = flow.make.notice(subject=turn.id)
        settled = await flow.storage.settle([settlement._replace(notices=(notice,))])
        assert settled.accepted == {turn.id}
        record = await flow.get(turn.id)
        assert (record.status, record.close_status) == (Status(end), CloseStatus.CLOSED)
        assert (record.wake_at_children, record.finished_at) == (None, await flow.subject.now())
        assert await flow.keys(turn.id) == ["charge#1"]
        taken = await flow.storage.take_notices("subscriber", holder="a", limit=9, lease=LEASE)
        assert [each.id for each in taken.notices] == [notice.id]
        assert await flow.storage.settled([(turn.id, turn.fence)]) == {turn.id}

    async def test_a_failed_attempt_of_a_workflow_is_retried_with_what_it_had_done(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        await flow.storage.settle([fail(turn, ERROR, retry_delay=5.0, writes=Suspension(entries=entries(1)))])
        record = await flow.get(turn.id)
        assert (record.status, record.attempts) == (Status.READY, 1)
        await flow.subject.advance(5.0)
        again = await flow.next_turn()
        assert (again.attempts, await flow.keys(again.id)) == (2, ["charge#1"])

    async def test_a_released_workflow_is_ready_at_once(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        await flow.storage.settle([release(turn)])
        assert (await flow.next_turn()).attempts == 1

    async def test_turns_of_workflows_and_of_others_end_in_one_call(self, flow: WorkflowScene) -> None:
        waiting, done = await flow.begin_all(2)
        plain, lost = await flow.turns(2)
        await flow.gone(lost)
        settled = await flow.storage.settle(
            [complete(plain, "1"), suspend(waiting, Suspension()), complete(lost, "1"), complete(done, "2")]
        )
        assert settled.accepted == {plain.id, waiting.id, done.id}
        statuses = [await flow.status_of(turn.id) for turn in (waiting, done, plain, lost)]
        assert statuses == [Status.WAITING, Status.COMPLETED, Status.COMPLETED, Status.READY]

    # --- messages --------------------------------------------------------------------------------------------

    async def test_a_message_that_the_turn_has_not_seen_starts_the_next_at_once(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        await flow.send(turn.id)
        settled = await flow.suspend(turn, seen_messages=0, delay=99.0)
        assert settled.ready_queues == {"default"}
        record = await flow.get(turn.id)
        assert (record.status, record.due_at, record.needs_cancel) == (Status.READY, await flow.subject.now(), False)
        again = await flow.next_turn()
        await flow.suspend(again, seen_messages=again.message_count)
        assert await flow.status_of(turn.id) is Status.WAITING

    async def test_a_workflow_that_a_message_has_woken_waits_for_children_no_more(self, flow: WorkflowScene) -> None:
        turn, _ = await flow.spawned(1)
        await flow.suspend(turn, wake_at_children=0)
        await flow.send(turn.id)
        record = await flow.get(turn.id)
        assert (record.status, record.wake_at_children) == (Status.READY, None)
        await flow.subject.advance(1.0)
        await flow.complete_all(await flow.claim(CHILD))
        assert (await flow.get(turn.id)).due_at == record.due_at

    async def test_a_message_from_the_same_call_is_seen_by_the_suspension(self, flow: WorkflowScene) -> None:
        sender, receiver = await flow.begin_all(2)
        ends = [
            suspend(receiver, Suspension()),
            suspend(sender, Suspension(messages=(flow.message(receiver.id),))),
        ]
        await flow.storage.settle(ends)
        assert (await flow.status_of(receiver.id), await flow.status_of(sender.id)) == (Status.READY, Status.WAITING)

    # --- children --------------------------------------------------------------------------------------------

    async def test_a_workflow_goes_on_when_few_enough_of_its_children_are_active(self, flow: WorkflowScene) -> None:
        turn, _ = await flow.spawned(3)
        await flow.suspend(turn, wake_at_children=1)
        assert (await flow.get(turn.id)).wake_at_children == 1
        children = await flow.claim(CHILD)
        assert (await flow.complete_all(children[:1])).ready_queues == frozenset()
        assert await flow.status_of(turn.id) is Status.WAITING
        await flow.subject.advance(1.0)
        assert (await flow.complete_all(children[1:2])).ready_queues == {"default"}
        record = await flow.get(turn.id)
        assert (record.status, record.wake_at_children, record.active_children_count) == (Status.READY, None, 1)
        assert record.due_at == await flow.subject.now()
        again = await flow.next_turn()
        await flow.complete_all(children[2:])
        assert (await flow.get(again.id)).status is Status.RUNNING
        await flow.assert_sound()

    @pytest.mark.parametrize("kind", [Kind.TASK, Kind.WORKFLOW])
    async def test_a_child_that_fails_wakes_a_workflow_that_waits_for_all(
        self, flow: WorkflowScene, kind: Kind
    ) -> None:
        """Those that completed only count; and one failure wakes it once."""
        turn, _ = await flow.spawned(4, kind=kind)
        await flow.suspend(turn, wake_at_children=0)
        children = await flow.claim(CHILD)
        assert (await flow.complete_all(children[:1])).ready_queues == frozenset()
        settled = await flow.storage.settle([fail(children[1], ERROR, retry_delay=None)])
        assert settled.ready_queues == {"default"}
        record = await flow.get(turn.id)
        assert (record.status, record.wake_at_children, record.active_children_count) == (Status.READY, None, 2)
        assert await flow.is_due(record)
        again = await flow.next_turn()
        await flow.suspend(again, wake_at_children=0, seen_messages=again.message_count)
        assert await flow.status_of(turn.id) is Status.WAITING
        await flow.complete_all(children[2:])
        assert await flow.status_of(turn.id) is Status.READY
        await flow.assert_sound()

    @pytest.mark.parametrize("is_together", [True, False])
    async def test_a_child_that_fails_during_a_turn_lets_it_not_suspend(
        self, flow: WorkflowScene, is_together: bool
    ) -> None:
        turn, _ = await flow.spawned(2, kind=Kind.WORKFLOW if is_together else Kind.TASK)
        failed = fail((await flow.claim(CHILD))[0], ERROR, retry_delay=None)
        suspension = suspend(turn, Suspension(wake_at_children=0, seen_messages=turn.message_count))
        if is_together:
            await flow.storage.settle([failed, suspension])
        else:
            await flow.storage.settle([failed])
            await flow.storage.settle([suspension])
        record = await flow.get(turn.id)
        assert (record.status, record.active_children_count) == (Status.READY, 1)
        assert await flow.is_due(record)
        await flow.assert_sound()

    async def test_a_child_that_its_workflow_has_cancelled_does_not_wake_it(self, flow: WorkflowScene) -> None:
        turn, children = await flow.spawned(2)
        await flow.checkpoint(turn, cancels=(children[0].id,))
        await flow.suspend(turn, wake_at_children=0, seen_messages=turn.message_count)
        assert await flow.status_of(turn.id) is Status.WAITING
        await flow.assert_sound()

    async def test_a_workflow_that_waits_for_no_children_is_left_alone_by_them(self, flow: WorkflowScene) -> None:
        turn, _ = await flow.spawned(2)
        await flow.suspend(turn)
        await flow.complete_all(await flow.claim(CHILD))
        record = await flow.get(turn.id)
        assert (record.status, record.active_children_count) == (Status.WAITING, 0)
        await flow.assert_sound()

    async def test_a_sleeping_workflow_is_woken_before_its_moment_by_its_children(self, flow: WorkflowScene) -> None:
        turn, _ = await flow.spawned(1)
        await flow.suspend(turn, wake_at_children=0, delay=60.0)
        await flow.complete_all(await flow.claim(CHILD))
        assert await flow.claimable() == [turn.id]

    async def test_children_that_have_ended_before_start_the_next_turn_at_once(self, flow: WorkflowScene) -> None:
        turn, _ = await flow.spawned(2)
        await flow.complete_all(await flow.claim(CHILD))
        settled = await flow.suspend(turn, wake_at_children=0, delay=60.0)
        assert settled.ready_queues == {"default"}
        record = await flow.get(turn.id)
        assert (record.status, record.wake_at_children) == (Status.READY, None)
        assert await flow.is_due(record)

    @pytest.mark.parametrize("kind", [Kind.TASK, Kind.WORKFLOW])
    @pytest.mark.parametrize("is_first", [True, False])
    async def test_a_child_s_end_and_its_parent_s_suspension_in_one_call_both_count(
        self, flow: WorkflowScene, kind: Kind, is_first: bool
    ) -> None:
        turn, _ = await flow.spawned(2, kind=kind)
        ends = [complete(child, "1") for child in await flow.claim(CHILD)]
        suspension = suspend(turn, Suspension(wake_at_children=0))
        settled = await flow.storage.settle([*ends, suspension] if is_first else [suspension, *ends])
        assert len(settled.accepted) == 3
        record = await flow.get(turn.id)
        assert (record.status, record.active_children_count, record.wake_at_children) == (Status.READY, 0, None)
        assert "default" in settled.ready_queues
        await flow.assert_sound()

    @pytest.mark.parametrize("kind", [Kind.TASK, Kind.WORKFLOW])
    async def test_children_that_end_with_their_parent_leave_nothing_to_be_closed(
        self, flow: WorkflowScene, kind: Kind
    ) -> None:
        turn, _ = await flow.spawned(2, kind=kind)
        children = await flow.claim(CHILD)
        await flow.storage.settle([complete(turn, "1"), *(complete(child, "1") for child in children)])
        record = await flow.get(turn.id)
        assert (record.status, record.active_children_count) == (Status.COMPLETED, 0)
        assert record.close_status is CloseStatus.CLOSED
        await flow.assert_sound()

    async def test_three_generations_that_end_in_one_call_all_count(self, flow: WorkflowScene) -> None:
        top, _ = await flow.spawned(1, kind=Kind.WORKFLOW)
        middle = await flow.claim_one(CHILD)
        await flow.checkpoint(middle, children=(flow.make.child(middle, kind=Kind.WORKFLOW, task_name="leaf"),))
        leaf = await flow.claim_one("leaf")
        ends = [complete(turn, "1") for turn in (top, middle, leaf)]
        assert len((await flow.storage.settle(ends)).accepted) == 3
        records = await flow.get_all([top.id, middle.id, leaf.id])
        assert {(record.status, record.close_status) for record in records} == {(Status.COMPLETED, CloseStatus.CLOSED)}
        await flow.assert_sound()

    async def test_a_workflow_that_ends_takes_its_children_along(self, flow: WorkflowScene) -> None:
        turn, children = await flow.spawned(2)
        await flow.storage.settle([complete(turn, "1")])
        assert (await flow.get(turn.id)).close_status is CloseStatus.READY
        await flow.close_everything()
        assert {record.status for record in await flow.get_all([child.id for child in children])} == {Status.CANCELLED}
        await flow.assert_sound()

    async def _ended(self, flow: WorkflowScene, way: str, child: Claimed) -> None:
        match way:
            case "cancelled":
                await flow.storage.cancel([child.id], reason="no")
            case "poisoned":
                await flow.subject.advance(LEASE)
                await flow.storage.recover(limit=9)
            case "requested":
                await flow.storage.cancel([child.id], reason="no", may_finish=True)
                await flow.storage.settle([release(child)])
            case _:
                raise ValueError(way)

    @pytest.mark.parametrize("way", ["cancelled", "poisoned", "requested"])
    async def test_a_child_wakes_its_parent_however_it_ends(self, flow: WorkflowScene, way: str) -> None:
        turn, _ = await flow.spawned(1, max_deliveries=1)
        await flow.suspend(turn, wake_at_children=0)
        await self._ended(flow, way, await flow.claim_one(CHILD))
        assert await flow.claimable() == [turn.id]
        await flow.assert_sound()

    @pytest.mark.parametrize("way", ["woken", "expired"])
    async def test_a_sleeping_child_wakes_its_parent_however_it_ends(self, flow: WorkflowScene, way: str) -> None:
        turn, _ = await flow.spawned(1, kind=Kind.SLEEPING, sleeping_id="door", timeout=3.0)
        await flow.suspend(turn, wake_at_children=0)
        await flow.subject.advance(3.0)
        if way == "woken":
            await flow.storage.wake(CHILD, "door", output="1", error=None)
        else:
            await flow.storage.expire_waits(limit=9)
        assert await flow.claimable() == [turn.id]

    async def test_a_parent_and_a_child_that_is_poisoned_are_both_recovered(self, flow: WorkflowScene) -> None:
        turn, (child,) = await flow.spawned(1, max_deliveries=1)
        await flow.claim(CHILD)
        await flow.subject.advance(LEASE)
        taken = [each.id for each in await flow.storage.recover(limit=9)]
        taken += [each.id for each in await flow.storage.recover(limit=9)]
        assert sorted(taken) == sorted([turn.id, child.id])
        record = await flow.get(turn.id)
        assert (record.status, record.active_children_count) == (Status.READY, 0)
        await flow.assert_sound()

    async def test_a_finished_child_does_not_wake_a_workflow_that_was_cancelled(self, flow: WorkflowScene) -> None:
        turn, _ = await flow.spawned(1)
        await flow.suspend(turn, wake_at_children=0)
        await flow.storage.cancel([turn.id], reason="no", force=True)
        await flow.complete_all(await flow.claim(CHILD))
        assert await flow.status_of(turn.id) is Status.CANCELLED
        await flow.close_everything()
        await flow.assert_sound()

    async def test_the_doctor_lets_a_workflow_go_on_whose_children_have_ended(self, flow: WorkflowScene) -> None:
        turn, (child,) = await flow.spawned(1)
        await flow.suspend(turn, wake_at_children=0)
        await flow.complete_all(await flow.claim(CHILD))
        await flow.subject.tamper(turn.id, status=Status.WAITING, wake_at_children=0)
        defects = await flow.storage.defects(limit=9)
        assert [(each.id, each.kind, each.is_mendable) for each in defects] == [(turn.id, "stranded", True)]
        assert await flow.storage.mend([turn.id, child.id]) == defects
        assert await flow.claimable() == [turn.id]
        assert (await flow.get(turn.id)).wake_at_children is None

    # --- continue as new -------------------------------------------------------------------------------------

    async def test_a_workflow_that_continues_as_new_forgets_its_history(self, flow: WorkflowScene) -> None:
        turn = await flow.begin(input='"first"')
        for number in (1, 2, 3):
            await flow.send(turn.id, str(number))
        await flow.checkpoint(turn, entries=entries(2), values=(("k", "1"),), chunks=("1",))
        settled = await flow.suspend(turn, entries=entries(1, first=3), seen_messages=2, continued='"next"')
        assert settled.ready_queues == {"default"}
        again = await flow.next_turn()
        assert (again.iteration, again.input, again.run_output) == (1, '"first"', '"next"')
        assert (again.attempts, again.message_count) == (1, 3)
        history = await flow.history(turn.id)
        assert (history.entries, [message.number for message in history.messages]) == ([], [3])
        assert [each.value for each in await flow.storage.published_values(turn.id)] == ["1"]
        await flow.storage.checkpoint([Checkpoint(again.id, again.fence, entries(1))])
        assert await flow.keys(turn.id) == ["charge#1"]
        assert (await flow.send(turn.id)).number == 4

    async def test_a_workflow_that_continues_as_new_remembers_the_ids_of_what_it_has_met(
        self, flow: WorkflowScene
    ) -> None:
        turn = await flow.begin()
        ids = [f"{GIVEN_ID}a", "call:b", None, f"{GIVEN_ID}c"]
        for message_id in ids:
            await flow.send(turn.id, "1", message_id=message_id)
        await flow.send(turn.id, "1", message_id="stop", kind=MessageKind.CANCEL)

        async def again(message_id: str) -> tuple[SendOutcome, int | None]:
            sent = await flow.send(turn.id, "2", message_id=message_id)
            return sent.outcome, sent.number

        async def go_on(after: float, seen: int, *kept: int) -> None:
            await flow.subject.advance(after)
            await flow.suspend(
                turns[-1], seen_messages=seen, kept_messages=kept, entries=entries(1), continued='"next"'
            )
            turns.append(await flow.next_turn())

        turns = [turn]
        await go_on(60.0, 5, 4)
        assert [(each.number, each.payload) for each in (await flow.history(turn.id)).messages] == [(4, "1")]
        duplicate, accepted = SendOutcome.DUPLICATE, SendOutcome.ACCEPTED
        assert [await again(f"{GIVEN_ID}a"), await again("call:b")] == [(duplicate, 1), (duplicate, 2)]
        assert await again("stop") == (accepted, 6)
        await go_on(1.0, 6)
        assert await again(f"{GIVEN_ID}c") == (duplicate, 4)
        await go_on(REMEMBERED_FOR.total_seconds(), 6)
        assert [await again(f"{GIVEN_ID}{each}") for each in "ac"] == [(duplicate, 1), (duplicate, 4)]
        assert await again("call:b") == (accepted, 7)
        await go_on(REMEMBERED_FOR.total_seconds(), 7)
        assert await again("call:b") == (accepted, 8)
        assert await flow.payloads(turn.id) == ["2"]

    async def test_workflows_that_continue_leave_the_histories_of_others(self, flow: WorkflowScene) -> None:
        turn, other = await flow.begin_all(2)
        await flow.send(other.id)
        writes = [Suspension(entries=entries(1), continued="1"), Suspension(entries=entries(1), seen_messages=1)]
        await flow.storage.settle([suspend(turn, writes[0]), suspend(other, writes[1])])
        assert (await flow.keys(turn.id), await flow.keys(other.id)) == ([], ["charge#1"])
        assert await flow.payloads(other.id) == ["1"]
        assert [turn.id] == [each.id for each in await flow.claim(WORKFLOW)]
