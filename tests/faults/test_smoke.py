"""The fault commands in small, and that they fail where they should."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.__main__ import freeze_failures, kill_failures

ROOT = Path(__file__).parents[2]


def figures_of(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", *arguments, "--json"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def test_work_survives_killed_processes() -> None:
    figures = figures_of("kill", "--executions", "250", "--kills", "2")
    assert figures["kills"] >= 2
    assert (figures["lost"], figures["duplicated_results"], figures["open_after_60s"]) == (0, 0, 0)


def test_a_thawed_process_changes_nothing() -> None:
    figures = figures_of("freeze", "--reclaims", "5")
    assert figures["reclaimed_while_frozen"] >= 5
    assert figures["late_writes_refused"] >= 5 * 7
    assert figures["late_writes_accepted"] == 0


GOOD_KILL = {"executions": 10, "kills": 2, "interrupted": 4, "lost": 0, "duplicated_results": 0, "open_after_60s": 0}
GOOD_FREEZE = {"reclaimed_while_frozen": 5, "late_writes_refused": 35, "late_writes_accepted": 0, "lost": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"lost": 1},
        {"duplicated_results": 1},
        {"open_after_60s": 1},
        {"kills": 1},
        {"interrupted": 1},
        {"executions": 9},
    ],
)
def test_a_kill_run_fails_for_each_broken_promise_and_for_too_few_faults(change: dict[str, int]) -> None:
    assert kill_failures(GOOD_KILL, 10, 2) == []
    assert kill_failures(GOOD_KILL | change, 10, 2)


@pytest.mark.parametrize(
    "change", [{"late_writes_accepted": 1}, {"lost": 1}, {"reclaimed_while_frozen": 4}, {"late_writes_refused": 0}]
)
def test_a_freeze_run_fails_for_each_broken_promise_and_for_too_few_faults(change: dict[str, int]) -> None:
    assert freeze_failures(GOOD_FREEZE, 5) == []
    assert freeze_failures(GOOD_FREEZE | change, 5)
