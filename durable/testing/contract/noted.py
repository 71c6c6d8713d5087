"""Contract of notices that verbs write: in the transaction that ends an execution, about what it ended, once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from durable.errors import SleepingIdConflict
from durable.execution import Execution, Kind, Status
from durable.notice import NewNotice
from durable.testing.contract.scene import CHILD, ERROR, LEASE, TASK, Case, Scene
from durable.transitions import complete, fail, spawn

__all__ = ["NotedContract", "Notes"]


class Notes:
    """A `note` for verbs: says the id and the status of each execution, to one subscriber."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def __call__(self, records: Sequence[Execution]) -> list[NewNotice]:
        make = self._scene.make
        return [make.notice(subject=record.id, name=str(record.status), error=record.error) for record in records]

    async def stored(self) -> list[tuple[str, str]]:
        """What is in the outbox by now, in order; it stays there."""
        taken = await self._scene.storage.take_notices("subscriber", holder="a", limit=1_000, lease=LEASE)
        return [(notice.subject, notice.name) for notice in taken.notices]


class NotedContract(Case):
    # --- settle ----------------------------------------------------------------------------------------------

    async def test_settle_stores_the_notices_of_accepted_turns_only(self, scene: Scene) -> None:
        kept, lost = await scene.turns(2)
        await scene.gone(lost)
        ends = [complete(turn, "1")._replace(notices=(scene.make.notice(subject=turn.id),)) for turn in (kept, lost)]
        settled = await scene.storage.settle(ends)
        assert settled.accepted == {kept.id}
        assert [subject for subject, _ in await Notes(scene).stored()] == [kept.id]
        assert (await scene.storage.settle(ends)).accepted == frozenset()
        assert len(await Notes(scene).stored()) == 1

    async def test_settle_stores_several_notices_of_a_turn_in_order_for_each_subscriber(self, scene: Scene) -> None:
        turn, plain = await scene.turns(2)
        notices = [scene.make.notice(name=name, subject=turn.id) for name in ("first", "second")]
        copies = [notice._replace(subscriber="other") for notice in notices]
        await scene.storage.settle([complete(plain, "1"), fail(turn, ERROR, retry_delay=0.0)._replace(
            notices=(*notices, *copies))])  # fmt: skip
        for subscriber in ("subscriber", "other"):
            taken = await scene.storage.take_notices(subscriber, holder="a", limit=9, lease=LEASE)
            assert [notice.name for notice in taken.notices] == ["first", "second"]
            assert {notice.at for notice in taken.notices} == {await scene.subject.now()}

    async def test_settle_stores_notices_and_children_and_tells_parents_in_one_go(self, scene: Scene) -> None:
        family = await scene.family(1)
        child = await scene.claim_one(CHILD)
        (turn,) = await scene.turns(1, task_name=TASK)
        rows = scene.make.children(turn, 2, task_name="grandchild")
        ends = [
            complete(child, "1")._replace(notices=(scene.make.notice(subject=child.id),)),
            spawn(turn, None, rows)._replace(notices=(scene.make.notice(subject=turn.id),)),
        ]
        settled = await scene.storage.settle(ends)
        assert settled.accepted == {child.id, turn.id}
        assert (await scene.get(family.id)).status is Status.READY
        assert (await scene.get(turn.id)).active_children_count == 2
        assert [subject for subject, _ in await Notes(scene).stored()] == [child.id, turn.id]
        await scene.assert_sound()

    async def test_settle_of_children_that_cannot_be_inserted_stores_no_notice(self, scene: Scene) -> None:
        await scene.storage.enqueue([scene.make.sleeper("taken")])
        turn = await scene.turn()
        clash = scene.make.child(turn, kind=Kind.SLEEPING, sleeping_id="taken")
        end = spawn(turn, None, (clash,))._replace(notices=(scene.make.notice(),))
        with pytest.raises(SleepingIdConflict):
            await scene.storage.settle([end])
        assert await scene.storage.undelivered() == {}

    async def test_settle_without_notices_writes_none(self, scene: Scene) -> None:
        await scene.complete_all(await scene.turns(3))
        assert await scene.storage.undelivered() == {}

    # --- what ends otherwise ---------------------------------------------------------------------------------

    async def test_cancel_notes_what_it_ended_and_not_what_had_ended(self, scene: Scene) -> None:
        notes = Notes(scene)
        ids = [await scene.in_status(status) for status in (Status.COMPLETED, Status.WAITING, Status.READY)]
        await scene.storage.cancel([*ids, scene.make.id()], reason="test", note=notes)
        await scene.storage.cancel(ids, reason="test", note=notes)
        assert await notes.stored() == [(id_, "cancelled") for id_ in ids[1:]]

    async def test_cancel_all_notes_what_it_ended_and_not_what_may_finish(self, scene: Scene) -> None:
        notes = Notes(scene)
        await scene.turn()
        id_ = await scene.enqueue()
        await scene.subject.advance(1.0)
        before = await scene.subject.now()
        await scene.storage.cancel_all(before=before, limit=9, reason="test", may_finish=True, note=notes)
        assert await notes.stored() == [(id_, "cancelled")]

    @pytest.mark.parametrize("has_notices", [False, True])
    async def test_settle_notes_what_was_asked_to_end_and_did_not(self, scene: Scene, has_notices: bool) -> None:
        notes = Notes(scene)
        ended, retried, other = await scene.turns(3)
        await scene.storage.cancel([ended.id, retried.id], reason="test", may_finish=True, note=notes)
        ends = [complete(ended, "1"), *(fail(turn, ERROR, retry_delay=0.0) for turn in (retried, other))]
        if has_notices:
            ends[1] = ends[1]._replace(notices=(scene.make.notice(subject=retried.id, name="attempt"),))
        await scene.storage.settle(ends, note=notes)
        attempt = [(retried.id, "attempt")] if has_notices else []
        assert await notes.stored() == [*attempt, (retried.id, "cancelled")]

    async def test_recover_notes_what_was_asked_to_end_as_cancelled(self, scene: Scene) -> None:
        notes = Notes(scene)
        turn = await scene.turn()
        await scene.storage.cancel([turn.id], reason="test", may_finish=True)
        await scene.subject.advance(LEASE)
        await scene.storage.recover(limit=9, note=notes)
        assert await notes.stored() == [(turn.id, "cancelled")]

    async def test_cancel_without_a_note_writes_none(self, scene: Scene) -> None:
        await scene.storage.cancel([await scene.enqueue()], reason="test")
        assert await scene.storage.undelivered() == {}

    async def test_cancel_is_undone_when_its_note_fails(self, scene: Scene) -> None:
        id_ = await scene.enqueue()

        def broken(_: Sequence[Execution]) -> list[NewNotice]:
            raise ValueError("no note")

        with pytest.raises(ValueError, match="no note"):
            await scene.storage.cancel([id_], reason="test", note=broken)
        assert await scene.status_of(id_) is Status.READY

    async def test_close_trees_notes_the_children_it_cancels(self, scene: Scene) -> None:
        notes = Notes(scene)
        family = await scene.family(2)
        await scene.storage.cancel([family.id], reason="test")
        ids = await scene.storage.claim_closes(limit=9, lease=LEASE)
        await scene.storage.close_trees(ids, reason="parent_ended", note=notes)
        await scene.storage.close_trees(ids, reason="parent_ended", note=notes)
        assert await notes.stored() == [(id_, "cancelled") for id_ in family.child_ids]

    async def test_recover_notes_what_runs_again_and_what_is_poisoned(self, scene: Scene) -> None:
        notes = Notes(scene)
        again, poisoned = await scene.turn(), await scene.turn(max_deliveries=1)
        await scene.subject.advance(LEASE)
        await scene.storage.recover(limit=9, note=notes)
        assert await notes.stored() == [(again.id, "ready"), (poisoned.id, "failed")]

    async def test_expire_waits_notes_what_has_timed_out(self, scene: Scene) -> None:
        notes = Notes(scene)
        row = scene.make.sleeper("door", timeout=5.0)
        await scene.storage.enqueue([row])
        await scene.storage.expire_waits(limit=9, note=notes)
        assert await notes.stored() == []
        await scene.subject.advance(5.0)
        await scene.storage.expire_waits(limit=9, note=notes)
        assert await notes.stored() == [(row.id, "timed_out")]

    async def test_wake_notes_the_first_wakeup_and_no_later_one(self, scene: Scene) -> None:
        notes = Notes(scene)
        row = scene.make.sleeper("door")
        await scene.storage.enqueue([row])
        for output in ("1", "2"):
            await scene.storage.wake(TASK, "door", output=output, error=None, note=notes)
        assert await notes.stored() == [(row.id, "completed")]

    async def test_wakeup_kept_before_is_noted_by_the_enqueue_that_meets_it(self, scene: Scene) -> None:
        notes = Notes(scene)
        await scene.storage.wake(TASK, "door", output=None, error=ERROR, note=notes)
        assert await notes.stored() == []
        row = scene.make.sleeper("door")
        await scene.storage.enqueue([row], note=notes)
        assert await notes.stored() == [(row.id, "failed")]

    async def test_wakeup_kept_before_is_noted_by_the_settle_whose_child_meets_it(self, scene: Scene) -> None:
        notes = Notes(scene)
        await scene.storage.wake(TASK, "door", output="1", error=None, note=notes)
        turn = await scene.turn()
        child = scene.make.child(turn, kind=Kind.SLEEPING, sleeping_id="door")
        end = spawn(turn, None, (child,))._replace(notices=(scene.make.notice(subject=turn.id, name="turn"),))
        await scene.storage.settle([end], note=notes)
        assert await notes.stored() == [(turn.id, "turn"), (child.id, "completed")]

    async def test_apply_wakeups_notes_what_it_ends(self, scene: Scene) -> None:
        notes = Notes(scene)
        row = scene.make.sleeper("door")
        await scene.storage.enqueue([row])
        async with scene.subject.hold([row.id]):
            # Where rows are locked, the wake-up is kept and meets nobody yet.
            await scene.storage.wake(TASK, "door", output="1", error=None, note=notes)
        await scene.storage.apply_wakeups(limit=9, note=notes)
        await scene.storage.apply_wakeups(limit=9, note=notes)
        assert await notes.stored() == [(row.id, "completed")]
