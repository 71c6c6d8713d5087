"""durable history, and durable replay."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from durable.cli import main
from durable.execution import Kind
from durable.workflow_rows import Checkpoint, NewEntry
from tests.cli.stage import Stage

BODY = '''
from durable import Durable, WorkflowContext

app = Durable("postgresql://nobody@nowhere.invalid/nothing")


async def charge(amount: int) -> int:
    raise SystemExit("a replay runs no step")


@app.workflow(
    name="flow",
)
async def flow(
    ctx: WorkflowContext,
    amount: int,
) -> int:
    """A text of its own."""
    charged = await ctx.{first}
    return await ctx.step(charge, charged)
'''


@pytest.fixture
def flow(stage: Stage) -> str:
    """A workflow that has charged, and whose second step has failed once."""
    turn = stage.turn(task_name="flow", kind=Kind.WORKFLOW, input='{"amount": 7}')
    error = '{"type": "OSError", "message": "away", "is_retryable": true}'
    entries = (
        NewEntry(1, "code", "0" * 16, None, None, '{"at": "2030-01-01T00:00:00+00:00", "seed": "s"}'),
        NewEntry(2, "step", "charge#1", "70", None, None),
        NewEntry(
            3,
            "attempt",
            "charge#2",
            None,
            error,
            '{"attempt": 1, "delay": 60.0, "first_at": "2030-01-01T00:00:00+00:00"}',
        ),
    )
    stage.storage.checkpoint([Checkpoint(turn.id, turn.fence, entries)]).run()
    return turn.id


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """An app in the working directory whose workflow does first what the test says, or charges."""
    name = f"flows_{abs(hash(request.node.nodeid))}"
    first: str = getattr(request, "param", "step(charge, amount)")
    (tmp_path / f"{name}.py").write_text(BODY.replace("{first}", first), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return f"{name}:app"


def test_history_shows_every_entry(stage: Stage, flow: str) -> None:
    outcome = stage.run("history", flow)
    assert outcome.code == 0
    lines = [line for line in outcome.out.splitlines() if "charge#" in line]
    assert [line.split()[0] for line in lines] == ["2", "3"]
    assert lines[0].rstrip().endswith("70")
    assert "OSError" in lines[1]


def test_replay_says_where_a_workflow_stands_and_runs_no_step(stage: Stage, flow: str, app: str) -> None:
    outcome = stage.run("replay", flow, "--app", app)
    assert outcome.code == 0, outcome.err
    assert "The body waits for step 'charge#2'" in outcome.out
    assert "met, it had failed" in outcome.out
    found = stage.run("replay", flow, "--app", app, "--json").json
    assert (found["problem"], found["waits_for"], found["end"]) == (None, ["step 'charge#2'"], None)


def test_replay_shows_only_what_the_body_hears_of(stage: Stage, flow: str, app: str) -> None:
    said = NewEntry(4, "said", "1", None, None, '{"at": "2030-01-01T00:00:00+00:00", "after": 2, "pieces": 0}')
    record = stage.record(flow)
    stage.storage.checkpoint([Checkpoint(flow, record.fence, (said,))]).run()
    found = stage.run("replay", flow, "--app", app)
    shown = [line.split()[:2] for line in found.out.splitlines() if line.strip()[:1].isdigit()]
    assert shown == [["2", "step"], ["3", "attempt"]]
    assert stage.run("replay", flow, "--app", app, "--json").json["status"] == "running"


def test_replay_looks_where_the_app_does(
    stage: Stage,
    flow: str,
    app: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DURABLE_DSN", "postgresql://nobody@nowhere.invalid/another")
    module = tmp_path / f"{app.partition(':')[0]}.py"
    nowhere = '"postgresql://nobody@nowhere.invalid/nothing"'
    text = module.read_text(encoding="utf-8")
    module.write_text(text.replace(nowhere, f"{stage.dsn!r}, schema={stage.schema!r}"), encoding="utf-8")
    assert main(["replay", flow, "--app", app]) == 0
    assert "The body waits for step 'charge#2'" in capsys.readouterr().out
    assert main(["replay", flow, "--app", app, "--schema", "not_there"]) != 0
    assert "not_there" in capsys.readouterr().err


@pytest.mark.parametrize("app", ["child(flow, amount).with_name('charge')"], indirect=True)
def test_replay_tells_of_an_error_of_the_body(stage: Stage, flow: str, app: str) -> None:
    found = stage.run("replay", flow, "--app", app, "--json").json
    assert found["problem"] is None
    assert found["end"].startswith("AttributeError: ")
    assert found["ignored"] == ["charge#1", "charge#2"]


@pytest.mark.parametrize("app", ["with_options(name='charge').sleep(amount) or amount"], indirect=True)
def test_replay_fails_where_the_code_does_not_fit(stage: Stage, flow: str, app: str) -> None:
    outcome = stage.run("replay", flow, "--app", app)
    assert outcome.code == 1
    assert "It cannot go on with this code: the history has step 'charge#1', the code came to sleep" in outcome.out
    assert "here it does not fit" in outcome.out
    assert "not reached" in outcome.out


def test_an_export_is_replayed_without_the_database(stage: Stage, flow: str, app: str, tmp_path: Path) -> None:
    exported = tmp_path / "flow.json"
    exported.write_text(json.dumps(stage.run("history", flow, "--json").json), encoding="utf-8")
    outcome = stage.run("replay", "--file", str(exported), "--app", app)
    assert "The body waits for step 'charge#2'" in outcome.out
    assert stage.run("replay", "--app", app).code == 2
    assert stage.run("replay", flow, "--file", str(exported), "--app", app).code == 2
    assert stage.run("replay", "--file", str(tmp_path / "none"), "--app", app).code == 2


def test_the_debugger_stops_in_the_body(stage: Stage, flow: str, app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("p amount * 100\nnext\nnext\np charged * 100\nclear\ncontinue\n"))
    outcome = stage.run("replay", flow, "--app", app, "--pdb")
    assert "charged = await ctx.step(charge, amount)" in outcome.out
    assert "700" in outcome.out
    assert "The body waits for step 'charge#2'" in outcome.out


def test_only_workflows_that_are_there_have_a_history(stage: Stage) -> None:
    task = stage.enqueue()
    assert stage.run("history", task).code == 2
    assert stage.run("history", "01900000-0000-7000-8000-00000000ffff").code == 1
