"""Contract of a cancel that lets running attempts finish, and of the cancel of everything up to a time."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from durable.execution import FINISHED, CancelResult, CloseStatus, Kind, Settlement, Status
from durable.testing.contract.scene import CHILD, ERROR, LEASE, PARENT, TASK, Case, Scene
from durable.testing.contract.together import together
from durable.transitions import complete, fail, release, repeat, spawn

__all__ = ["FinishContract"]

PENDING = sorted(set(Status) - FINISHED - {Status.RUNNING})


class FinishContract(Case):
    @pytest.mark.parametrize("status", PENDING)
    async def test_finish_cancels_what_does_not_run_at_once(self, scene: Scene, status: Status) -> None:
        id_ = await scene.in_status(status)
        assert await scene.storage.cancel([id_], reason="enough", may_finish=True) == [CancelResult(id_, status, True)]
        assert await scene.status_of(id_) is Status.CANCELLED

    @pytest.mark.parametrize("status", sorted(FINISHED))
    async def test_finish_leaves_what_has_finished(self, scene: Scene, status: Status) -> None:
        id_ = await scene.in_status(status)
        before = await scene.get(id_)
        (result,) = await scene.storage.cancel([id_], reason="late", may_finish=True)
        assert (result, result.outcome) == (CancelResult(id_, status, False), "already_finished")
        assert await scene.get(id_) == before

    async def test_finish_asks_a_running_one_once(self, scene: Scene) -> None:
        turn = await scene.turn()
        unknown = scene.make.id()
        first = await scene.storage.cancel([turn.id, unknown], reason="first", may_finish=True)
        second = await scene.storage.cancel([turn.id], reason="second", may_finish=True)
        assert first == [CancelResult(turn.id, Status.RUNNING, False, True), CancelResult(unknown, None, False)]
        assert [result.outcome for result in first + second] == ["requested", "not_found", "already_requested"]
        record = await scene.get(turn.id)
        assert (record.status, record.fence, record.needs_cancel) == (Status.RUNNING, turn.fence, False)
        assert record.cancel_requested is not None
        assert "first" in record.cancel_requested
        assert await scene.storage.renew([(turn.id, turn.fence)], lease=LEASE) == {turn.id}

    async def test_finish_keeps_a_success_and_a_failure_for_good(self, scene: Scene) -> None:
        done, failed = await scene.turns(2)
        await scene.storage.cancel([done.id, failed.id], reason="enough", may_finish=True)
        await scene.storage.settle([complete(done, "1"), fail(failed, ERROR, retry_delay=None)])
        records = await scene.get_all([done.id, failed.id])
        assert {record.id: (record.status, record.reason) for record in records} == {
            done.id: (Status.COMPLETED, None),
            failed.id: (Status.FAILED, None),
        }

    @pytest.mark.parametrize("end", ["retry", "retry later", "release", "repeat", "suspend"])
    async def test_finish_cancels_instead_of_another_start(self, scene: Scene, end: str) -> None:
        turn = await scene.turn()
        ends: dict[str, Settlement] = {
            "retry": fail(turn, ERROR, retry_delay=0.0),
            "retry later": fail(turn, ERROR, retry_delay=60.0),
            "release": release(turn),
            "repeat": repeat(turn, 0.0, None),
            "suspend": scene.make.suspension(turn),
        }
        await scene.storage.cancel([turn.id], reason="enough", may_finish=True)
        await scene.subject.advance(1.0)
        settled = await scene.storage.settle([ends[end]])
        assert (settled.accepted, settled.has_cancelled) == (frozenset({turn.id}), True)
        record, now = await scene.get(turn.id), await scene.subject.now()
        assert (record.status, record.reason, record.error) == (Status.CANCELLED, "enough", record.cancel_requested)
        assert (record.close_status, record.closed_at, record.finished_at) == (CloseStatus.CLOSED, now, now)
        assert record.fence > turn.fence
        assert await scene.storage.settled([(turn.id, turn.fence)]) == {turn.id}
        assert await scene.claim() == []

    async def test_finish_cancels_instead_of_a_recovery(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.storage.cancel([turn.id], reason="enough", may_finish=True)
        await scene.subject.advance(LEASE)
        (recovered,) = await scene.storage.recover(limit=9)
        assert (recovered.id, recovered.status) == (turn.id, Status.CANCELLED)
        assert await scene.status_of(turn.id) is Status.CANCELLED
        assert await scene.claim() == []

    async def test_finish_leaves_poison_to_fail(self, scene: Scene) -> None:
        turn = await scene.turn(max_deliveries=1)
        await scene.storage.cancel([turn.id], reason="enough", may_finish=True)
        await scene.subject.advance(LEASE)
        await scene.storage.recover(limit=9)
        record = await scene.get(turn.id)
        assert (record.status, record.reason) == (Status.FAILED, "poisoned")

    async def test_finish_cancels_a_parent_with_the_children_it_spawns(self, scene: Scene) -> None:
        parent = await scene.turn(task_name=PARENT, kind=Kind.PARENT)
        await scene.storage.cancel([parent.id], reason="enough", may_finish=True)
        children = scene.make.children(parent, 2, task_name=CHILD)
        await scene.storage.settle([spawn(parent, None, children)])
        assert await scene.status_of(parent.id) is Status.CANCELLED
        await scene.close_everything()
        assert {record.status for record in await scene.get_all([child.id for child in children])} == {Status.CANCELLED}
        assert (await scene.get(parent.id)).close_status is CloseStatus.CLOSED
        await scene.assert_sound()

    async def test_finish_tells_the_parent_of_what_it_cancels(self, scene: Scene) -> None:
        family = await scene.family(2)
        turns = await scene.claim(CHILD)
        await scene.storage.cancel(family.child_ids, reason="enough", may_finish=True)
        await scene.storage.settle([fail(turns[0], ERROR, retry_delay=0.0)])
        assert (await scene.get(family.id)).active_children_count == 1
        await scene.storage.settle([fail(turns[1], ERROR, retry_delay=0.0)])
        record = await scene.get(family.id)
        assert (record.status, record.active_children_count) == (Status.READY, 0)
        await scene.assert_sound()

    async def test_finish_does_not_outlive_a_redrive(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.storage.cancel([turn.id], reason="enough", may_finish=True)
        await scene.storage.settle([fail(turn, ERROR, retry_delay=0.0)])
        assert await scene.storage.redrive([turn.id]) == [turn.id]
        await scene.storage.settle([fail(await scene.claim_one(), ERROR, retry_delay=0.0)])
        assert await scene.status_of(turn.id) is Status.READY

    async def test_a_stop_ends_what_was_asked_to_finish(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.storage.cancel([turn.id], reason="later", may_finish=True)
        (result,) = await scene.storage.cancel([turn.id], reason="now")
        assert result.outcome == "cancelled"
        assert (await scene.get(turn.id)).reason == "now"

    async def test_finish_racing_a_claim_cancels_or_asks_never_both(self, scene: Scene) -> None:
        ids = await scene.enqueue_all(200)
        first, second = scene.subject.handles[:2]
        claims = [
            second.claim(executor_id="b", queues=["default"], task_names=[TASK], limit=1, lease=LEASE) for _ in ids
        ]
        cancels = [first.cancel([id_], reason="enough", may_finish=True) for id_ in ids]
        turns, results = await asyncio.gather(together(*claims), together(*cancels))
        ran = {turn.id for claimed in turns for turn in claimed}
        outcomes = {result.id: result.outcome for (result,) in results}
        assert {id_ for id_, outcome in outcomes.items() if outcome == "requested"} == ran
        assert {id_ for id_, outcome in outcomes.items() if outcome == "cancelled"} == set(ids) - ran

    async def test_finish_racing_a_retry_always_wins(self, scene: Scene) -> None:
        turns = await scene.turns(200)
        first, second = scene.subject.handles[:2]
        settles = [second.settle([fail(turn, ERROR, retry_delay=0.0)]) for turn in turns]
        cancels = [first.cancel([turn.id], reason="enough", may_finish=True) for turn in turns]
        await asyncio.gather(together(*settles), together(*cancels))
        assert {record.status for record in await scene.get_all([turn.id for turn in turns])} == {Status.CANCELLED}

    # --- cancel_all ------------------------------------------------------------------------------------------

    async def test_cancel_all_ends_everything_unfinished(self, scene: Scene) -> None:
        by_status = await scene.in_every_status()
        await scene.subject.advance(1.0)
        before = await scene.subject.now()
        while await scene.storage.cancel_all(before=before, limit=3, reason="enough"):
            pass
        await scene.close_everything()
        records = {status: await scene.get(id_) for status, id_ in by_status.items()}
        assert {record.is_finished for record in records.values()} == {True}
        assert {status for status in FINISHED if records[status].status is not status} == set()
        await scene.assert_sound()

    async def test_cancel_all_takes_at_most_its_limit_and_only_what_matches(self, scene: Scene) -> None:
        ids = await scene.enqueue_all(3, queue="a")
        others = [*await scene.enqueue_all(1, queue="b"), *await scene.enqueue_all(1, queue="a", task_name="other")]
        await scene.subject.advance(1.0)
        before = await scene.subject.now()
        found: list[CancelResult] = []
        for expected in (2, 1, 0):
            page = await scene.storage.cancel_all(before=before, queue="a", task_name=TASK, limit=2, reason="enough")
            assert len(page) == expected
            found += page
        assert sorted(found) == [CancelResult(id_, Status.READY, True) for id_ in sorted(ids)]
        assert {record.status for record in await scene.get_all(others)} == {Status.READY}
        assert await scene.storage.cancel_all(before=before, limit=0, reason="enough") == []

    async def test_cancel_all_leaves_what_was_created_at_its_time_or_later(self, scene: Scene) -> None:
        await scene.enqueue()
        await scene.subject.advance(1.0)
        before = await scene.subject.now()
        late = await scene.enqueue()
        assert len(await scene.storage.cancel_all(before=before, limit=9, reason="enough")) == 1
        assert await scene.status_of(late) is Status.READY

    async def test_cancel_all_leaves_callbacks(self, scene: Scene) -> None:
        kept = await scene.enqueue(kind=Kind.CALLBACK)
        plain = await scene.enqueue()
        before = await scene.subject.now() + timedelta(seconds=1)
        results = await scene.storage.cancel_all(before=before, limit=9, reason="enough")
        assert [result.id for result in results] == [plain]
        assert await scene.status_of(kept) is Status.READY
        assert await scene.storage.cancel_all(before=before, limit=9, reason="enough") == []

    async def test_cancel_all_lets_running_ones_finish_and_asks_them_once(self, scene: Scene) -> None:
        turn = await scene.turn()
        id_ = await scene.enqueue()
        await scene.subject.advance(1.0)
        before = await scene.subject.now()
        results = await scene.storage.cancel_all(before=before, limit=9, reason="enough", may_finish=True)
        assert {result.id: result.outcome for result in results} == {turn.id: "requested", id_: "cancelled"}
        assert await scene.storage.cancel_all(before=before, limit=9, reason="enough", may_finish=True) == []
        assert len(await scene.storage.cancel_all(before=before, limit=9, reason="enough")) == 1
