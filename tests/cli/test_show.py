"""durable show."""

from __future__ import annotations

from durable.transitions import complete, spawn
from tests.cli.stage import Stage

UNKNOWN = "01900000-0000-7000-8000-00000000ffff"


def test_show_gives_the_tree_in_child_order(stage: Stage) -> None:
    parent, children = stage.family(3)
    outcome = stage.run("show", parent)
    assert outcome.code == 0
    lines = [line for line in outcome.out.splitlines() if "child " in line]
    assert [line.split()[3] for line in lines] == children
    assert "waiting_for_children (3 left)  parent" in outcome.out


def test_show_json_nests_the_children(stage: Stage) -> None:
    parent, children = stage.family(2)
    tree = stage.run("show", parent, "--json").json
    assert tree["id"] == parent
    assert tree["status"] == "waiting_for_children"
    assert [child["id"] for child in tree["children"]] == children
    assert [child["parent_id"] for child in tree["children"]] == [parent, parent]
    assert tree["left_out_children_count"] == 0


def test_show_goes_down_every_level(stage: Stage) -> None:
    top, (middle,) = stage.family(1)
    (turn,) = stage.claim("child")
    rows = stage.make.children(turn, 2, task_name="grandchild")
    stage.settle(spawn(turn, None, rows))
    tree = stage.run("show", top, "--json").json
    assert tree["children"][0]["id"] == middle
    assert [child["id"] for child in tree["children"][0]["children"]] == [row.id for row in rows]


def test_show_says_how_many_it_left_out_and_keeps_what_is_unfinished(stage: Stage) -> None:
    parent, children = stage.family(6)
    done = stage.claim("child")[:4]
    stage.settle(*(complete(turn, "1") for turn in done))
    left = [child for child in children if child not in {turn.id for turn in done}]
    tree = stage.run("show", parent, "--limit", "3", "--json").json
    assert [child["id"] for child in tree["children"]] == left
    assert tree["left_out_children_count"] == 4
    assert "… and 4 more" in stage.run("show", parent, "--limit", "3").out


def test_show_leaves_deeper_levels_out_where_there_is_no_room(stage: Stage) -> None:
    parent, _ = stage.family(2)
    tree = stage.run("show", parent, "--limit", "1", "--json").json
    assert (tree["children"], tree["left_out_children_count"]) == ([], 2)


def test_show_counts_its_limit_over_all_levels(stage: Stage) -> None:
    top, _ = stage.family(2)
    turns = stage.claim("child")
    stage.settle(*(spawn(turn, None, stage.make.children(turn, 2, task_name="leaf")) for turn in turns))
    branches = stage.run("show", top, "--limit", "4", "--json").json["children"]
    assert [len(branch["children"]) for branch in branches] == [1, 0]
    assert [branch["left_out_children_count"] for branch in branches] == [1, 2]


def test_show_gives_payloads_only_on_demand(stage: Stage) -> None:
    done = stage.completed('{"b": 2}', input='{"a": 1}')
    silent = stage.run("show", done)
    assert '"a"' not in silent.out
    assert "payloads" not in stage.run("show", done, "--json").json
    assert '{"a": 1}' in stage.run("show", done, "--payloads").out
    assert stage.run("show", done, "--payloads", "--json").json["payloads"] == {"input": {"a": 1}, "output": {"b": 2}}


def test_show_gives_the_traceback_with_the_payloads(stage: Stage) -> None:
    failed = stage.failed('{"type": "ValueError", "message": "no", "traceback": "Traceback\\n  line 7"}')
    assert "line 7" not in stage.run("show", failed).out
    assert "\n  line 7" in stage.run("show", failed, "--payloads").out


def test_show_does_not_choke_on_payloads_it_cannot_read(stage: Stage) -> None:
    sealed = stage.failed("~codec:aGk=", input="~codec:aGk=")
    tree = stage.run("show", sealed, "--payloads", "--json").json
    assert tree["payloads"]["input"] == "~codec:aGk="
    assert tree["error"]["type"] == "sealed"


def test_show_of_what_ended_without_a_result_gives_1(stage: Stage) -> None:
    outcome = stage.run("show", stage.failed())
    assert outcome.code == 1
    assert "ValueError: no" in outcome.out
    assert stage.run("show", stage.completed()).code == 0


def test_show_of_an_unknown_id_gives_1_and_one_line(stage: Stage) -> None:
    for unknown in (UNKNOWN, "nonsense"):
        outcome = stage.run("show", unknown)
        assert (outcome.code, outcome.out) == (1, "")
        assert outcome.err == f"durable: there is no execution '{unknown}'\n"


def test_show_takes_an_id_in_any_form(stage: Stage) -> None:
    made = stage.enqueue()
    assert stage.run("show", made.upper().replace("-", ""), "--json").json["id"] == made
