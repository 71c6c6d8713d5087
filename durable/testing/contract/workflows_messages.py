"""Contract of messages and histories: numbered per receiver, in order, once each, and never lost."""

from __future__ import annotations

import asyncio

import pytest

from durable.execution import Kind, Status
from durable.testing.contract.scene import ERROR
from durable.testing.contract.workflows_scene import WORKFLOW, WorkflowCase, WorkflowScene, entries
from durable.transitions import complete, fail
from durable.workflow_rows import History, Message, MessageKind, SendOutcome, Sent

__all__ = ["WorkflowMessagesContract"]


class WorkflowMessagesContract(WorkflowCase):
    # --- send ------------------------------------------------------------------------------------------------

    async def test_messages_are_numbered_in_the_order_given(self, flow: WorkflowScene) -> None:
        first, second = await flow.begin_all(2)
        rows = [
            flow.message(first.id, '"a"', message_id="x"), flow.message(second.id, '"b"'),
            flow.message(first.id, '"c"', kind=MessageKind.UPDATE, name="change"),
        ]  # fmt: skip
        sent = await flow.storage.send_messages(rows)
        assert [(each.execution_id, each.outcome, each.number) for each in sent] == [
            (first.id, SendOutcome.ACCEPTED, 1), (second.id, SendOutcome.ACCEPTED, 1),
            (first.id, SendOutcome.ACCEPTED, 2),
        ]  # fmt: skip
        now = await flow.subject.now()
        assert (await flow.history(first.id)).messages == [
            Message(1, MessageKind.SIGNAL, "approved", '"a"', "x", now),
            Message(2, MessageKind.UPDATE, "change", '"c"', None, now),
        ]
        assert (await flow.get(first.id)).message_count == 2

    async def test_sending_nothing_gives_nothing(self, flow: WorkflowScene) -> None:
        assert await flow.storage.send_messages([]) == []

    async def test_a_message_id_makes_a_message_idempotent_for_its_receiver(self, flow: WorkflowScene) -> None:
        first, second = await flow.begin_all(2)
        assert (await flow.send(first.id, '"a"', message_id="x")).number == 1
        rows = [
            flow.message(first.id, '"b"', message_id="y"), flow.message(first.id, '"a"', message_id="x"),
            flow.message(first.id, '"b"', message_id="y"), flow.message(second.id, '"a"', message_id="x"),
            flow.message(first.id, '"c"'),
        ]  # fmt: skip
        sent = await flow.storage.send_messages(rows)
        assert [(each.outcome, each.number) for each in sent] == [
            (SendOutcome.ACCEPTED, 2), (SendOutcome.DUPLICATE, 1), (SendOutcome.DUPLICATE, 2),
            (SendOutcome.ACCEPTED, 1), (SendOutcome.ACCEPTED, 3),
        ]  # fmt: skip
        assert await flow.payloads(first.id) == ['"a"', '"b"', '"c"']

    async def test_a_duplicate_wakes_nobody(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        await flow.send(turn.id, message_id="x")
        await flow.suspend(turn, seen_messages=1)
        assert (await flow.send(turn.id, message_id="x")).ready_queue is None
        assert await flow.status_of(turn.id) is Status.WAITING

    async def test_a_message_that_was_taken_before_its_receiver_finished_is_a_duplicate(
        self, flow: WorkflowScene
    ) -> None:
        turn = await flow.begin()
        await flow.send(turn.id, message_id="x")
        await flow.storage.settle([complete(turn, "1")])
        assert await flow.send(turn.id, message_id="x") == Sent(turn.id, SendOutcome.DUPLICATE, 1, None, False)
        assert (await flow.send(turn.id, message_id="y")).outcome is SendOutcome.FINISHED

    async def test_messages_without_an_id_are_all_kept(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        await flow.storage.send_messages([flow.message(turn.id, "1")] * 3)
        assert await flow.payloads(turn.id) == ["1", "1", "1"]

    @pytest.mark.parametrize("status", list(Status))
    async def test_what_is_no_workflow_is_refused(self, flow: WorkflowScene, status: Status) -> None:
        id_ = await flow.in_status(status)
        before = await flow.everything()
        assert await flow.send(id_, message_id="x") == Sent(id_, SendOutcome.NOT_A_WORKFLOW, None, None, False)
        assert (await flow.everything(), await flow.payloads(id_)) == (before, [])

    @pytest.mark.parametrize("message_id", [None, "x"])
    async def test_what_is_finished_or_unknown_is_refused_and_nothing_else(
        self, flow: WorkflowScene, message_id: str | None
    ) -> None:
        done, live = await flow.begin_all(2)
        await flow.storage.settle([complete(done, "1")])
        unknown = flow.make.id()
        rows = [flow.message(id_, message_id=message_id) for id_ in (unknown, live.id, done.id)]
        sent = await flow.storage.send_messages(rows)
        assert [each.outcome for each in sent] == [SendOutcome.NOT_FOUND, SendOutcome.ACCEPTED, SendOutcome.FINISHED]
        assert [each.number for each in sent] == [None, 1, None]
        assert (await flow.payloads(done.id), await flow.payloads(unknown)) == ([], [])
        assert (await flow.get(done.id)).message_count == 0

    # --- waking ----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("delay", [None, 600.0])
    async def test_a_message_wakes_a_suspended_workflow(self, flow: WorkflowScene, delay: float | None) -> None:
        turn = await flow.suspended(delay=delay)
        await flow.subject.advance(1.0)
        rows = [flow.message(turn.id, "1"), flow.message(turn.id, "2")]
        sent = await flow.storage.send_messages(rows)
        assert [(each.ready_queue, each.is_running) for each in sent] == [("default", False), (None, False)]
        record = await flow.get(turn.id)
        assert (record.status, record.due_at) == (Status.READY, await flow.subject.now())
        again = await flow.next_turn()
        assert (again.id, again.message_count) == (turn.id, 2)

    async def test_a_message_does_not_start_a_workflow_before_its_first_moment(self, flow: WorkflowScene) -> None:
        id_ = await flow.enqueue(task_name=WORKFLOW, kind=Kind.WORKFLOW, delay=60.0)
        sent = await flow.send(id_)
        assert (sent.outcome, sent.ready_queue) == (SendOutcome.ACCEPTED, None)
        assert await flow.claimable() == []
        await flow.subject.advance(60.0)
        assert (await flow.next_turn()).message_count == 1

    async def test_a_message_does_not_cut_the_wait_between_attempts_short(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        await flow.storage.settle([fail(turn, ERROR, retry_delay=60.0)])
        assert (await flow.send(turn.id)).ready_queue is None
        assert await flow.claimable() == []

    async def test_a_running_receiver_is_marked_for_its_executor_once(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        rows = [flow.message(turn.id, "1"), flow.message(turn.id, "2")]
        sent = await flow.storage.send_messages(rows)
        assert [(each.is_running, each.ready_queue) for each in sent] == [(True, None)] * 2
        assert await flow.pick_up() == [turn.id]
        assert await flow.pick_up() == []
        await flow.send(turn.id, "3")
        assert await flow.pick_up() == [turn.id]
        assert (await flow.checkpoint(turn)).accepted[turn.id].message_count == 3

    async def test_a_mark_is_gone_with_the_turn_it_was_for(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        await flow.send(turn.id)
        await flow.suspend(turn, seen_messages=1)
        assert await flow.pick_up() == []

    # --- transactions ----------------------------------------------------------------------------------------

    async def test_a_message_joins_the_transaction_of_its_sender(self, flow: WorkflowScene) -> None:
        turn = await flow.suspended()
        async with flow.subject.rolled_back() as connection:
            (sent,) = await flow.storage.send_messages([flow.message(turn.id, message_id="x")]).await_on(connection)
            assert (sent.outcome, sent.ready_queue) == (SendOutcome.ACCEPTED, "default")
        stays = not flow.subject.has_transactions
        assert await flow.status_of(turn.id) is (Status.READY if stays else Status.WAITING)
        assert await flow.payloads(turn.id) == (["1"] if stays else [])

    async def test_a_message_from_a_blocking_transaction_joins_it(self, flow: WorkflowScene) -> None:
        turn = await flow.suspended()

        def send() -> None:
            with flow.subject.rolled_back_blocking() as connection:
                (sent,) = flow.storage.send_messages([flow.message(turn.id)]).run_on(connection)
                assert sent.outcome is SendOutcome.ACCEPTED

        await asyncio.to_thread(send)
        assert await flow.payloads(turn.id) == ([] if flow.subject.has_transactions else ["1"])

    # --- histories -------------------------------------------------------------------------------------------

    async def test_histories_give_what_is_new_of_many_in_the_order_asked(self, flow: WorkflowScene) -> None:
        first, second = await flow.begin_all(2)
        await flow.checkpoint(first, entries=entries(12))
        await flow.checkpoint(second, entries=entries(1))
        for payload in ("1", "2", "3"):
            await flow.send(second.id, payload)
        unknown = flow.make.id()
        found = await flow.storage.histories([(second.id, 1, 1), (unknown, 0, 0), (first.id, 9, 0), (first.id, 0, 0)])
        assert [each.id for each in found] == [second.id, unknown, first.id, first.id]
        assert (found[0].entries, [message.payload for message in found[0].messages]) == ([], ["2", "3"])
        assert found[1] == History(unknown, [], [])
        assert [entry.seq for entry in found[2].entries] == [10, 11, 12]
        assert [entry.seq for entry in found[3].entries] == list(range(1, 13))
        assert await flow.storage.histories([]) == []
