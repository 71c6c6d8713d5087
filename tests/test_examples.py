"""Every example runs, and so does every piece of code in the README, as a reader would run it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from storage_postgres import PostgresStorage
from tests.embedded.support import is_gone, wait_until
from tests.support.sources import ROOT

EXAMPLES: Final = ROOT / "examples"
FIRST_OUTPUT: Final = """\
one task: 800
a tree: Quote(order='order-42', grams=2750, euros=6.75)
its children: [400, 150, 2200]
the same key is the same execution: """
MODULES: Final = {
    "agent": "the text has 'Postgres' ",
    "health_checker": "alert for on-call: database is up again",
    "mail_pool": "40 mails in ",
    "nightly_import": "9900 rows imported, 2 slices refused; ",
    "order_saga": "bob stays at home: ",
    "order_state_machine": "to ada: did lamp arrive?",
    "refund_approval": "lamp: granted by alice",
    "reminders": "to ada: your table is at seven",
    "subscription_billing": "ada paid 20.00 for month 12",
    "token_refresher": "bob: the customer is gone, after ",
    "webhook_batcher": "bob: 1 of its changes, by flush_after: {'city': 'London'}",
}
"""Examples that are run as modules, and how a line begins that each prints; tests/examples asserts their results."""


def readme_blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(script: Path, **environment: str) -> str:
    """What a script prints, run in its own folder with warnings as errors."""
    return run_python(script.parent, script.name, **environment)


def run_python(folder: Path, *arguments: str, **environment: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture
def migrated_dsn(postgres_dsn: str) -> str:
    """A database with the tables where an app looks for them by default."""
    PostgresStorage(postgres_dsn).migrate()
    return postgres_dsn


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """A folder that an embedded server of any user can reach, without a server when it is left."""
    folder = Path(tempfile.mkdtemp(prefix="durable-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    wait_until(lambda: is_gone(folder / ".durable"))
    shutil.rmtree(folder)


def test_every_example_is_run_by_a_test() -> None:
    scripts = {path.stem for path in EXAMPLES.glob("*.py")} - {"__init__"}
    programs = {path.parent.name for path in EXAMPLES.glob("*/__main__.py")}

    assert scripts == {"first", *MODULES}
    assert {name for name in programs if not (ROOT / "tests" / "examples" / f"test_{name}.py").exists()} == set()


def test_the_first_example_runs_on_an_embedded_server_and_again_on_what_it_left(own_folder: Path) -> None:
    script = Path(shutil.copy(EXAMPLES / "first.py", own_folder))

    first, again = run(script, DURABLE_DSN=""), run(script, DURABLE_DSN="")

    assert first.startswith(FIRST_OUTPUT)
    assert again == first


def test_every_other_example_runs_as_its_docstring_says(own_folder: Path) -> None:
    lines: dict[str, str] = {}
    for name in MODULES:
        assert f"`python -m examples.{name}`" in (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
        lines[name] = run_python(own_folder, "-m", f"examples.{name}", DURABLE_DSN="", PYTHONPATH=str(ROOT))

    assert {name: text for name, text in lines.items() if f"\n{MODULES[name]}" not in f"\n{text}"} == {}


def test_every_example_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert {name for name in MODULES if f"| [{name}](examples/{name}.py) |" not in readme} == set()


def test_the_readme_shows_the_first_example_as_it_is() -> None:
    assert readme_blocks("python")[0] == (EXAMPLES / "first.py").read_text(encoding="utf-8")


def test_all_python_in_the_readme_runs(tmp_path: Path, migrated_dsn: str) -> None:
    blocks = readme_blocks("python")
    names = ["first", *(f"block{number}" for number in range(1, len(blocks)))]
    scripts = [tmp_path / f"{name}.py" for name in names]
    for script, block in zip(scripts, blocks, strict=True):
        script.write_text(block, encoding="utf-8")

    outputs = [run(script, DURABLE_DSN=migrated_dsn) for script in scripts]

    assert len(outputs) >= 3
    assert all(outputs)


def test_the_commands_in_the_readme_are_those_of_dev() -> None:
    shown = {command for block in readme_blocks("sh") for command in re.findall(r"\./dev (\w+)", block)}
    usage = subprocess.run([ROOT / "dev", "help"], capture_output=True, text=True, check=True).stdout

    assert {"demo", "test"} <= shown
    assert {command for command in shown if not re.search(rf"^  {command}\s", usage, re.MULTILINE)} == set()


@pytest.mark.parametrize("arguments", [["nonsense"], ["check", "--nonsense"]])
def test_dev_refuses_what_it_does_not_know_and_says_so(arguments: list[str]) -> None:
    ended = subprocess.run([ROOT / "dev", *arguments], capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert "dev: " in ended.stderr.splitlines()[-1]
