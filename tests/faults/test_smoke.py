"""The fault runs in small: that they still find their faults, and that no promise is broken by a few of them."""

import json
from typing import Any

import pytest

from tests.faults.__main__ import main


def run(dsn: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The report of a run that must not fail."""
    code = main([*arguments, "--dsn", dsn, "--json"])
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (code, report["problems"]) == (0, [])
    return report


def test_killed_executors_lose_and_double_nothing(postgres_dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(postgres_dsn, capsys, "kill", "--executions", "150", "--kills", "2")
    assert (report["executions"], report["kills"]) == (150, 2)
    assert report["interrupted"] >= 2
    assert (report["lost"], report["duplicated_results"], report["open_after_60s"]) == (0, 0, 0)


def test_thawed_executors_write_nothing_of_what_others_hold(
    postgres_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(postgres_dsn, capsys, "freeze", "--reclaims", "6")
    assert (report["reclaimed_while_frozen"], report["late_writes_accepted"], report["lost"]) == (6, 0, 0)
    by_verb = report["late_writes_refused_by_verb"]
    assert {"heartbeat", "completed", "failed", "retry", "spawn", "repeat or release"} <= by_verb.keys()


def test_jobs_of_killed_executors_lose_and_double_nothing(
    postgres_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(
        postgres_dsn, capsys, "jobs", "--instances", "30", "--seconds", "2", "--least-kills", "2", "--rate", "30"
    )
    assert set(report["violations"].values()) == {0}
    assert report["kills"] >= 2
    assert (report["lost"], report["open_after_60s"]) == (0, 0)
    assert report["turns"] > 30
    assert report["events"] > 20


def test_workflows_of_killed_and_frozen_executors_do_each_step_once(
    postgres_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(postgres_dsn, capsys, "workflows", "--workflows", "60", "--kills", "2", "--freezes", "1")
    assert set(report["violations"].values()) == {0}
    assert (report["workflows"], report["kills"], report["freezes"], report["lost"]) == (60, 2, 1, 0)
    assert report["interrupted"] >= 2
    assert report["taken_over"] >= 1
