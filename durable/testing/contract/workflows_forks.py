"""Contract of forks: a new workflow with a part of another's history, and with what had been said and asked by then."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from durable.approval_rows import ApprovalFilter, NewApproval
from durable.errors import IdempotencyConflict
from durable.execution import Kind, NewExecution
from durable.fork_rows import Fork, Replaced
from durable.testing.contract.scene import CHILD
from durable.testing.contract.workflows_scene import WORKFLOW, WorkflowCase, WorkflowScene, entries
from durable.transitions import complete
from durable.workflow_rows import History, NewEntry, Suspension

__all__ = ["WorkflowForksContract"]


def _told(seq: int, pieces: int) -> NewEntry:
    return NewEntry(seq, "said", "0", None, None, json.dumps({"pieces": pieces}))


def _begun(at: datetime) -> NewEntry:
    return NewEntry(1, "code", "x", None, None, json.dumps({"at": at.isoformat()}))


async def _forked(flow: WorkflowScene, source_id: str, fork: Fork = Fork()) -> NewExecution:  # noqa: B008 - no state
    new = flow.make.row(task_name=CHILD, kind=Kind.WORKFLOW)
    assert await flow.storage.fork_workflow(source_id, fork=fork, new=new)
    return new


class WorkflowForksContract(WorkflowCase):
    @pytest.mark.parametrize(("before_seq", "copied"), [(None, 3), (3, 2), (1, 0)])
    async def test_a_fork_begins_with_the_history_of_its_source(
        self, flow: WorkflowScene, before_seq: int | None, copied: int
    ) -> None:
        turn = await flow.begin()
        await flow.send(turn.id)
        await flow.storage.settle([complete(turn, "1", Suspension(entries=entries(3)))])
        source = await flow.history(turn.id)
        await flow.subject.advance(1.0)
        new = flow.make.row(task_name=WORKFLOW, kind=Kind.WORKFLOW, input='"again"')
        assert await flow.storage.fork_workflow(turn.id, fork=Fork(before_seq), new=new)
        again = await flow.next_turn()
        assert (again.id, again.input, again.message_count) == (new.id, '"again"', 0)
        assert await flow.history(new.id) == History(new.id, source.entries[:copied], [])
        assert (await flow.history(turn.id)).entries == source.entries

    async def test_a_fork_of_nothing_or_of_no_workflow_stores_nothing(self, flow: WorkflowScene) -> None:
        task = await flow.enqueue()
        for source in (flow.make.id(), task):
            new = flow.make.row(task_name=WORKFLOW, kind=Kind.WORKFLOW)
            assert not await flow.storage.fork_workflow(source, fork=Fork(), new=new)
            assert await flow.storage.existing([new.id]) == frozenset()

    async def test_a_fork_given_again_is_left_as_it_is(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        await flow.checkpoint(turn, entries=entries(1))
        new = flow.make.row(task_name=CHILD, kind=Kind.WORKFLOW)
        assert await flow.storage.fork_workflow(turn.id, fork=Fork(), new=new)
        await flow.checkpoint(turn, entries=entries(1, first=2))
        assert await flow.storage.fork_workflow(turn.id, fork=Fork(), new=new)
        assert await flow.keys(new.id) == ["charge#1"]

    async def test_a_fork_whose_key_is_taken_is_a_conflict(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        await flow.enqueue(idempotency_key="k", task_name=CHILD)
        new = flow.make.row(task_name=CHILD, kind=Kind.WORKFLOW, idempotency_key="k")
        with pytest.raises(IdempotencyConflict):
            await flow.storage.fork_workflow(turn.id, fork=Fork(), new=new)
        assert await flow.storage.existing([new.id]) == frozenset()

    async def test_a_fork_goes_on_in_the_iteration_of_its_source(self, flow: WorkflowScene) -> None:
        first = await flow.begin(input='"begun"')
        await flow.suspend(first, continued='"continued"')
        turn = await flow.next_turn()
        await flow.storage.settle([complete(turn, "1", Suspension(entries=entries(1)))])
        new = flow.make.row(task_name=WORKFLOW, kind=Kind.WORKFLOW, input='"begun"')
        assert await flow.storage.fork_workflow(turn.id, fork=Fork(), new=new)
        again = await flow.next_turn()
        assert (again.id, again.input, again.run_output) == (new.id, '"begun"', '"continued"')
        assert (again.iteration, again.fence) == (1, 2)

    async def test_a_fork_has_the_messages_that_its_history_names(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        for payload in ('"first"', '"second"'):
            await flow.send(turn.id, payload)
        met = NewEntry(1, "signal", "signal:approved#1", None, None, '{"number": 2}')
        other = NewEntry(2, "slept", "sleep#1", None, None, '{"at": "then"}')
        await flow.checkpoint(turn, entries=(met, other))
        ids = [turn.id]
        for _ in range(2):
            new = flow.make.row(task_name=CHILD, kind=Kind.WORKFLOW)
            assert await flow.storage.fork_workflow(ids[-1], fork=Fork(), new=new)
            ids.append(new.id)
        for id_ in ids[1:]:
            history = await flow.history(id_)
            assert [entry.output for entry in history.entries] == ['"second"', None]
            assert history.messages == []

    async def test_a_fork_leaves_entries_out_and_has_others_changed(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        await flow.checkpoint(turn, entries=entries(4))
        before = (await flow.history(turn.id)).entries
        fork = Fork(4, replaced=(Replaced(3, '"an\\"other"', '{"copied": 3}'),), left_out=(2,))
        new = await _forked(flow, turn.id, fork)
        expected = [before[0], before[2]._replace(output='"an\\"other"', detail='{"copied": 3}')]
        assert (await flow.history(new.id)).entries == expected
        assert (await flow.history(turn.id)).entries == before
        new = await _forked(flow, turn.id, Fork(2, replaced=(Replaced(1, None, '{"other": 1}'),)))
        assert (await flow.history(new.id)).entries == [before[0]._replace(detail='{"other": 1}')]

    @pytest.mark.parametrize(
        ("before_seq", "expected"), [(None, "abcde"), (6, "abcde"), (5, "abcd"), (4, "abcd"), (3, "a"), (1, "a")]
    )
    async def test_a_fork_has_the_pieces_that_no_later_entry_tells_of(
        self, flow: WorkflowScene, before_seq: int | None, expected: str
    ) -> None:
        turn = await flow.begin()
        await flow.checkpoint(turn, entries=entries(2), chunks=('"a"',))
        await flow.checkpoint(turn, entries=(_told(3, 3),), chunks=('"b"', '"c"', '"d"'))
        await flow.checkpoint(turn, entries=(*entries(1, first=4), _told(5, 1)), chunks=('"e"',))
        stored = await flow.storage.stored_chunks(turn.id, after=0, limit=9)
        new = await _forked(flow, turn.id, Fork(before_seq))
        copied = await flow.storage.stored_chunks(new.id, after=0, limit=9)
        assert copied == stored[: len(copied)]
        assert [chunk.payload for chunk in copied] == [f'"{piece}"' for piece in expected]

    async def test_a_fork_has_the_values_of_earlier_runs_alone(self, flow: WorkflowScene) -> None:
        first = await flow.begin()
        await flow.checkpoint(first, values=(("old", "1"), ("both", "1")))
        await flow.suspend(first, continued="1")
        await flow.subject.advance(1.0)
        turn = await flow.next_turn()
        await flow.checkpoint(turn, entries=(_begun(await flow.subject.now()),), values=(("new", "2"), ("both", "2")))
        (old,) = await flow.storage.published_values(turn.id, ["old"])
        new = await _forked(flow, turn.id)
        assert await flow.storage.published_values(new.id) == [old]

    async def test_a_fork_of_a_first_run_has_no_values(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        await flow.checkpoint(turn, entries=(_begun(await flow.subject.now()),), values=(("new", "2"),))
        assert await flow.storage.published_values((await _forked(flow, turn.id)).id) == []

    async def test_approvals_of_a_fork_are_opened_with_it(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        new = flow.make.row(task_name=CHILD, kind=Kind.WORKFLOW)
        asked = NewApproval(flow.make.id(), new.id, "0/refund#1", "refund", "hash", ("alice",), '"why"', 60.0)
        assert not await flow.storage.fork_workflow(flow.make.id(), fork=Fork(approvals=(asked,)), new=new)
        assert await flow.storage.list_approvals(ApprovalFilter(), limit=9) == []
        for _ in range(2):  # again, because nobody knows what became of the first try
            assert await flow.storage.fork_workflow(turn.id, fork=Fork(approvals=(asked,)), new=new)
        (stored,) = await flow.storage.list_approvals(ApprovalFilter(), limit=9)
        assert (stored.id, stored.execution_id, stored.task_name) == (asked.id, new.id, CHILD)
        assert stored.expires_at == await flow.subject.now() + timedelta(minutes=1)
        assert await flow.storage.get_approval(token_hash=asked.token_hash) == stored
