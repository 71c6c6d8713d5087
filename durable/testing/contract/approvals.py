"""Contract of approvals: opened once, decided once by somebody who may, and told to the workflow in the same moment."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from durable.approval_rows import (
    ApprovalFilter,
    ApprovalStatus,
    Decided,
    Decision,
    NewApproval,
    StoredApproval,
    Verdict,
    decision_message,
    message_name,
)
from durable.execution import Claimed, Status
from durable.testing.contract.workflows_scene import WORKFLOW, WorkflowCase, WorkflowScene, entries
from durable.transitions import complete
from durable.workflow_rows import SendOutcome

__all__ = ["ApprovalContract"]

ONE, TWO, THREE = "one", "two", "three"
GRANTED, REFUSED, PENDING = ApprovalStatus.GRANTED, ApprovalStatus.REFUSED, ApprovalStatus.PENDING


def new(flow: WorkflowScene, turn: Claimed, **fields: Any) -> NewApproval:
    id_ = flow.make.id()
    return NewApproval(id_, turn.id, f"0/refund#{id_}", "refund", f"hash-{id_}", None, None, None)._replace(**fields)


async def opened(flow: WorkflowScene, turn: Claimed, **fields: Any) -> StoredApproval:
    stored = await flow.storage.open_approval(new(flow, turn, **fields))
    assert stored is not None
    return stored


async def decide(flow: WorkflowScene, approval: StoredApproval, **fields: Any) -> Decided:
    decision = Decision(flow.make.id(), GRANTED, "alice", None)._replace(**fields)
    return await flow.storage.decide_approval(approval.id, decision)


class ApprovalContract(WorkflowCase):
    async def test_an_approval_is_stored_as_it_was_asked_for(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        asked = new(flow, turn, allowed=("alice", 'bo"b\\'), details='{"amount": 7}', expires_after=60.0)
        stored = await flow.storage.open_approval(asked)
        now = await flow.subject.now()
        expected = StoredApproval(
            asked.id, turn.id, WORKFLOW, "refund", PENDING, ("alice", 'bo"b\\'), '{"amount": 7}', now,
            now + timedelta(minutes=1), None, None, None, None,
        )  # fmt: skip
        assert stored == expected
        assert await flow.storage.get_approval(approval_id=asked.id) == expected
        assert await flow.storage.get_approval(token_hash=asked.token_hash) == expected
        for nobody in ({"approval_id": flow.make.id()}, {"token_hash": "another"}, {}):
            assert await flow.storage.get_approval(**nobody) is None

    async def test_without_its_workflow_nothing_is_stored(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        asked = new(flow, turn, execution_id=flow.make.id())
        assert await flow.storage.open_approval(asked) is None
        assert await flow.storage.list_approvals(ApprovalFilter(), limit=9) == []

    async def test_opened_again_it_is_the_same_with_another_token(self, flow: WorkflowScene) -> None:
        turn, other = await flow.begin_all(2)
        first = await opened(flow, turn, key="k", token_hash=ONE, expires_after=60.0)
        await flow.subject.advance(1.0)
        assert await opened(flow, turn, key="k", token_hash=TWO, expires_after=60.0, name="x") == first
        assert await flow.storage.get_approval(token_hash=ONE) is None
        assert await flow.storage.get_approval(token_hash=TWO) == first
        assert (await opened(flow, other, key="k", token_hash=THREE)).id != first.id

    async def test_a_decision_is_recorded_and_wakes_the_workflow(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        approval = await opened(flow, turn, allowed=("alice",))
        await flow.suspend(turn)
        await flow.subject.advance(1.0)
        decided = await decide(flow, approval, status=REFUSED, comment='"no"')
        now = await flow.subject.now()
        after = decided.approval
        assert after is not None
        assert (after.status, after.decided_by, after.comment, after.decided_at) == (REFUSED, "alice", '"no"', now)
        assert await flow.storage.get_approval(approval_id=approval.id) == after
        sent = decided.sent
        assert sent is not None
        assert (sent.outcome, sent.ready_queue, sent.is_running) == (SendOutcome.ACCEPTED, "default", False)
        assert await flow.status_of(turn.id) is Status.READY
        (message,) = (await flow.history(turn.id)).messages
        told = decision_message(after)
        assert (message.name, message.payload) == (message_name(approval.id), told.payload)

    async def test_a_running_workflow_is_marked(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        decided = await decide(flow, await opened(flow, turn))
        assert decided.sent is not None
        assert decided.sent.is_running
        assert await flow.pick_up() == [turn.id]

    async def test_the_second_decision_is_refused(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        approval = await opened(flow, turn)
        first = await decide(flow, approval, by="alice")
        again = await decide(flow, approval, by="bob", status=REFUSED)
        assert again == Decided(Verdict.CLOSED, first.approval, None)
        assert len(await flow.payloads(turn.id)) == 1

    async def test_the_same_decision_given_again_is_the_first(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        approval = await opened(flow, turn)
        decision = Decision(flow.make.id(), GRANTED, "alice", None)
        first = await flow.storage.decide_approval(approval.id, decision)
        again = await flow.storage.decide_approval(approval.id, decision)
        assert again == Decided(Verdict.DECIDED, first.approval, None)
        assert len(await flow.payloads(turn.id)) == 1

    async def test_many_who_decide_at_once_are_one(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        approval = await opened(flow, turn)
        names = [f"person {n}" for n in range(8)]
        done = await asyncio.gather(*(decide(flow, approval, by=name) for name in names))
        assert sorted(each.verdict for each in done) == [Verdict.CLOSED] * 7 + [Verdict.DECIDED]
        assert len(await flow.payloads(turn.id)) == 1

    async def test_only_who_is_allowed_decides(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        approval = await opened(flow, turn, allowed=("alice", "bob"))
        assert await decide(flow, approval, by="eve") == Decided(Verdict.NOT_ALLOWED, approval, None)
        assert (await decide(flow, approval, by="bob")).verdict is Verdict.DECIDED

    async def test_what_is_not_there_cannot_be_decided(self, flow: WorkflowScene) -> None:
        decision = Decision(flow.make.id(), GRANTED, "alice", None)
        id_ = flow.make.id()
        assert await flow.storage.decide_approval(id_, decision) == Decided(Verdict.NOT_FOUND, None, None)
        assert await flow.storage.expire_approval(id_) is None

    async def test_a_workflow_that_waits_no_longer_lets_nobody_decide(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        limited, endless = await opened(flow, turn, expires_after=60.0), await opened(flow, turn)
        await flow.subject.advance(1.0)
        for approval, at in ((limited, limited.expires_at), (endless, await flow.subject.now())):
            expired = approval._replace(status=ApprovalStatus.EXPIRED, decided_at=at)
            assert await flow.storage.expire_approval(approval.id) == expired
            assert await decide(flow, approval) == Decided(Verdict.CLOSED, expired, None)

    @pytest.mark.parametrize("is_marked", [True, False])
    async def test_after_its_time_nobody_decides(self, flow: WorkflowScene, is_marked: bool) -> None:
        turn = await flow.begin()
        approval = await opened(flow, turn, expires_after=60.0)
        await flow.subject.advance(60.0)
        if is_marked:
            marked = await flow.storage.expire_approval(approval.id)
            assert marked is not None
            now = await flow.subject.now()
            assert (marked.status, marked.decided_by, marked.decided_at) == (ApprovalStatus.EXPIRED, None, now)
        done = await decide(flow, approval)
        assert (done.verdict, done.approval and done.approval.status) == (Verdict.CLOSED, ApprovalStatus.EXPIRED)
        assert await flow.payloads(turn.id) == []

    async def test_a_decision_is_not_undone_by_time(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        approval = await opened(flow, turn, expires_after=60.0)
        decided = await decide(flow, approval)
        await flow.subject.advance(60.0)
        assert await flow.storage.expire_approval(approval.id) == decided.approval
        assert await flow.storage.get_approval(approval_id=approval.id) == decided.approval

    async def test_it_is_withdrawn_with_the_end_of_its_workflow(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        approval = await opened(flow, turn, expires_after=60.0)
        await flow.storage.settle([complete(turn, "1")])
        withdrawn = approval._replace(status=ApprovalStatus.WITHDRAWN)
        assert await decide(flow, approval) == Decided(Verdict.CLOSED, withdrawn, None)
        await flow.subject.advance(60.0)
        assert await flow.storage.get_approval(approval_id=approval.id) == withdrawn

    async def test_it_is_withdrawn_where_its_workflow_continues_as_new(self, flow: WorkflowScene) -> None:
        turn, other = await flow.begin_all(2)
        late, decided = await opened(flow, turn, expires_after=1.0), await opened(flow, turn)
        approval, kept = await opened(flow, turn, expires_after=60.0), await opened(flow, other)
        await decide(flow, decided)
        await flow.subject.advance(1.0)
        await flow.suspend(turn, entries=entries(1), continued='"next"')
        withdrawn = approval._replace(status=ApprovalStatus.WITHDRAWN)
        assert await flow.storage.get_approval(approval_id=approval.id) == withdrawn
        assert await decide(flow, approval) == Decided(Verdict.CLOSED, withdrawn, None)
        await flow.subject.advance(60.0)
        assert await flow.storage.expire_approval(approval.id) == withdrawn

        async def ids(status: ApprovalStatus) -> list[str]:
            return [row.id for row in await flow.storage.list_approvals(ApprovalFilter(status), limit=9, before=None)]

        assert await ids(ApprovalStatus.WITHDRAWN) == [approval.id]
        assert [await ids(each) for each in (PENDING, GRANTED)] == [[kept.id], [decided.id]]
        assert await ids(ApprovalStatus.EXPIRED) == [late.id]

    async def test_a_decision_joins_the_transaction_of_who_decides(self, flow: WorkflowScene) -> None:
        turn = await flow.suspended()
        approval = await opened(flow, turn)
        async with flow.subject.rolled_back() as connection:
            decision = Decision(flow.make.id(), GRANTED, "alice", None)
            done = await flow.storage.decide_approval(approval.id, decision).await_on(connection)
            assert done.verdict is Verdict.DECIDED
        stays = not flow.subject.has_transactions
        found = await flow.storage.get_approval(approval_id=approval.id)
        assert found is not None
        assert (found.status, len(await flow.payloads(turn.id))) == ((GRANTED, 1) if stays else (PENDING, 0))

    async def test_a_list_gives_pages_newest_first_by_status_and_workflow(self, flow: WorkflowScene) -> None:
        turn, other, ended = await flow.begin_all(3)
        pending = [await opened(flow, turn) for _ in range(3)]
        decided = await opened(flow, turn)
        await decide(flow, decided)
        late = await opened(flow, other, expires_after=1.0)
        withdrawn = await opened(flow, ended)
        await flow.storage.settle([complete(ended, "1")])
        await flow.subject.advance(1.0)

        async def ids(
            status: ApprovalStatus | None = None, task: str | None = None, limit: int = 9, before: str | None = None
        ) -> list[str]:
            rows = await flow.storage.list_approvals(ApprovalFilter(status, task), limit=limit, before=before)
            assert status is None or {row.status for row in rows} <= {status}
            return [row.id for row in rows]

        newest = [pending[2].id, pending[1].id, pending[0].id]
        assert await ids(PENDING) == newest
        assert await ids(PENDING, limit=2) == newest[:2]
        assert await ids(PENDING, before=newest[1]) == newest[2:]
        assert await ids(GRANTED) == [decided.id]
        assert await ids(ApprovalStatus.EXPIRED) == [late.id]
        assert await ids(ApprovalStatus.WITHDRAWN, WORKFLOW) == [withdrawn.id]
        assert await ids() == [withdrawn.id, late.id, decided.id, *newest]
        assert await ids(limit=2, before=late.id) == [decided.id, newest[0]]
        for nothing in (ids(task="other"), ids(PENDING, "other"), ids(limit=0)):
            assert await nothing == []

    async def test_it_is_deleted_with_its_workflow(self, flow: WorkflowScene) -> None:
        turn, kept = await flow.begin_all(2)
        await opened(flow, turn)
        stays = await opened(flow, kept)
        await flow.storage.settle([complete(turn, "1")])
        await flow.subject.advance(100.0)
        assert (await flow.storage.retire(older_than=50.0, limit=99)).deleted == 1
        assert await flow.storage.list_approvals(ApprovalFilter(), limit=9) == [stays]
