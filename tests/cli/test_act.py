"""durable cancel, durable retry and durable doctor."""

from __future__ import annotations

from uuid import uuid4

import pytest

from durable.execution import CloseStatus, Kind, Phase, Status
from durable.explain import redrive_refusal
from durable.transitions import fail, spawn
from tests.cli.stage import Stage

UNKNOWN = "01900000-0000-7000-8000-00000000ffff"


class TestCancel:
    def test_cancel_ends_what_was_named_and_says_what_it_was(self, stage: Stage) -> None:
        ready, running = stage.enqueue(), stage.turn(task_name="busy").id
        outcome = stage.run("cancel", ready, running, "--reason", "no longer wanted", "--json")
        assert outcome.code == 0
        assert [(item["id"], item["status_before"], item["is_cancelled"]) for item in outcome.json] == [
            (ready, "ready", True),
            (running, "running", True),
        ]
        assert stage.record(ready).reason == "no longer wanted"
        assert stage.record(running).status is Status.CANCELLED

    def test_cancel_closes_the_whole_tree_without_an_executor(self, stage: Stage) -> None:
        top, _ = stage.family(2)
        turn = stage.claim("child")[0]
        (grandchild,) = stage.make.children(turn, 1, task_name="grandchild")
        stage.settle(spawn(turn, None, (grandchild,)))
        assert stage.run("cancel", top).code == 0
        assert stage.record(grandchild.id).status is Status.CANCELLED
        assert stage.record(top).close_status is CloseStatus.CLOSED

    def test_cancel_leaves_what_has_ended_and_gives_1(self, stage: Stage) -> None:
        done = stage.completed()
        outcome = stage.run("cancel", done)
        assert outcome.code == 1
        assert "nothing to cancel: it had ended as completed" in outcome.out

    def test_cancel_twice_is_ok(self, stage: Stage) -> None:
        ready = stage.enqueue()
        assert [stage.run("cancel", ready).code for _ in range(2)] == [0, 0]

    def test_cancel_does_the_others_when_one_is_unknown(self, stage: Stage) -> None:
        ready = stage.enqueue()
        outcome = stage.run("cancel", UNKNOWN, "nonsense", ready)
        assert outcome.code == 1
        assert outcome.out.count("there is no such execution") == 2
        assert stage.record(ready).status is Status.CANCELLED

    def test_cancel_force_ends_a_workflow_without_asking_it(self, stage: Stage) -> None:
        turn = stage.turn(kind=Kind.WORKFLOW)
        assert stage.run("cancel", turn.id).code == 0
        assert stage.record(turn.id).status is Status.RUNNING
        assert stage.run("cancel", turn.id, "--force").code == 0
        assert stage.record(turn.id).status is Status.CANCELLED
        assert stage.run("cancel", turn.id, "--force", "--finish").code == 2


class TestForce:
    def test_a_workflow_is_asked_to_end_and_with_force_ended(self, stage: Stage) -> None:
        flow = stage.make.row(task_name="flow", kind=Kind.WORKFLOW)
        stage.storage.enqueue([flow]).run()
        stage.claim("flow")
        outcome = stage.run("cancel", flow.id)
        assert (outcome.code, "a workflow: it was asked to end" in outcome.out) == (0, True)
        assert stage.record(flow.id).status is Status.RUNNING
        assert stage.run("cancel", flow.id, "--force").code == 0
        assert stage.record(flow.id).status is Status.CANCELLED


class TestFinish:
    def test_cancel_finish_lets_a_running_one_go_on(self, stage: Stage) -> None:
        turn, queued = stage.turn(), stage.enqueue(task_name="other")
        outcome = stage.run("cancel", turn.id, queued, "--finish", "--json")
        assert outcome.code == 0
        assert [item["text"] for item in outcome.json] == [
            "it runs, and will not be run again",
            "cancelled; it was ready",
        ]
        assert stage.record(turn.id).status is Status.RUNNING
        assert "not to be run again" in stage.run("show", turn.id).out
        assert stage.run("cancel", turn.id, "--finish").code == 0


