"""Contract of callbacks: one execution for each end of a record, made by the transaction that ends it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from durable.callbacks import CallbackInput, callback_id, first_call
from durable.errors import ConfigurationError
from durable.execution import FINISHED, Claimed, Execution, Kind, Settlement, Status
from durable.testing.contract.scene import CHILD, ERROR, EXECUTOR, LEASE, TASK, Case, Scene
from durable.testing.contract.together import together
from durable.transitions import complete, fail, release, repeat

__all__ = ["CallbacksContract"]

CALLBACK = "callback"
Ender = Callable[[Scene, str], Awaitable[Any]]
"""Ends a new record that has this `on_complete`."""


async def calls(scene: Scene) -> list[Execution]:
    return [record for record in (await scene.everything()).values() if record.kind is Kind.CALLBACK]


async def by_completing(scene: Scene, spec: str) -> None:
    await scene.complete_all([await scene.turn(on_complete=spec)], output='{"a": "\u00e4"}')


async def by_failing(scene: Scene, spec: str) -> None:
    await scene.storage.settle([fail(await scene.turn(on_complete=spec), ERROR, retry_delay=None)])


async def by_timing_out(scene: Scene, spec: str) -> None:
    await scene.storage.settle([fail(await scene.turn(on_complete=spec), ERROR, retry_delay=None, timed_out=True)])


async def by_poisoning(scene: Scene, spec: str) -> None:
    await scene.turn(on_complete=spec, max_deliveries=1)
    await scene.subject.advance(LEASE)
    await scene.storage.recover(limit=9)


async def by_cancelling(scene: Scene, spec: str) -> None:
    await scene.storage.cancel([await scene.enqueue(on_complete=spec)], reason="enough")


async def by_closing(scene: Scene, spec: str) -> None:
    family = await scene.family(1, child={"on_complete": spec})
    await scene.storage.cancel([family.id], reason="enough")
    await scene.close_everything()


async def by_waking(scene: Scene, spec: str) -> None:
    await scene.storage.enqueue([scene.make.sleeper("door", on_complete=spec)])
    await scene.storage.wake(TASK, "door", output="1", error=None)


async def by_an_early_wakeup(scene: Scene, spec: str) -> None:
    await scene.storage.wake(TASK, "door", output="1", error=None)
    await scene.storage.enqueue([scene.make.sleeper("door", on_complete=spec)])


async def by_a_deadline(scene: Scene, spec: str) -> None:
    await scene.storage.enqueue([scene.make.sleeper("door", timeout=5.0, on_complete=spec)])
    await scene.subject.advance(5.0)
    await scene.storage.expire_waits(limit=9)


async def by_mending(scene: Scene, spec: str) -> None:
    id_ = await scene.enqueue(on_complete=spec)
    await scene.subject.tamper(id_, parent_id=scene.make.id())
    await scene.storage.mend([id_])


async def by_a_granted_request(scene: Scene, spec: str) -> None:
    turn = await scene.turn(on_complete=spec)
    await scene.storage.cancel([turn.id], reason="enough", may_finish=True)
    await scene.storage.settle([fail(turn, ERROR, retry_delay=0.0)])


ENDS: dict[Ender, Status] = {
    by_completing: Status.COMPLETED,
    by_failing: Status.FAILED,
    by_timing_out: Status.TIMED_OUT,
    by_poisoning: Status.FAILED,
    by_cancelling: Status.CANCELLED,
    by_closing: Status.CANCELLED,
    by_waking: Status.COMPLETED,
    by_an_early_wakeup: Status.COMPLETED,
    by_a_deadline: Status.TIMED_OUT,
    by_mending: Status.CANCELLED,
    by_a_granted_request: Status.CANCELLED,
}


def not_an_end(turn: Claimed) -> list[Settlement]:
    return [fail(turn, ERROR, retry_delay=0.0), release(turn), repeat(turn, 0.0, None)]


class CallbacksContract(Case):
    @pytest.mark.parametrize(("end", "status"), ENDS.items(), ids=lambda given: getattr(given, "__name__", str(given)))
    async def test_callback_is_made_once_whatever_ends_the_record(
        self, scene: Scene, end: Ender, status: Status
    ) -> None:
        await end(scene, scene.make.callback(queue="calls", priority=2, max_attempts=7, delay=1.5, timeout=4.0))
        (call,) = await calls(scene)
        given, now = CallbackInput.load(call.input), await scene.subject.now()
        ended = await scene.get(given.execution_id)
        assert (given.status, ended.status) == (status, status)
        assert (given.output, given.error, given.reason) == (ended.output, ended.error, ended.reason)
        assert (given.task_name, given.context, given.is_within) == (ended.task_name, '"context"', False)
        assert (call.task_name, call.queue, call.priority, call.status) == (CALLBACK, "calls", 2, Status.READY)
        assert (call.max_attempts, call.timeout, call.attempts, call.fence) == (7, 4.0, 0, 0)
        assert (call.created_at, (call.due_at - now).total_seconds()) == (now, 1.5)
        assert (call.id, call.root_id, call.parent_id) == (callback_id(ended.id, ended.fence), call.id, None)

    @pytest.mark.parametrize("position", range(3))
    async def test_callback_is_not_made_between_attempts(self, scene: Scene, position: int) -> None:
        turn = await scene.turn(on_complete=scene.make.callback())
        await scene.storage.settle([not_an_end(turn)[position]])
        assert await calls(scene) == []
        await scene.complete_all([await scene.claim_one()])
        assert len(await calls(scene)) == 1

    async def test_callback_is_not_made_by_a_recovery_that_runs_again(self, scene: Scene) -> None:
        await scene.turn(on_complete=scene.make.callback())
        await scene.subject.advance(LEASE)
        await scene.storage.recover(limit=9)
        assert await calls(scene) == []

    async def test_callback_is_not_made_by_an_end_that_was_refused(self, scene: Scene) -> None:
        turn = await scene.turn(on_complete=scene.make.callback())
        await scene.gone(turn)
        await scene.storage.settle([complete(turn, "1")])
        assert await calls(scene) == []

    @pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
    @pytest.mark.parametrize("is_named", [True, False])
    async def test_callback_is_made_for_the_ends_that_its_filter_names(
        self, scene: Scene, end: Ender, is_named: bool
    ) -> None:
        when = {ENDS[end]} if is_named else FINISHED - {ENDS[end]}
        await end(scene, scene.make.callback(when=when))
        assert len(await calls(scene)) == is_named

    async def test_callback_of_each_row_of_a_batch(self, scene: Scene) -> None:
        turns = await scene.turns(300, on_complete=scene.make.callback())
        plain = await scene.turn()
        await scene.complete_all([*turns, plain])
        ended = [CallbackInput.load(call.input).execution_id for call in await calls(scene)]
        assert sorted(ended) == sorted(turn.id for turn in turns)

    async def test_callback_can_be_claimed_and_settled_as_anything_else(self, scene: Scene) -> None:
        await by_completing(scene, scene.make.callback())
        turn = await scene.claim_one(CALLBACK)
        assert (turn.kind, turn.attempts, turn.on_complete) == (Kind.CALLBACK, 1, None)
        await scene.complete_all([turn])
        assert len(await calls(scene)) == 1

    async def test_a_turn_tells_what_its_end_calls_for(self, scene: Scene) -> None:
        spec = scene.make.callback()
        assert (await scene.turn(on_complete=spec)).on_complete == spec

    async def test_callback_is_made_again_by_the_end_of_another_life(self, scene: Scene) -> None:
        turn = await scene.turn(on_complete=scene.make.callback())
        await scene.storage.settle([fail(turn, ERROR, retry_delay=None)])
        await scene.storage.redrive([turn.id])
        await scene.complete_all([await scene.claim_one()])
        statuses = {CallbackInput.load(call.input).status for call in await calls(scene)}
        assert statuses == {Status.FAILED, Status.COMPLETED}

    async def test_callback_is_rolled_back_with_the_end(self, scene: Scene) -> None:
        turn = await scene.turn(on_complete=scene.make.callback())
        async with scene.subject.rolled_back() as connection:
            await scene.storage.settle([complete(turn, "1")]).await_on(connection)
        assert len(await calls(scene)) == (0 if scene.subject.has_transactions else 1)

    async def test_callback_is_made_once_when_several_end_one_record(self, scene: Scene) -> None:
        turns = await scene.turns(20, on_complete=scene.make.callback())
        first, second, third = scene.subject.handles[:3]
        await together(
            *(first.cancel([turn.id], reason="enough") for turn in turns),
            *(second.settle([complete(turn, "1")]) for turn in turns),
            *(third.cancel([turn.id], reason="enough", may_finish=True) for turn in turns),
        )
        ended = [CallbackInput.load(call.input) for call in await calls(scene)]
        assert sorted(call.execution_id for call in ended) == sorted(turn.id for turn in turns)
        assert [(await scene.get(call.execution_id)).status for call in ended] == [call.status for call in ended]

    async def test_wakeups_and_deadlines_name_the_queue_of_their_callbacks(self, scene: Scene) -> None:
        spec = scene.make.callback(queue="calls")
        sleepers = [scene.make.sleeper(name, timeout=1.0, on_complete=spec) for name in ("a", "b")]
        await scene.storage.enqueue(sleepers)
        assert (await scene.storage.wake(TASK, "a", output=None, error=None)).ready_queues == {"calls"}
        await scene.subject.advance(1.0)
        assert (await scene.storage.expire_waits(limit=9)).ready_queues == {"calls"}

    async def test_a_callback_that_cannot_be_read_keeps_nothing_from_ending(self, scene: Scene) -> None:
        turns = await scene.turns(2, on_complete=scene.make.callback())
        await scene.subject.tamper(turns[0].id, on_complete="{")
        await scene.complete_all(turns)
        assert [CallbackInput.load(call.input).execution_id for call in await calls(scene)] == [turns[1].id]

    # --- claim_callback --------------------------------------------------------------------------------------

    async def test_claim_callback_takes_it_whatever_its_queue(self, scene: Scene) -> None:
        await by_completing(scene, scene.make.callback(queue="nobody's"))
        (call,) = await calls(scene)
        turn = await scene.storage.claim_callback(call.id, executor_id=EXECUTOR, lease=LEASE)
        assert turn is not None
        assert (turn.id, turn.fence, turn.attempts, turn.task_name) == (call.id, 1, 1, CALLBACK)
        assert (turn.input, turn.age) == (call.input, 0.0)
        record = await scene.get(call.id)
        assert (record.status, record.executor_id, record.deliveries) == (Status.RUNNING, EXECUTOR, 1)
        assert await scene.storage.claim_callback(call.id, executor_id=EXECUTOR, lease=LEASE) is None
        await scene.complete_all([turn])

    async def test_claim_callback_gives_what_was_foreseen(self, scene: Scene) -> None:
        turn = await scene.turn(on_complete=scene.make.callback(queue="calls", timeout=4.0, is_within=True))
        end = complete(turn, '"\u00e4\\n\\""')
        foreseen = first_call(turn, end)
        await scene.storage.settle([end])
        claimed = await scene.storage.claim_callback(foreseen.id, executor_id=EXECUTOR, lease=LEASE)
        assert claimed is not None
        # The moment of the write is the storage's to say.
        assert claimed._replace(created_at=foreseen.created_at) == foreseen

    async def test_claim_callback_takes_nothing_else(self, scene: Scene) -> None:
        await by_completing(scene, scene.make.callback(delay=9.0))
        (call,) = await calls(scene)
        for id_ in (call.id, await scene.enqueue(), scene.make.id()):
            assert await scene.storage.claim_callback(id_, executor_id=EXECUTOR, lease=LEASE) is None

    # --- transaction -----------------------------------------------------------------------------------------

    async def test_transaction_commits_all_or_nothing_or_is_refused(self, scene: Scene) -> None:
        storage = scene.storage
        assert storage.has_transactions is scene.subject.has_transactions
        if not storage.has_transactions:
            with pytest.raises(ConfigurationError):
                storage.transaction()
            return
        kept, lost, undone = scene.make.rows(3)
        async with storage.transaction() as connection:
            await storage.enqueue([kept]).await_on(connection)
            with suppress(ZeroDivisionError):
                async with storage.transaction(connection):
                    await storage.enqueue([lost]).await_on(connection)
                    raise ZeroDivisionError
        with suppress(ZeroDivisionError):
            async with storage.transaction() as connection:
                await storage.enqueue([undone]).await_on(connection)
                raise ZeroDivisionError
        assert await storage.existing([kept.id, lost.id, undone.id]) == {kept.id}

    async def test_callback_of_a_child_leaves_its_parent_alone(self, scene: Scene) -> None:
        family = await scene.family(1, child={"on_complete": scene.make.callback()})
        await scene.complete_all(await scene.claim(CHILD))
        assert await scene.status_of(family.id) is Status.READY
        (call,) = await calls(scene)
        assert call.parent_id is None
        await scene.assert_sound()
