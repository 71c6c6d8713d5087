"""Contract of workflows under contention: no wake-up is lost, whoever comes first."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import pytest

from durable.execution import Claimed, Kind, Settled, Status
from durable.storage import Operation
from durable.testing.contract.scene import CHILD, LEASE, LIMIT
from durable.testing.contract.together import together
from durable.testing.contract.workflows_scene import WorkflowCase, WorkflowScene, entries
from durable.transitions import complete, suspend
from durable.workflow_rows import Checkpoint, SendOutcome, Sent, Suspension

__all__ = ["WorkflowRacesContract"]

ROUNDS = 20
T = TypeVar("T")


async def _run(operation: Operation[T]) -> T:
    """An operation as a coroutine, for a task."""
    return await operation


class WorkflowRacesContract(WorkflowCase):
    async def test_a_message_and_a_suspension_never_miss_each_other(self, flow: WorkflowScene) -> None:
        first, second, _ = flow.subject.handles[:3]
        turns = await flow.begin_all(ROUNDS)

        async def end(turn: Claimed) -> None:
            assert (await first.settle([suspend(turn, Suspension())])).accepted == {turn.id}

        async def send(turn: Claimed, message_id: str | None) -> None:
            (sent,) = await second.send_messages([flow.message(turn.id, message_id=message_id)])
            assert sent.outcome is SendOutcome.ACCEPTED

        await together(
            *(work for turn in turns[::2] for work in (end(turn), send(turn, None))),
            *(work for turn in turns[1::2] for work in (send(turn, "x"), end(turn))),
        )
        assert sorted(await flow.claimable()) == sorted(turn.id for turn in turns)

    @pytest.mark.parametrize("is_first", [True, False])
    async def test_a_message_and_a_suspension_that_wait_for_each_other_s_row_meet(
        self, flow: WorkflowScene, is_first: bool
    ) -> None:
        turn = await flow.begin()
        works: list[Operation[Any]] = [
            flow.subject.handles[1].send_messages([flow.message(turn.id)]),
            flow.subject.handles[2].settle([suspend(turn, Suspension())]),
        ]
        async with flow.subject.hold([turn.id]) as held, asyncio.timeout(LIMIT):
            waiting: list[asyncio.Future[object]] = []
            for work in works if is_first else reversed(works):
                waiting.append(asyncio.ensure_future(_run(work)))
                await held.contended()
        await asyncio.gather(*waiting)
        assert await flow.claimable() == [turn.id]

    async def test_the_last_child_and_a_suspension_never_miss_each_other(self, flow: WorkflowScene) -> None:
        first, second, third = flow.subject.handles[:3]
        turns = await flow.begin_all(ROUNDS)
        rows = [
            Checkpoint(turn.id, turn.fence, children=flow.make.children(turn, 2, task_name=CHILD)) for turn in turns
        ]
        await flow.storage.checkpoint(rows)
        children = await flow.claim(CHILD)

        async def end(turn: Claimed) -> Settled:
            return await first.settle([suspend(turn, Suspension(wake_at_children=0))])

        async def finish(index: int, child: Claimed) -> Settled:
            return await (second, third)[index % 2].settle([complete(child, "1")])

        await together(*map(end, turns), *(finish(index, child) for index, child in enumerate(children)))
        records = await flow.get_all([turn.id for turn in turns])
        assert {(record.status, record.active_children_count) for record in records} == {(Status.READY, 0)}
        await flow.assert_sound()

    async def test_checkpoints_and_the_ends_of_children_lose_no_count(self, flow: WorkflowScene) -> None:
        turn, _ = await flow.spawned(ROUNDS)
        ends = [complete(child, "1") for child in await flow.claim(CHILD)]
        handles = flow.subject.handles

        async def spawn() -> None:
            for number in range(10):
                child = flow.make.child(turn, 100 + number, task_name="later")
                row = Checkpoint(turn.id, turn.fence, entries(1, first=number + 2), children=(child,))
                assert set((await handles[0].checkpoint([row])).accepted) == {turn.id}

        async def settle(index: int) -> None:
            await handles[1 + index % 2].settle([ends[index]])

        await together(spawn(), *map(settle, range(ROUNDS)))
        record = await flow.get(turn.id)
        assert (record.children_count, record.active_children_count) == (ROUNDS + 10, 10)
        assert len((await flow.history(turn.id)).entries) == 11
        await flow.assert_sound()

    async def test_checkpoints_of_many_workflows_crosswise_all_succeed(self, flow: WorkflowScene) -> None:
        turns = await flow.begin_all(ROUNDS)

        async def write(number: int) -> None:
            order = turns if number % 2 else list(reversed(turns))
            rows = [
                Checkpoint(turn.id, turn.fence, entries(1, first=number + 1), messages=(flow.message(other.id),))
                for turn, other in zip(order, order[1:] + order[:1], strict=True)
            ]
            done = await flow.subject.handles[number % 3].checkpoint(rows)
            assert len(done.accepted) == ROUNDS

        await together(*map(write, range(6)))
        found = await flow.storage.histories([(turn.id, 0, 0) for turn in turns])
        assert {(len(each.entries) >= 1, len(each.messages) >= 1) for each in found} == {(True, True)}

    async def test_a_checkpoint_is_either_written_or_its_workflow_recovered(self, flow: WorkflowScene) -> None:
        turns = await flow.begin_all(ROUNDS)
        await flow.subject.advance(LEASE)
        first, second, third = flow.subject.handles[:3]

        async def write(turn: Claimed) -> set[str]:
            return set((await first.checkpoint([Checkpoint(turn.id, turn.fence, entries(1))])).accepted)

        async def recover(index: int) -> set[str]:
            return {each.id for each in await (second, third)[index % 2].recover(limit=6)}

        results = await together(*map(write, turns), *map(recover, range(3)))
        written = set[str]().union(*results[:ROUNDS])
        found = await flow.storage.histories([(turn.id, 0, 0) for turn in turns])
        assert {each.id for each in found if each.entries} == written

    async def test_a_checkpoint_waits_for_who_holds_its_workflow_and_sees_its_loss(self, flow: WorkflowScene) -> None:
        turn = await flow.begin()
        handles = flow.subject.handles
        async with flow.subject.hold([turn.id]) as held, asyncio.timeout(LIMIT):
            cancel = asyncio.ensure_future(_run(handles[1].cancel([turn.id], reason="no", force=True)))
            await held.contended()
            row = Checkpoint(turn.id, turn.fence, entries(1))
            write = asyncio.ensure_future(_run(handles[2].checkpoint([row])))
            await held.contended()
        await asyncio.gather(cancel, write)
        is_written = turn.id in write.result().accepted
        assert await flow.status_of(turn.id) is Status.CANCELLED
        assert (await flow.keys(turn.id) == ["charge#1"]) is is_written

    @pytest.mark.parametrize("message_id", [None, "x"])
    async def test_senders_together_are_numbered_without_gaps(
        self, flow: WorkflowScene, message_id: str | None
    ) -> None:
        turn = await flow.begin()

        async def send(number: int) -> Sent:
            row = flow.message(turn.id, str(number), message_id=message_id and f"{message_id}{number}")
            (sent,) = await flow.subject.handles[number % 3].send_messages([row])
            return sent

        sent = await together(*map(send, range(ROUNDS)))
        assert sorted(each.number or 0 for each in sent) == list(range(1, ROUNDS + 1))
        expected = [str(index) for _, index in sorted((each.number or 0, index) for index, each in enumerate(sent))]
        assert await flow.payloads(turn.id) == expected

    async def test_one_message_sent_several_times_is_stored_once(self, flow: WorkflowScene) -> None:
        turn = await flow.suspended()
        row = flow.message(turn.id, message_id="x")
        sent = await together(*(_run(flow.subject.handles[index % 3].send_messages([row])) for index in range(9)))
        outcomes = [each.outcome for (each,) in sent]
        assert (outcomes.count(SendOutcome.ACCEPTED), outcomes.count(SendOutcome.DUPLICATE)) == (1, 8)
        assert {each.number for (each,) in sent} == {1}
        assert len(await flow.payloads(turn.id)) == 1

    async def test_senders_to_several_workflows_crosswise_all_succeed(self, flow: WorkflowScene) -> None:
        turns = await flow.begin_all(10)

        async def send(number: int) -> None:
            order = turns if number % 2 else list(reversed(turns))
            rows = [flow.message(turn.id, message_id=f"{number}") for turn in order]
            sent = await flow.subject.handles[number % 3].send_messages(rows)
            assert {each.outcome for each in sent} == {SendOutcome.ACCEPTED}

        await together(*map(send, range(9)))
        assert {record.message_count for record in await flow.get_all([turn.id for turn in turns])} == {9}

    async def test_a_request_to_end_and_a_suspension_never_miss_each_other(self, flow: WorkflowScene) -> None:
        first, second, _ = flow.subject.handles[:3]
        turns = await flow.begin_all(ROUNDS)

        async def end(turn: Claimed) -> None:
            await first.settle([suspend(turn, Suspension())])

        async def ask(turn: Claimed) -> None:
            (result,) = await second.cancel([turn.id], reason="no")
            assert result.is_requested

        await together(*(work for turn in turns for work in (end(turn), ask(turn))))
        assert sorted(await flow.claimable()) == sorted(turn.id for turn in turns)

    async def test_cancels_of_children_by_two_parents_crosswise_all_succeed(self, flow: WorkflowScene) -> None:
        turns = await flow.begin_all(2)
        children = {turn.id: flow.make.children(turn, ROUNDS, task_name=CHILD) for turn in turns}
        await flow.storage.checkpoint([Checkpoint(turn.id, turn.fence, children=children[turn.id]) for turn in turns])
        claimed = {child.id: child for child in await flow.claim(CHILD)}

        async def cancel(turn: Claimed) -> None:
            for child in children[turn.id]:
                await flow.subject.handles[0].checkpoint([Checkpoint(turn.id, turn.fence, cancels=(child.id,))])

        async def finish(id_: str) -> None:
            await flow.subject.handles[1].settle([complete(claimed[id_], "1")])

        ids = [child.id for turn in turns for child in reversed(children[turn.id])]
        await together(*map(cancel, turns), *map(finish, ids))
        records = await flow.get_all([turn.id for turn in turns])
        assert {record.active_children_count for record in records} == {0}
        await flow.assert_sound()

    async def test_three_generations_that_write_and_end_together_all_succeed(self, flow: WorkflowScene) -> None:
        top, _ = await flow.spawned(5, kind=Kind.WORKFLOW)
        middle = await flow.claim(CHILD)
        leaves = [
            Checkpoint(turn.id, turn.fence, children=flow.make.children(turn, 2, task_name="leaf")) for turn in middle
        ]
        await flow.storage.checkpoint(leaves)
        handles = flow.subject.handles

        async def finish(index: int, turn: Claimed) -> None:
            await handles[index % 3].settle([complete(turn, "1")])

        async def suspend_middle(index: int, turn: Claimed) -> None:
            await handles[index % 3].settle([suspend(turn, Suspension(wake_at_children=0))])

        turns = await flow.claim("leaf")
        works = [suspend_middle(index, turn) for index, turn in enumerate(middle)]
        works += [finish(index, turn) for index, turn in enumerate(turns)]
        await together(*works, _run(handles[0].settle([suspend(top, Suspension(wake_at_children=0))])))
        again = await flow.claim(CHILD)
        assert len(again) == 5
        await together(*(finish(index, turn) for index, turn in enumerate(again)))
        assert await flow.claimable() == [top.id]
        await flow.assert_sound()