class TestRetry:
    def test_retry_makes_a_failure_ready(self, stage: Stage) -> None:
        failed = stage.failed()
        outcome = stage.run("retry", failed, "--json")
        assert (outcome.code, outcome.json[0]["is_ready"]) == (0, True)
        assert stage.record(failed).status is Status.READY

    def test_retry_says_why_it_was_refused(self, stage: Stage) -> None:
        parent, (child,) = stage.family(1)
        (turn,) = stage.claim("child")
        sleeper = stage.make.sleeper("door")
        stage.storage.enqueue([sleeper]).run()
        stage.storage.cancel([turn.id, sleeper.id], reason="r").run()
        refusals = {
            stage.enqueue(): "it has not finished, it is ready",
            stage.completed(task_name="other"): "it completed, there is nothing to retry",
            child: f"its parent {parent} has already counted its end",
            sleeper.id: "a sleeping task has nothing to run",
            UNKNOWN: "there is no such execution",
        }
        outcome = stage.run("retry", *refusals, "--json")
        assert outcome.code == 1
        assert [item["is_ready"] for item in outcome.json] == [False] * 5
        for item, expected in zip(outcome.json, refusals.values(), strict=True):
            assert expected in item["text"]

    def test_retry_refuses_a_parent_that_has_children(self, stage: Stage) -> None:
        parent, _ = stage.family(1)
        assert stage.run("cancel", parent).code == 0
        assert "it has children; enqueue it anew" in stage.run("retry", parent).out

    def test_retry_refuses_what_is_not_closed_yet(self, stage: Stage) -> None:
        parent, _ = stage.family(1)
        stage.storage.cancel([parent], reason="r").run()
        assert "it is not closed yet; try again" in stage.run("retry", parent).out

    def test_retry_takes_a_lost_finalize_up_again(self, stage: Stage) -> None:
        parent, (child,) = stage.family(1)
        stage.run("cancel", child)
        (turn,) = stage.claim("parent")
        stage.settle(fail(turn, '{"type": "E", "message": "m"}', retry_delay=None))
        assert stage.record(parent).status is Status.FINALIZE_FAILED
        assert stage.run("retry", parent).code == 0
        assert (stage.record(parent).status, stage.record(parent).phase) == (Status.READY, Phase.CHILDREN)


class TestDoctor:
    def test_doctor_finds_nothing_in_a_sound_schema(self, stage: Stage) -> None:
        stage.family(2)
        stage.failed()
        outcome = stage.run("doctor")
        assert (outcome.code, outcome.out) == (0, "no defects\n")

    def test_doctor_lists_defects_and_leaves_them(self, stage: Stage) -> None:
        parent, _ = stage.family(2)
        stage.tamper(parent, active_children_count=5)
        outcome = stage.run("doctor", "--json")
        assert outcome.code == 5
        assert [(defect["id"], defect["kind"]) for defect in outcome.json["left"]] == [(parent, "count")]
        assert stage.record(parent).active_children_count == 5
        assert "can be mended" in stage.run("doctor").out

    def test_doctor_mends_what_can_be_mended(self, stage: Stage) -> None:
        parent, _ = stage.family(2)
        stage.tamper(parent, active_children_count=5)
        outcome = stage.run("doctor", "--mend")
        assert outcome.code == 0
        assert "1 found, 1 mended, 0 left" in outcome.out
        assert stage.record(parent).active_children_count == 2

    def test_doctor_gives_5_for_what_it_cannot_mend(self, stage: Stage) -> None:
        spoiled, orphan = stage.enqueue(), stage.enqueue(task_name="other")
        stage.tamper(spoiled, input="not json")
        stage.tamper(orphan, parent_id=uuid4())
        outcome = stage.run("doctor", "--mend", "--json")
        assert outcome.code == 5
        assert [defect["id"] for defect in outcome.json["mended"]] == [orphan]
        assert [defect["id"] for defect in outcome.json["left"]] == [spoiled]
        assert stage.record(orphan).status is Status.CANCELLED

    def test_doctor_mends_more_than_one_batch(self, stage: Stage) -> None:
        made = [stage.enqueue() for _ in range(120)]
        for id_ in made:
            stage.tamper(id_, active_children_count=1)
        outcome = stage.run("doctor", "--mend", "--json")
        assert outcome.code == 0
        assert len(outcome.json["mended"]) == 120

    def test_doctor_stops_at_its_limit_and_says_so(self, stage: Stage) -> None:
        for _ in range(3):
            stage.tamper(stage.enqueue(), active_children_count=1)
        assert "2 found, 0 mended, 2 or more left" in stage.run("doctor", "--limit", "2").out


@pytest.mark.parametrize("kind", list(Kind))
def test_what_retry_does_is_what_the_storage_allows(stage: Stage, kind: Kind) -> None:
    """The reason given and the storage's own rule agree for every kind, status and close status."""
    made = stage.enqueue()
    finished = {"finished_at": stage.now(), "attempts": 1}
    for status in (Status.FAILED, Status.TIMED_OUT, Status.FINALIZE_FAILED, Status.CANCELLED, Status.COMPLETED):
        for close_status in CloseStatus:
            for children in (0, 2):
                stage.tamper(
                    made, kind=str(kind), status=str(status), close_status=str(close_status),
                    children_count=children, **finished,
                )  # fmt: skip
                refusal = redrive_refusal(stage.record(made))
                assert (stage.storage.redrive([made]).run() == [made]) is (refusal is None), (status, close_status)
