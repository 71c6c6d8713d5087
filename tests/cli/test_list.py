"""durable list."""

from __future__ import annotations

import pytest

from durable.transitions import fail
from tests.cli.stage import Stage


def ids(stage: Stage, *arguments: str) -> list[str]:
    outcome = stage.run("list", "--json", *arguments)
    assert outcome.code == 0, outcome.err
    return [record["id"] for record in outcome.json]


def states(stage: Stage) -> list[str]:
    return [record["state"] for record in stage.run("list", "--json").json]


def test_list_gives_the_newest_first(stage: Stage) -> None:
    made = [stage.enqueue() for _ in range(3)]
    assert ids(stage) == made[::-1]


def test_list_pages_with_limit_and_before(stage: Stage) -> None:
    made = [stage.enqueue() for _ in range(5)]
    assert ids(stage, "--limit", "2") == [made[4], made[3]]
    assert ids(stage, "--limit", "2", "--before", made[3]) == [made[2], made[1]]
    assert f"--before {made[3]}" in stage.run("list", "--limit", "2").out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--status", "failed"), ["failed"]),
        (("--status", "failed", "--status", "completed"), ["completed", "failed"]),
        (("--task", "other"), ["other"]),
        (("--queue", "mail"), ["mail"]),
        (("--roots", "--status", "ready"), ["mail", "other"]),
    ],
)
def test_list_shows_only_what_was_asked_for(stage: Stage, arguments: tuple[str, ...], expected: list[str]) -> None:
    made = {
        "failed": stage.failed(),
        "completed": stage.completed(),
        "other": stage.enqueue(task_name="other"),
        "mail": stage.enqueue(queue="mail"),
    }
    stage.family(1)
    assert ids(stage, *arguments) == [made[name] for name in expected]


def test_list_derives_when_a_delayed_execution_is_ready(stage: Stage) -> None:
    stage.enqueue(delay=30.0)
    assert states(stage) == ["ready (in 30 s)"]
    stage.advance(30)
    assert states(stage) == ["ready"]


def test_list_derives_which_attempt_is_retried_and_when(stage: Stage) -> None:
    turn = stage.turn(max_attempts=5)
    stage.settle(fail(turn, '{"type": "ValueError", "message": "no"}', retry_delay=0.0))
    (turn,) = stage.claim()
    stage.settle(fail(turn, '{"type": "ValueError", "message": "no"}', retry_delay=2.0))
    assert states(stage) == ["retrying (attempt 3 of 5, in 2 s)"]


def test_list_derives_what_is_left_of_a_lease_by_the_storage_s_clock(stage: Stage) -> None:
    stage.turn()
    stage.advance(3)
    assert states(stage) == ["running (lease 12 s left)"]
    stage.advance(20)
    assert states(stage) == ["running (lease ran out 8 s ago)"]


def test_list_for_people_has_id_status_task_and_error(stage: Stage) -> None:
    failed = stage.failed()
    (line,) = [line for line in stage.run("list").out.splitlines() if failed in line]
    assert line.split() == [failed, "failed", "task", "default", "0", "ms", "0", "ms", "ValueError:", "no"]


def test_list_shows_text_of_the_database_as_it_is(stage: Stage) -> None:
    stage.failed('{"type": "E", "message": "[bold]a[/bold] \\u001b[31m\\n:smile:"}')
    out = stage.run("list").out
    assert "[bold]a[/bold]  [31m :smile:" in out
    assert "\x1b" not in out


def test_list_json_holds_no_payload(stage: Stage) -> None:
    stage.completed('"the output"', input='"the input"')
    outcome = stage.run("list", "--json")
    assert "the input" not in outcome.out
    assert "the output" not in outcome.out


def test_list_of_nothing_is_ok(stage: Stage) -> None:
    assert stage.run("list").out == "no executions\n"
    assert stage.run("list", "--json").json == []


@pytest.mark.parametrize(
    "arguments", [("--limit", "0"), ("--limit", "x"), ("--before", "nonsense"), ("--status", "gone")]
)
def test_list_refuses_options_that_mean_nothing(stage: Stage, arguments: tuple[str, str]) -> None:
    outcome = stage.run("list", *arguments)
    assert outcome.code == 2
    assert arguments[0] in outcome.err
