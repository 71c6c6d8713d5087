"""Contract of claim: who gets what, in which order, how much, and when."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from durable.errors import StorageError
from durable.execution import FINISHED, RECORD_VERSION, Kind, Phase, Status
from durable.testing.contract.scene import CHILD, ERROR, EXECUTOR, LEASE, TASK, Case, Scene
from durable.transitions import complete, fail, release, repeat

__all__ = ["ClaimContract"]

NOT_READY = sorted(set(Status) - {Status.READY})


class ClaimContract(Case):
    async def test_claim_gives_what_an_executor_needs(self, scene: Scene) -> None:
        root = scene.make.id()
        id_ = await scene.enqueue(
            kind=Kind.LOOP, input='{"a": 1}', retry='{"max": 2}', max_attempts=4, timeout=2.5, root_id=root, depth=3,
            priority=2, task_version=6, child_index=1, is_finalize=True,
        )  # fmt: skip
        turn = await scene.claim_one()
        assert (turn.id, turn.root_id, turn.parent_id, turn.child_index, turn.depth) == (id_, root, None, 1, 3)
        assert (turn.kind, turn.task_name, turn.task_version, turn.phase) == (Kind.LOOP, TASK, 6, Phase.RUN)
        assert (turn.input, turn.retry, turn.max_attempts, turn.timeout) == ('{"a": 1}', '{"max": 2}', 4, 2.5)
        assert (turn.queue, turn.priority, turn.is_finalize) == ("default", 2, True)
        assert (turn.fence, turn.attempts, turn.deliveries, turn.iteration) == (1, 1, 1, 0)
        assert (turn.run_output, turn.error) == (None, None)

    async def test_claim_gives_enums_not_text(self, scene: Scene) -> None:
        turn = await scene.turn(kind=Kind.PARENT)
        assert (type(turn.kind), type(turn.phase)) == (Kind, Phase)

    async def test_claim_marks_the_record_as_running(self, scene: Scene) -> None:
        turn = await scene.turn()
        now = await scene.subject.now()
        record = await scene.get(turn.id)
        assert (record.status, record.executor_id) == (Status.RUNNING, EXECUTOR)
        assert (record.fence, record.attempts, record.deliveries) == (1, 1, 1)
        assert record.started_at == now
        assert record.lease_expires_at == now + timedelta(seconds=LEASE)
        assert record.updated_at == now

    async def test_claim_tells_the_age_since_creation(self, scene: Scene) -> None:
        await scene.enqueue(delay=30.0)
        await scene.subject.advance(32.25)
        assert (await scene.claim_one()).age == 32.25

    # --- stored as started -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", [Kind.TASK, Kind.PARENT, Kind.WORKFLOW])
    async def test_what_is_enqueued_as_started_stands_as_after_its_claim(self, scene: Scene, kind: Kind) -> None:
        fields: dict[str, Any] = {
            "kind": kind, "input": '{"a": "\u00e4"}', "retry": '{"max": 2}', "max_attempts": 4, "max_deliveries": 7,
            "timeout": 2.5, "priority": -2, "task_version": 6, "on_complete": scene.make.callback(),
        }  # fmt: skip
        one, other = scene.make.rows(2, **fields)
        await scene.storage.enqueue([one])
        claimed = await scene.claim_one()
        started = await scene.storage.enqueue_started(other, executor_id=EXECUTOR, lease=LEASE)
        assert started._replace(id=one.id, root_id=one.id) == claimed
        assert (started.id, started.root_id) == (other.id, other.id)
        as_claimed, as_started = await scene.get_all([one.id, other.id])
        assert as_started._replace(id=one.id, root_id=one.id) == as_claimed
        assert await scene.claim() == []
        await scene.assert_sound()

    async def test_what_is_enqueued_as_started_is_settled_renewed_and_recovered_like_any_other(
        self, scene: Scene
    ) -> None:
        rows = scene.make.rows(2)
        first, second = [await scene.storage.enqueue_started(row, executor_id=EXECUTOR, lease=LEASE) for row in rows]
        held = {(first.id, first.fence), (second.id, second.fence)}
        assert await scene.storage.renew(sorted(held), lease=LEASE) == {first.id, second.id}
        assert (await scene.storage.settle([complete(first, "1")])).accepted == {first.id}
        await scene.subject.advance(LEASE)
        assert [each.id for each in await scene.storage.recover(limit=9)] == [second.id]
        assert (await scene.storage.settle([complete(second, "1")])).accepted == frozenset()
        again = await scene.claim_one()
        assert (again.id, again.fence, again.deliveries) == (second.id, second.fence + 2, 2)
        await scene.assert_sound()

    async def test_what_is_there_is_not_enqueued_as_started(self, scene: Scene) -> None:
        row = scene.make.row()
        await scene.storage.enqueue([row])
        before = await scene.everything()
        with pytest.raises(StorageError):
            await scene.storage.enqueue_started(row, executor_id=EXECUTOR, lease=LEASE)
        assert await scene.everything() == before

    # --- due -------------------------------------------------------------------------------------------------

    async def test_claim_gives_what_is_due_exactly_now(self, scene: Scene) -> None:
        id_ = await scene.enqueue(delay=10.0)
        await scene.subject.advance(10.0)
        assert [turn.id for turn in await scene.claim()] == [id_]

    async def test_claim_leaves_what_is_due_a_moment_later(self, scene: Scene) -> None:
        await scene.enqueue(delay=10.0)
        await scene.subject.advance(9.999)
        assert await scene.claim() == []

    async def test_claim_leaves_what_is_due_at_a_later_date(self, scene: Scene) -> None:
        run_at = await scene.subject.now() + timedelta(days=400)
        late, now = await scene.enqueue(run_at=run_at), await scene.enqueue()
        assert [turn.id for turn in await scene.claim()] == [now]
        assert await scene.status_of(late) is Status.READY

    async def test_claim_gives_a_retry_only_after_its_delay(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.storage.settle([fail(turn, ERROR, retry_delay=5.0)])
        await scene.subject.advance(4.999)
        assert await scene.claim() == []
        await scene.subject.advance(0.001)
        assert [again.id for again in await scene.claim()] == [turn.id]

    # --- how many --------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("limit", [1, 2, 7, 499])
    async def test_claim_gives_exactly_the_limit_when_more_is_ready(self, scene: Scene, limit: int) -> None:
        await scene.enqueue_all(500)
        assert len(await scene.claim(limit=limit)) == limit
        assert (await scene.storage.counts())["default", Status.RUNNING] == limit

    async def test_claim_holds_the_limit_over_queues_and_priorities(self, scene: Scene) -> None:
        for queue in ("a", "b", "c"):
            for priority in (-4, 0, 4):
                await scene.enqueue_all(5, queue=queue, priority=priority)
        assert len(await scene.claim(queues=("a", "b", "c"), limit=7)) == 7
        assert sum(count for (_, status), count in (await scene.storage.counts()).items() if status == "running") == 7

    async def test_claim_with_limit_zero_gives_nothing(self, scene: Scene) -> None:
        await scene.enqueue_all(3)
        assert await scene.claim(limit=0) == []

    async def test_claim_gives_all_when_the_limit_is_higher(self, scene: Scene) -> None:
        ids = await scene.enqueue_all(3)
        assert {turn.id for turn in await scene.claim(limit=4)} == set(ids)

    async def test_claim_gives_thousands_in_one_call(self, scene: Scene) -> None:
        ids = await scene.enqueue_all(1_500)
        assert {turn.id for turn in await scene.claim(limit=1_500)} == set(ids)

    async def test_claim_gives_nothing_where_nothing_is_stored(self, scene: Scene) -> None:
        assert await scene.claim() == []

    # --- order -----------------------------------------------------------------------------------------------

    async def test_claim_takes_the_highest_priority_first(self, scene: Scene) -> None:
        by_priority = {priority: await scene.enqueue(priority=priority) for priority in (-4, 3, 0, 4, -1)}
        claimed = [(await scene.claim_one(limit=1)).id for _ in by_priority]
        assert claimed == [by_priority[priority] for priority in (4, 3, 0, -1, -4)]

    async def test_claim_takes_the_earliest_due_first(self, scene: Scene) -> None:
        by_delay = {delay: await scene.enqueue(delay=delay) for delay in (3.0, 1.0, 2.0, 0.0)}
        await scene.subject.advance(3.0)
        claimed = [(await scene.claim_one(limit=1)).id for _ in by_delay]
        assert claimed == [by_delay[delay] for delay in sorted(by_delay)]

    async def test_claim_puts_priority_before_due_time(self, scene: Scene) -> None:
        early = await scene.enqueue(priority=0)
        late = await scene.enqueue(priority=1, delay=5.0)
        await scene.subject.advance(5.0)
        assert (await scene.claim_one(limit=1)).id == late
        assert (await scene.claim_one(limit=1)).id == early

    async def test_claim_puts_priority_before_the_order_of_queues(self, scene: Scene) -> None:
        await scene.enqueue(queue="first", priority=0)
        urgent = await scene.enqueue(queue="second", priority=1)
        assert (await scene.claim_one(queues=("first", "second"), limit=1)).id == urgent

    async def test_claim_serves_queues_of_one_priority_as_they_are_listed(self, scene: Scene) -> None:
        early = await scene.enqueue(queue="second")
        late = await scene.enqueue(queue="first", delay=5.0)
        await scene.subject.advance(5.0)
        assert (await scene.claim_one(queues=("first", "second"), limit=1)).id == late
        assert (await scene.claim_one(queues=("first", "second"), limit=1)).id == early

    async def test_claim_goes_on_behind_an_execution(self, scene: Scene) -> None:
        ids = sorted(await scene.enqueue_all(6))
        await scene.claim(limit=2)
        behind = await scene.claim(after={("default", 0): ids[3]})
        assert [turn.id for turn in behind] == ids[4:]
        assert [turn.id for turn in await scene.claim()] == ids[2:4]

    async def test_claim_goes_on_behind_what_has_ended_since(self, scene: Scene) -> None:
        ids = sorted(await scene.enqueue_all(4))
        (first,) = await scene.claim(limit=1)
        await scene.storage.settle([complete(first, "1")])
        assert [turn.id for turn in await scene.claim(after={("default", 0): ids[0]})] == ids[1:]

    async def test_claim_goes_on_by_due_time_before_id(self, scene: Scene) -> None:
        late = await scene.enqueue(delay=20.0)
        early = await scene.enqueue(delay=10.0)
        await scene.subject.advance(30)
        assert [turn.id for turn in await scene.claim(after={("default", 0): early})] == [late]

    async def test_claim_goes_on_in_one_lane_and_looks_at_all_of_others(self, scene: Scene) -> None:
        low, high = sorted(await scene.enqueue_all(2)), sorted(await scene.enqueue_all(2, priority=3))
        other = sorted(await scene.enqueue_all(2, queue="other"))
        turns = await scene.claim(queues=["default", "other"], after={("default", 0): low[0]})
        assert {turn.id for turn in turns} == {low[1], *high, *other}

    async def test_claim_behind_what_is_not_stored_looks_at_all(self, scene: Scene) -> None:
        ids = sorted(await scene.enqueue_all(2))
        gone = scene.make.id()
        await scene.enqueue(delay=60.0)
        assert [turn.id for turn in await scene.claim(after={("other", 0): gone})] == ids

    async def test_claim_gives_the_earlier_due_first_whichever_was_stored_first(self, scene: Scene) -> None:
        delays = [5.0, 1.0, 3.000_001, 3.0, 0.0]
        ids = [await scene.enqueue(delay=delay) for delay in delays]
        await scene.subject.advance(9)
        assert [turn.id for turn in await scene.claim()] == [ids[place] for place in (4, 1, 3, 2, 0)]

    async def test_claim_gives_its_rows_in_that_order(self, scene: Scene) -> None:
        order = [
            await scene.enqueue(priority=priority, delay=delay)
            for priority, delay in ((4, 0.0), (4, 1.0), (0, 0.5), (0, 2.0), (-4, 0.0))
        ]
        await scene.subject.advance(2.0)
        assert [turn.id for turn in await scene.claim()] == order

    # --- which -----------------------------------------------------------------------------------------------

    async def test_claim_takes_only_from_the_queues_given(self, scene: Scene) -> None:
        here, there = await scene.enqueue(queue="here"), await scene.enqueue(queue="there")
        assert [turn.id for turn in await scene.claim(queues=("here", "nowhere"))] == [here]
        assert await scene.status_of(there) is Status.READY

    async def test_claim_takes_from_every_queue_given(self, scene: Scene) -> None:
        ids = {await scene.enqueue(queue=queue) for queue in ("a", "b", 'q "odd", {it}\\')}
        assert {turn.id for turn in await scene.claim(queues=("a", "b", 'q "odd", {it}\\'))} == ids

    async def test_claim_without_queues_gives_nothing(self, scene: Scene) -> None:
        await scene.enqueue()
        assert await scene.claim(queues=()) == []

    async def test_claim_without_names_gives_nothing(self, scene: Scene) -> None:
        await scene.enqueue()
        claimed = await scene.storage.claim(
            executor_id=EXECUTOR, queues=["default"], task_names=[], limit=9, lease=LEASE
        )
        assert claimed == []

    async def test_claim_leaves_unknown_names_ready_and_unattempted(self, scene: Scene) -> None:
        unknown, known = await scene.enqueue(task_name="of another deploy"), await scene.enqueue()
        assert [turn.id for turn in await scene.claim(limit=1)] == [known]
        record = await scene.get(unknown)
        assert (record.status, record.attempts, record.deliveries, record.fence) == (Status.READY, 0, 0, 0)

    async def test_claim_reaches_known_names_behind_many_unknown_ones(self, scene: Scene) -> None:
        await scene.enqueue_all(300, task_name="of another deploy", priority=1)
        known = await scene.enqueue()
        assert [turn.id for turn in await scene.claim(limit=1)] == [known]

    async def test_claim_takes_every_name_given(self, scene: Scene) -> None:
        ids = {await scene.enqueue(task_name=name) for name in (TASK, CHILD, 'odd "name", {it}')}
        assert {turn.id for turn in await scene.claim(TASK, CHILD, 'odd "name", {it}')} == ids

    async def test_claim_leaves_records_of_a_newer_version_alone(self, scene: Scene) -> None:
        newer, ours = await scene.enqueue(priority=4), await scene.enqueue()
        await scene.subject.tamper(newer, record_version=RECORD_VERSION + 1)
        assert [turn.id for turn in await scene.claim(limit=1)] == [ours]
        assert await scene.status_of(newer) is Status.READY

    @pytest.mark.parametrize("status", NOT_READY)
    async def test_claim_gives_nothing_that_is_not_ready(self, scene: Scene, status: Status) -> None:
        id_ = await scene.in_status(status)
        before = await scene.get(id_)
        assert before.status is status
        others = {turn.id for turn in await scene.claim("task", "parent", "child", "finalize")}
        assert id_ not in others
        assert await scene.get(id_) == before
        assert (before.finished_at is not None) is (status in FINISHED)

    # --- again -----------------------------------------------------------------------------------------------

    async def test_claim_does_not_give_what_it_gave(self, scene: Scene) -> None:
        await scene.turn()
        assert await scene.claim(executor_id="executor-b") == []

    async def test_claim_raises_the_fence_each_time(self, scene: Scene) -> None:
        turn = await scene.turn()
        fences = [turn.fence]
        for _ in range(3):
            await scene.gone(turn)
            turn = await scene.claim_one()
            fences.append(turn.fence)
        assert all(later > earlier for earlier, later in pairwise(fences))

    async def test_claim_counts_the_attempts_of_retries(self, scene: Scene) -> None:
        turn = await scene.turn(max_attempts=3)
        attempts = [turn.attempts]
        for _ in range(2):
            await scene.storage.settle([fail(turn, ERROR, retry_delay=0.0)])
            turn = await scene.claim_one()
            attempts.append(turn.attempts)
        assert attempts == [1, 2, 3]
        assert turn.deliveries == 1

    async def test_claim_carries_the_error_of_the_attempt_before(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.storage.settle([fail(turn, ERROR, retry_delay=0.0)])
        assert (await scene.claim_one()).error == ERROR

    async def test_claim_carries_what_a_loop_handed_over(self, scene: Scene) -> None:
        turn = await scene.turn(kind=Kind.LOOP)
        await scene.storage.settle([repeat(turn, 0.0, '{"seen": 1}')])
        again = await scene.claim_one()
        assert (again.iteration, again.attempts, again.run_output, again.error) == (1, 1, '{"seen": 1}', None)

    async def test_claim_does_not_count_what_was_released(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.storage.settle([release(turn)])
        again = await scene.claim_one()
        assert (again.attempts, again.deliveries) == (1, 1)

    async def test_claim_again_belongs_to_the_new_executor(self, scene: Scene) -> None:
        await scene.gone(await scene.turn())
        await scene.claim_one(executor_id="executor-b", lease=60.0)
        record = await scene.get((await scene.everything()).popitem()[0])
        assert record.executor_id == "executor-b"
        assert record.lease_expires_at == await scene.subject.now() + timedelta(seconds=60)

    async def test_claim_clears_the_reason_it_waited_for(self, scene: Scene) -> None:
        turn = await scene.turn()
        await scene.storage.settle([fail(turn, ERROR, retry_delay=0.0, reason="rate_limited")])
        assert (await scene.get(turn.id)).reason == "rate_limited"
        await scene.claim_one()
        assert (await scene.get(turn.id)).reason is None
