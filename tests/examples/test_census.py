"""The census counts a small folder rightly, in one process and through the death of an executor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from examples.census.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = 40
SOURCE = '''"""A docstring."""
import os

class A:
    async def f(self): return [x for x in ()]

def g():
    "Another."
    return lambda: {1 for _ in ()}
'''
EXPECTED = {
    "files": FILES, "unparsed": 1, "lines": 9 * (FILES - 1) + 1, "functions": FILES - 1, "async_functions": FILES - 1,
    "lambdas": FILES - 1, "classes": FILES - 1, "imports": FILES - 1, "comprehensions": 2 * (FILES - 1),
    "docstrings": 2 * (FILES - 1),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sources whose counts are known, one of them not Python, and some that are not to be counted."""
    for number in range(FILES - 1):
        path = tmp_path / "code" / f"part{number % 3}" / f"file{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SOURCE)
    (tmp_path / "code" / "broken.py").write_text("this is not\x00 Python\n")
    (tmp_path / "code" / "site-packages").mkdir()
    (tmp_path / "code" / "site-packages" / "installed.py").write_text(SOURCE)
    (tmp_path / "code" / "notes.txt").write_text("no source")
    return tmp_path / "code"


def run(folder: Path, dsn: str, *options: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON object of a census started from another folder."""
    ended = subprocess.run(
        [sys.executable, "-m", "examples.census", str(folder), "--json", *options],
        cwd=folder.parent, env={**os.environ, "PYTHONPATH": str(REPOSITORY), "DURABLE_DSN": dsn},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.stdout, ended.stderr
    return ended.returncode, json.loads(ended.stdout.splitlines()[-1])


def schemas(control: psycopg.Connection[Any]) -> list[Any]:
    return control.execute("select nspname from pg_catalog.pg_namespace where nspname like 'census%'").fetchall()


def test_a_census_retries_a_failing_child_and_counts_as_a_plain_loop_does(
    folder: Path, postgres_dsn: str, postgres_control: psycopg.Connection[Any]
) -> None:
    code, result = run(folder, postgres_dsn, "--fail-once")
    assert code == 0
    assert result["is_equal"]
    assert result["counts"] == result["direct"] == EXPECTED
    (again,) = result["started_again"]
    assert Path(again["path"]).name == "broken.py"
    assert again["attempt"] == 2
    assert again["previous_error"].startswith("FailsOnce")
    assert result["evidence"] == {"children": FILES, "completed": FILES, "delivered_again": 1, "faults": []}
    assert schemas(postgres_control) == []


def test_a_census_survives_the_kill_of_an_executor_and_counts_nothing_twice(
    folder: Path, postgres_dsn: str, postgres_control: psycopg.Connection[Any]
) -> None:
    code, result = run(folder, postgres_dsn, "--crash", "--pause", "0.05")
    crash = result["crash"]
    assert code == 0
    assert result["counts"] == EXPECTED
    assert crash["held"] > 0
    assert crash["recovered"] == crash["held"] == len(result["started_again"]) == result["evidence"]["delivered_again"]
    assert all(again["previous_error"].startswith("lease_expired") for again in result["started_again"])
    assert result["evidence"]["completed"] == FILES
    assert schemas(postgres_control) == []


@pytest.mark.parametrize("count", [0, 10_001])
def test_a_folder_beyond_the_limit_is_refused_before_anything_starts(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(count):
        (tmp_path / f"{number}.py").touch()
    assert main([str(tmp_path), "--dsn", "postgresql://nobody@127.0.0.1:1/none"]) == 1
    shown = capsys.readouterr().out
    assert f"{count:,} Python files" in shown
    assert "10,000" in shown
