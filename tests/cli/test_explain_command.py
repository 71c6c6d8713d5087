"""durable explain and durable counts: what they read."""

from __future__ import annotations

from durable.execution import Kind
from durable.transitions import complete, spawn
from tests.cli.stage import Stage


def codes(explanation: dict[str, list[dict[str, str]]]) -> list[str]:
    return [finding["code"] for finding in explanation["findings"]]


def test_explain_judges_by_the_storage_s_clock_and_the_executors_that_announced_themselves(stage: Stage) -> None:
    made = stage.enqueue()
    assert codes(stage.run("explain", made, "--json").json) == ["no_executor"]
    stage.announce()
    assert codes(stage.run("explain", made, "--json").json) == ["claimable"]
    stage.announce(running=10)
    assert codes(stage.run("explain", made, "--json").json) == ["slots_busy"]
    stage.advance(61)
    assert codes(stage.run("explain", made, "--json").json) == ["no_executor"]


def test_explain_follows_the_first_unfinished_child_down(stage: Stage) -> None:
    top, children = stage.family(3)
    first, second, _ = stage.claim("child")
    stage.settle(complete(first, "1"), spawn(second, None, stage.make.children(second, 1, task_name="leaf")))
    stage.announce(task_names=("other",))
    explanation = stage.run("explain", top, "--json").json
    assert codes(explanation) == ["waiting_for_children"]
    assert [child["id"] for child in explanation["unfinished_children"]] == children[1:]
    middle = explanation["first_unfinished_child"]
    assert (middle["id"], codes(middle)) == (children[1], ["waiting_for_children"])
    leaf = middle["first_unfinished_child"]
    assert (leaf["task_name"], codes(leaf), leaf["first_unfinished_child"]) == ("leaf", ["no_executor_for_task"], None)


def test_explain_for_people_says_what_to_do(stage: Stage) -> None:
    outcome = stage.run("explain", stage.enqueue(queue="mail"))
    assert outcome.code == 0
    assert [line.strip() for line in outcome.out.splitlines()[1:]] == [
        "No executor is alive.",
        "→ Start one: durable executor module:app --queue mail",
    ]


def test_explain_names_what_a_sleeping_task_waits_for(stage: Stage) -> None:
    sleeper = stage.make.sleeper("the door", timeout=60.0)
    stage.storage.enqueue([sleeper]).run()
    assert "wake-up of 'task' with the id 'the door'" in stage.run("explain", sleeper.id).out


def test_explain_of_a_failure_gives_1_and_the_way_to_retry(stage: Stage) -> None:
    failed = stage.failed()
    outcome = stage.run("explain", failed)
    assert outcome.code == 1
    assert "ValueError: no" in outcome.out
    assert f"durable retry {failed}" in outcome.out


def test_explain_of_an_unknown_id_gives_1(stage: Stage) -> None:
    outcome = stage.run("explain", "01900000-0000-7000-8000-00000000ffff")
    assert (outcome.code, outcome.out) == (1, "")


def test_counts_gives_queues_by_status_and_live_executors(stage: Stage) -> None:
    for _ in range(2):
        stage.enqueue()
    stage.turn(queue="mail", kind=Kind.PARENT)
    stage.completed(queue="done")
    stage.announce("old", queues=("forgotten",))
    stage.advance(61)
    stage.announce("new", queues=("default", "idle"), running=3)
    found = stage.run("counts", "--json").json
    assert {queue: {k: v for k, v in row.items() if v} for queue, row in found["queues"].items()} == {
        "default": {"ready": 2},
        "idle": {},
        "mail": {"running": 1},
    }
    assert [(row["id"], row["running"], row["queues"]) for row in found["executors"]] == [
        ("new", 3, ["default", "idle"])
    ]


def test_counts_for_people_is_also_called_status(stage: Stage) -> None:
    stage.enqueue()
    stage.announce(running=3)
    outcome = stage.run("status")
    assert outcome.code == 0
    rows = [line.split() for line in outcome.out.splitlines()]
    assert ["default", "1", "0", "0", "0", "0", "1"] in rows
    assert ["executor-a", "default", "3", "of", "10", "1", "0", "ms", "0", "ms", "ago"] in rows


def test_counts_says_when_there_is_nothing(stage: Stage) -> None:
    assert stage.run("counts").out == "no unfinished executions\nno executor is alive\n"
