"""Contract of cancelling, closing and retiring workflows: what has run is asked, and ends by itself."""

from __future__ import annotations

import json

import pytest

from durable.execution import CancelResult, CloseStatus, Kind, Status
from durable.testing.contract.scene import CHILD, ERROR, LEASE
from durable.testing.contract.workflows_scene import WORKFLOW, WorkflowCase, WorkflowScene, entries
from durable.transitions import cancelled, complete, fail
from durable.workflow_rows import MessageKind, Suspension

__all__ = ["WorkflowCancelContract"]


class WorkflowCancelContract(WorkflowCase):
    # --- cancel ----------------------------------------------------------------------------------------------

    async def test_cancel_asks_a_suspended_workflow_and_wakes_it(self, flow: WorkflowScene) -> None:
        turn = await flow.suspended(delay=60.0)
        results = await flow.storage.cancel([turn.id], reason='ä "no"')
        assert results == [CancelResult(turn.id, Status.READY, False, is_requested=True)]
        assert results[0].outcome == "requested"
        (message,) = (await flow.history(turn.id)).messages
        assert (message.kind, json.loads(message.payload)) == (MessageKind.CANCEL, {"reason": 'ä "no"'})
        again = await flow.next_turn()
        assert (again.id, again.message_count) == (turn.id, 1)

    @pytest.mark.parametrize("may_finish", [False, True])
    async def test_cancel_asks_a_running_workflow_which_then_ends_by_itself(
        self, flow: WorkflowScene, may_finish: bool
    ) -> None:
        turn = await flow.begin()
        (result,) = await flow.storage.cancel([turn.id], reason="no", may_finish=may_finish)
        assert (result.status_before, result.outcome) == (Status.RUNNING, "requested")
        assert await flow.pick_up() == [turn.id]
        assert (await flow.checkpoint(turn)).accepted[turn.id].message_count == 1
        settled = await flow.storage.settle([cancelled(turn, ERROR, "no", Suspension(entries=entries(1)))])
        assert settled.accepted == {turn.id}
        record = await flow.get(turn.id)
        assert (record.status, record.reason, record.error) == (Status.CANCELLED, "no", ERROR)

    async def test_a_second_request_is_told_so_and_wakes_nobody(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        await flow.storage.cancel([turn.id], reason="no")
        await flow.suspend(turn, seen_messages=1)
        (result,) = await flow.storage.cancel([turn.id], reason="again")
        assert result == CancelResult(turn.id, Status.WAITING, False)
        assert result.outcome == "already_requested"
        assert (await flow.status_of(turn.id), len(await flow.payloads(turn.id))) == (Status.WAITING, 1)

    async def test_a_request_that_is_made_again_by_the_same_call_is_the_first(self, flow: WorkflowScene) -> None:
        turn, other = await flow.begin_all(2)

        async def outcomes(request_id: str | None) -> list[str]:
            results = await flow.storage.cancel([turn.id, other.id], reason="no", request_id=request_id)
            return [result.outcome for result in results]

        await flow.storage.cancel([other.id], reason="no", request_id="other")
        assert await outcomes("a") == ["requested", "already_requested"]
        assert await outcomes("a") == ["requested", "already_requested"]
        assert await outcomes("b") == await outcomes(None) == ["already_requested", "already_requested"]
        assert len(await flow.payloads(turn.id)) == 1

    async def test_a_workflow_that_continued_as_new_can_be_asked_again(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        await flow.storage.cancel([turn.id], reason="no")
        await flow.suspend(turn, seen_messages=1, continued="1")
        (result,) = await flow.storage.cancel([turn.id], reason="again")
        assert result.is_requested

    async def test_a_request_cuts_the_wait_between_attempts_short(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        await flow.storage.settle([fail(turn, ERROR, retry_delay=60.0)])
        await flow.storage.cancel([turn.id], reason="no")
        assert await flow.claimable() == [turn.id]

    async def test_a_workflow_that_has_never_run_is_cancelled_at_once(self, flow: WorkflowScene) -> None:
        id_ = await flow.enqueue(task_name=WORKFLOW, kind=Kind.WORKFLOW)
        (result,) = await flow.storage.cancel([id_], reason="no")
        assert (result.is_cancelled, await flow.status_of(id_)) == (True, Status.CANCELLED)
        assert await flow.payloads(id_) == []

    async def test_with_force_a_workflow_is_cancelled_at_once(self, flow: WorkflowScene) -> None:
        running, waiting = await flow.begin_all(2)
        await flow.suspend(waiting)
        results = await flow.storage.cancel([running.id, waiting.id], reason="no", force=True)
        assert [result.is_cancelled for result in results] == [True, True]
        assert await flow.pick_up() == [running.id]
        assert {record.status for record in await flow.get_all([running.id, waiting.id])} == {Status.CANCELLED}
        assert await flow.payloads(waiting.id) == []

    async def test_a_workflow_and_its_children_can_be_cancelled_in_one_call(self, flow: WorkflowScene) -> None:
        turn, children = await flow.spawned(2)
        await flow.suspend(turn, wake_at_children=0)
        results = await flow.storage.cancel([turn.id, *(child.id for child in children)], reason="no")
        assert [(result.is_cancelled, result.is_requested) for result in results] == [
            (False, True), (True, False), (True, False),
        ]  # fmt: skip
        record = await flow.get(turn.id)
        assert (record.status, record.active_children_count) == (Status.READY, 0)
        await flow.assert_sound()

    async def test_cancel_all_asks_each_workflow_once(self, flow: WorkflowScene) -> None:
        started = [turn.id for turn in await flow.begin_all(3)]
        fresh = await flow.enqueue(task_name=WORKFLOW, kind=Kind.WORKFLOW)
        await flow.subject.advance(1.0)
        before = await flow.subject.now()
        named = await flow.storage.cancel_all(before=before, limit=99, reason="no")
        assert sorted(result.id for result in named) == sorted([*started, fresh])
        assert sum(result.is_requested for result in named) == 3
        assert await flow.storage.cancel_all(before=before, limit=99, reason="no") == []
        forced = await flow.storage.cancel_all(before=before, limit=99, reason="no", force=True)
        assert sorted(result.id for result in forced if result.is_cancelled) == sorted(started)

    async def test_redrive_refuses_workflows(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        await flow.storage.settle([fail(turn, ERROR, retry_delay=None)])
        assert await flow.storage.redrive([turn.id]) == []
        assert await flow.status_of(turn.id) is Status.FAILED

    # --- close -----------------------------------------------------------------------------------------------

    async def test_a_tree_is_closed_when_the_workflows_in_it_have_ended(self, flow: WorkflowScene) -> None:
        turn, children = await flow.spawned(3, kind=Kind.WORKFLOW, task_name="inner")
        first, second = await flow.claim("inner", limit=2)
        await flow.suspend(second)
        await flow.storage.settle([complete(turn, "1")])
        ids = await flow.storage.claim_closes(limit=9, lease=LEASE)
        results = await flow.storage.close_trees(ids, reason="parent_ended")
        fresh = next(child.id for child in children if child.id not in (first.id, second.id))
        assert sorted(results) == sorted([
            CancelResult(first.id, Status.RUNNING, False, is_requested=True),
            CancelResult(second.id, Status.WAITING, False, is_requested=True),
            CancelResult(fresh, Status.READY, True),
        ])  # fmt: skip
        assert await flow.pick_up() == [first.id]
        record = await flow.get(turn.id)
        assert (record.close_status, record.active_children_count) == (CloseStatus.CLOSING, 2)
        again = await flow.claim_one("inner")
        await flow.storage.settle([cancelled(first, ERROR, "no"), cancelled(again, ERROR, "no")])
        record = await flow.get(turn.id)
        assert (record.close_status, record.active_children_count) == (CloseStatus.CLOSED, 0)
        await flow.assert_sound()

    async def test_nobody_looks_at_a_closing_that_waits_for_workflows(self, flow: WorkflowScene) -> None:
        turn, _ = await flow.spawned(1, kind=Kind.WORKFLOW)
        child = await flow.claim_one(CHILD)
        await flow.storage.settle([complete(turn, "1")])
        ids = await flow.storage.claim_closes(limit=9, lease=LEASE)
        await flow.storage.close_trees(ids, reason="parent_ended")
        assert await flow.storage.close_trees(ids, reason="parent_ended") == []
        assert (await flow.get(turn.id)).close_lease_expires_at is None
        await flow.subject.advance(LEASE)
        await flow.storage.renew([(child.id, child.fence)], lease=LEASE)
        assert not any(await flow.storage.duties())
        assert await flow.storage.recover_closes(limit=9) == 0
        assert len(await flow.payloads(child.id)) == 1

    async def test_a_closing_whose_executor_died_before_it_asked_is_done_again(self, flow: WorkflowScene) -> None:
        turn, _ = await flow.spawned(1, kind=Kind.WORKFLOW)
        child = await flow.claim_one(CHILD)
        await flow.storage.settle([complete(turn, "1")])
        await flow.storage.claim_closes(limit=9, lease=LEASE)
        await flow.subject.advance(LEASE)
        assert await flow.storage.recover_closes(limit=9) == 1
        await flow.close_everything()
        assert len(await flow.payloads(child.id)) == 1

    # --- retire ----------------------------------------------------------------------------------------------

    async def test_retire_deletes_all_that_a_workflow_kept(self, flow: WorkflowScene) -> None:
        kept, gone = await flow.begin_all(2)
        for turn in (kept, gone):
            await flow.send(turn.id)
            await flow.checkpoint(turn, entries=entries(2), values=(("k", "1"),), chunks=("1",))
        child = flow.make.child(gone, kind=Kind.WORKFLOW, task_name=CHILD)
        await flow.checkpoint(gone, children=(child,))
        inner = await flow.claim_one(CHILD)
        await flow.storage.settle([complete(inner, "1", Suspension(entries=entries(1))), complete(gone, "1")])
        await flow.subject.advance(100.0)
        assert (await flow.storage.retire(older_than=50.0, limit=100)).deleted == 2
        for id_ in (gone.id, child.id):
            found = await flow.history(id_)
            assert (found.entries, found.messages) == ([], [])
            assert await flow.storage.published_values(id_) == []
            assert await flow.storage.stored_chunks(id_, after=0, limit=9) == []
        found = await flow.history(kept.id)
        assert (len(found.entries), len(found.messages)) == (2, 1)
        assert len(await flow.storage.published_values(kept.id)) == 1
        assert len(await flow.storage.stored_chunks(kept.id, after=0, limit=9)) == 1
