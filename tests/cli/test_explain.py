"""The explanation of every status, as a pure function over a record, the time and the executors."""

from __future__ import annotations

from typing import Any

import pytest

from durable.execution import CloseStatus, Execution, Kind, Phase, Status
from durable.explain import Finding, Scene, explain
from tests.cli.records import ERROR, ID, LOST, after, child, codes, executor, found, record
from tests.cli.stage import NOW


class TestReady:
    def test_a_time_that_has_not_come(self) -> None:
        findings = found(Scene(record(due_at=after(90)), NOW, [executor()]))
        assert list(findings) == ["not_due"]
        assert "due in 1 min 30 s" in findings["not_due"].text

    def test_no_executor_at_all(self) -> None:
        findings = found(Scene(record(queue="mail"), NOW))
        assert findings["no_executor"].advice.endswith("--queue mail")

    def test_an_executor_that_has_fallen_silent_counts_for_nothing(self) -> None:
        findings = found(Scene(record(), NOW, [executor("old", seen=-61)]))
        assert "old, was seen 1 min 1 s ago" in findings["no_executor"].text
        assert codes(record(), executor(seen=-60)) == ["claimable"]
        silent, elsewhere = executor("old", seen=-61), executor("new", queues=("mail",))
        assert codes(record(), silent, elsewhere) == ["no_executor_for_queue"]

    def test_no_executor_of_its_queue(self) -> None:
        findings = found(Scene(record(queue="mail"), NOW, [executor(queues=("a", "b"))]))
        assert "'mail'; those alive serve a, b" in findings["no_executor_for_queue"].text

    def test_no_executor_that_knows_its_task(self) -> None:
        findings = found(Scene(record(), NOW, [executor("one", task_names=("this", "that"))]))
        text = findings["no_executor_for_task"].text
        assert "'task'; asked: one" in text
        assert "They know that, this" in text

    def test_the_queue_and_the_task_are_served_by_different_executors(self) -> None:
        rows = [executor("one", task_names=("other",)), executor("two", queues=("mail",))]
        text = found(Scene(record(), NOW, rows))["no_executor_for_task"].text
        assert "Executors that know it serve mail" in text

    def test_all_slots_are_busy(self) -> None:
        rows = [executor("one", running=10), executor("two", running=4, concurrency=4)]
        text = found(Scene(record(), NOW, rows))["slots_busy"].text
        assert "one (10 of 10), two (4 of 4)" in text
        assert codes(record(), *rows, executor("three", running=9)) == ["claimable"]

    def test_a_record_of_a_later_library(self) -> None:
        assert codes(record(record_version=2), executor()) == ["record_version"]

    def test_nothing_in_its_way(self) -> None:
        text = found(Scene(record(due_at=after(-5)), NOW, [executor()]))["claimable"].text
        assert "due for 5 s" in text
        assert "executor-a" in text

    def test_a_retry_names_the_error_and_both_attempts(self) -> None:
        retried = record(attempts=2, error=ERROR, due_at=after(2))
        findings = found(Scene(retried, NOW, [executor()]))
        assert list(findings) == ["retrying", "not_due"]
        assert findings["retrying"].text == "Attempt 2 of 5 failed: ValueError: no. Attempt 3 comes next."

    def test_a_delay_does_not_hide_that_nobody_will_take_it(self) -> None:
        assert codes(record(due_at=after(2))) == ["not_due", "no_executor"]

    def test_what_was_lost_with_its_executor(self) -> None:
        assert codes(record(error=LOST, deliveries=1), executor())[0] == "recovered"

    def test_what_was_lost_so_often_that_it_is_a_suspect(self) -> None:
        for deliveries, is_said in [(1, False), (2, True)]:
            findings = found(Scene(record(error=LOST, deliveries=deliveries), NOW, [executor()]))
            assert findings["recovered"].text.endswith("one such execution at a time.") is is_said

    def test_what_an_operator_made_ready_again(self) -> None:
        assert codes(record(error=ERROR), executor())[0] == "redriven"

    def test_a_parent_whose_children_have_finished(self) -> None:
        assert codes(record(phase=Phase.CHILDREN), executor()) == ["children_finished", "claimable"]


RUNNING = record(
    status=Status.RUNNING, attempts=2, deliveries=1, executor_id="executor-a", started_at=after(-4),
    updated_at=after(-4), lease_expires_at=after(11),
)  # fmt: skip


class TestRunning:
    def test_where_since_when_and_how_long_the_lease_lasts(self) -> None:
        findings = found(Scene(RUNNING, NOW, [executor()]))
        assert list(findings) == ["running", "leased"]
        assert findings["running"].text == "Attempt 2 of 5 runs on executor executor-a, since 4 s."
        assert "has 11 s left" in findings["leased"].text

    def test_a_lease_that_ran_out(self) -> None:
        late = RUNNING._replace(lease_expires_at=after(-3))
        assert "ran out 3 s ago" in found(Scene(late, NOW, [executor()]))["lease_expired"].text
        assert found(Scene(late, NOW))["lease_expired"].advice != ""

    def test_an_executor_that_is_not_heard_of(self) -> None:
        assert "is not known" in found(Scene(RUNNING, NOW))["executor_silent"].text
        silent = Scene(RUNNING, NOW, [executor(seen=-90)])
        assert "was last seen 1 min 30 s ago" in found(silent)["executor_silent"].text

    def test_deliveries_before_this_one(self) -> None:
        again = RUNNING._replace(deliveries=3)
        assert "delivery 3 of 5" in found(Scene(again, NOW, [executor()]))["redelivered"].text

    def test_progress_of_this_attempt_and_of_an_earlier_one(self) -> None:
        beat = RUNNING._replace(progress='{"at": 7}', updated_at=after(-1))
        assert found(Scene(beat, NOW))["progress"].text == 'Its last progress, 1 s ago: {"at": 7}'
        earlier = RUNNING._replace(progress='{"at": 7}')
        assert "from an earlier attempt" in found(Scene(earlier, NOW))["progress"].text


class TestWorkflows:
    def test_one_that_waits_waits_for_no_wakeup(self) -> None:
        finding = found(Scene(record(kind=Kind.WORKFLOW, status=Status.WAITING, fence=1), NOW))["suspended"]
        assert "a message, a child or an approval" in finding.text
        assert "wake" not in f"{finding.text}{finding.advice}"
        assert f"durable replay {ID} --app" in finding.advice
        assert f"durable history {ID}" in finding.advice

    def test_one_that_sleeps_is_not_to_be_enqueued_again(self) -> None:
        sleeping = record(kind=Kind.WORKFLOW, fence=1, due_at=after(90))
        findings = found(Scene(sleeping, NOW, [executor()]))
        assert list(findings) == ["suspended"]
        assert "until 2" in findings["suspended"].text
        assert "enqueue" not in findings["suspended"].advice
        assert f"durable replay {ID} --app" in findings["suspended"].advice

    def test_one_that_has_not_begun_is_delayed_as_any_task(self) -> None:
        assert codes(record(kind=Kind.WORKFLOW, due_at=after(90)), executor()) == ["not_due"]

    def test_one_that_may_go_on_is_claimed(self) -> None:
        assert codes(record(kind=Kind.WORKFLOW, fence=1), executor()) == ["claimable"]

    def test_one_that_the_code_does_not_fit(self) -> None:
        error = '{"type": "StepMismatch", "message": "it differs", "is_retryable": true}'
        kept = record(kind=Kind.WORKFLOW, fence=3, error=error, due_at=after(20))
        findings = found(Scene(kept, NOW, [executor()]))
        assert list(findings) == ["mismatch", "not_due"]
        assert "it differs" in findings["mismatch"].text
        assert "A request to cancel it waits for code that fits" in findings["mismatch"].text
        assert f"durable replay {ID}" in findings["mismatch"].advice
        assert f"durable cancel {ID} --force" in findings["mismatch"].advice
        assert findings["not_due"].advice == ""

    def test_a_turn_whose_job_has_a_state_of_another_version(self) -> None:
        error = '{"type": "StateVersionMismatch", "message": "of version 2", "is_retryable": true}'
        kept = record(kind=Kind.TURN, fence=3, error=error, reason="state_mismatch", due_at=after(20))
        findings = found(Scene(kept, NOW, [executor()]))
        assert list(findings) == ["state_mismatch", "not_due"]
        assert "of version 2" in findings["state_mismatch"].text


class TestWaiting:
    def test_a_sleeping_task_names_its_id_and_deadline(self) -> None:
        sleeping = record(kind=Kind.SLEEPING, status=Status.WAITING, sleeping_id="door", wait_expires_at=after(60))
        text = found(Scene(sleeping, NOW))["waiting"].text
        assert "'door'" in text
        assert "until 2" in text
        assert "for ever" in found(Scene(sleeping._replace(wait_expires_at=None), NOW))["waiting"].text

    def test_a_deadline_that_has_passed(self) -> None:
        sleeping = record(kind=Kind.SLEEPING, status=Status.WAITING, sleeping_id="door", wait_expires_at=after(-60))
        assert codes(sleeping) == ["wait_expired", "waiting"]

    def test_children_are_counted_and_some_named(self) -> None:
        parent = record(status=Status.WAITING_FOR_CHILDREN, children_count=9, active_children_count=7)
        scene = Scene(parent, NOW, unfinished=[child(number) for number in range(7)])
        text = found(scene)["waiting_for_children"].text
        assert text.startswith("It waits for 7 of its 9 children: child-0 (below, ready), child-1")
        assert text.endswith("child-4 (below, ready) and 2 more.")

    def test_children_that_are_not_there_are_for_the_doctor(self) -> None:
        parent = record(status=Status.WAITING_FOR_CHILDREN, children_count=9, active_children_count=7)
        assert "doctor" in found(Scene(parent, NOW))["waiting_for_children"].advice

    def test_the_finalize_execution_is_named(self) -> None:
        parent = record(status=Status.WAITING_FOR_FINALIZE, active_children_count=1)
        scene = Scene(parent, NOW, unfinished=[child(3, Status.RUNNING, is_finalize=True)])
        assert "finalize execution child-3 (below, running)" in found(scene)["waiting_for_finalize"].text


def ended(status: Status, **fields: Any) -> Execution:
    closed = {"close_status": CloseStatus.CLOSED, "finished_at": after(-2), "attempts": 3}
    return record(status=status, **(closed | fields))


class TestEnded:
    def test_completed(self) -> None:
        (finding,) = explain(Scene(ended(Status.COMPLETED), NOW))
        assert finding == Finding("completed", "It completed 2 s ago in attempt 3 of 5.")

    def test_failed_with_its_error_and_the_way_to_retry(self) -> None:
        findings = found(Scene(ended(Status.FAILED, error=ERROR), NOW))
        assert findings["failed"].text == "It failed 2 s ago in attempt 3 of 5: ValueError: no."
        assert findings["redrivable"].advice == f"To retry it: durable retry {ID}"

    def test_poisoned(self) -> None:
        poisoned = ended(Status.FAILED, reason="poisoned", deliveries=5, executor_id="executor-a")
        text = found(Scene(poisoned, NOW))["poisoned"].text
        assert "5 of 5 deliveries" in text
        assert "executor-a" in text

    def test_timed_out_by_an_attempt_and_by_a_deadline(self) -> None:
        attempt = found(Scene(ended(Status.TIMED_OUT, timeout=30.0), NOW))["timed_out"].text
        assert "(the limit of one is 30 s)" in attempt
        sleeping = ended(Status.TIMED_OUT, kind=Kind.SLEEPING, sleeping_id="door")
        assert "nothing woke 'door'" in found(Scene(sleeping, NOW))["timed_out"].text

    def test_cancelled_with_its_reason(self) -> None:
        assert "by me" in found(Scene(ended(Status.CANCELLED, reason="by me"), NOW))["cancelled"].text

    def test_a_child_cannot_be_retried_and_why(self) -> None:
        findings = found(Scene(ended(Status.FAILED, parent_id="the-parent"), NOW))
        assert "the-parent has already counted its end" in findings["not_redrivable"].text

    def test_a_workflow_that_was_given_up_says_what_to_do(self) -> None:
        given_up = ended(Status.FAILED, kind=Kind.WORKFLOW, reason="poisoned")
        text = found(Scene(given_up, NOW))["not_redrivable"].text
        assert "nothing that it has done was undone" in text
        assert "handle.fork()" in text

    def test_a_sequence_gains_nothing_by_a_retry(self) -> None:
        assert "redrive_useless" in codes(ended(Status.FINALIZE_FAILED, kind=Kind.SEQUENCE))
        assert "redrivable" in codes(ended(Status.FINALIZE_FAILED, kind=Kind.PARENT))

    def test_what_is_being_closed(self) -> None:
        closing = ended(Status.CANCELLED, close_status=CloseStatus.READY, active_children_count=4)
        findings = found(Scene(closing, NOW))
        assert "4 unfinished children" in findings["closing"].text
        assert "No executor is alive" in findings["closing"].advice
        assert found(Scene(closing, NOW, [executor()]))["closing"].advice == ""

    def test_what_waits_for_workflows_that_were_asked_to_end(self) -> None:
        closing = ended(Status.CANCELLED, close_status=CloseStatus.CLOSING, active_children_count=4)
        waiting = found(Scene(closing, NOW))["closing"]
        assert "4 workflows below it were asked to end" in waiting.text
        assert waiting.advice == ""
        held = found(Scene(closing._replace(close_lease_expires_at=NOW), NOW))["closing"]
        assert "4 unfinished children" in held.text

    def test_what_is_outside_the_close_pipeline(self) -> None:
        assert "unclosed" in codes(ended(Status.COMPLETED, close_status=CloseStatus.IDLE))

    def test_a_cancellation_that_its_executor_has_not_noticed(self) -> None:
        assert "not_picked_up" in codes(ended(Status.CANCELLED, needs_cancel=True))


@pytest.mark.parametrize("status", list(Status))
def test_every_status_has_an_explanation(status: Status) -> None:
    assert explain(Scene(record(status=status), NOW))
