"""The command line as a whole: exit codes, errors in one line, usage, and no password ever."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from durable.cli import COMMANDS, main
from durable.cli.exits import exit_of
from durable.cli.redact import redacted
from durable.errors import ConfigurationError, DurableError, EmbeddedError, SchemaTooNew, SchemaTooOld
from storage_postgres.statements import render
from tests.cli.stage import Stage

READERS = ["list", "counts", "pools", "doctor", "migrate", "show 0", "explain 0", "cancel 0", "retry 0"]


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nobody listens, and nobody will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As a real process, through `python -m durable`."""
    return subprocess.run(
        [sys.executable, "-m", "durable", *arguments],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("command", READERS)
def test_a_database_that_is_not_there_gives_3_and_one_line(
    command: str, closed_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    dsn = f"postgresql://user:secret-word@127.0.0.1:{closed_port}/x"
    assert main([*command.split(), "--dsn", dsn]) == 3
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("durable: the database cannot serve just now")
    assert "secret" not in err


@pytest.mark.parametrize("command", [command for command in READERS if command != "migrate"])
def test_a_schema_that_is_not_installed_gives_4_and_the_way_out(
    command: str, postgres_dsn: str, schema: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command.split(), "--dsn", postgres_dsn, "--schema", schema]) == 4
    assert (
        capsys.readouterr().err
        == f"durable: schema '{schema}' has no durable tables; run: durable migrate --schema {schema}\n"
    )


def test_migrate_installs_the_schema_once(postgres_dsn: str, schema: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["migrate", "--dsn", postgres_dsn, "--schema", schema]
    assert [main(arguments), main(arguments)] == [0, 0]
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"schema {schema}: applied 0001_")
    assert second == f"schema {schema}: up to date"
    assert main(["list", "--dsn", postgres_dsn, "--schema", schema]) == 0


def test_migrate_of_a_schema_of_a_later_library_gives_4(
    stage: Stage, postgres_control: psycopg.Connection[Any]
) -> None:
    postgres_control.execute(render("insert into /*schema*/migrations values (9999, now())", stage.schema))
    outcome = stage.run("migrate")
    assert outcome.code == 4
    assert "upgrade" in outcome.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SchemaTooOld("s", 2, 1), 4),
        (SchemaTooNew("s", 1, 2), 4),
        (EmbeddedError("no binaries"), 3),
        (ConfigurationError("no such thing"), 2),
        (DurableError("anything else"), 1),
    ],
)
def test_every_error_has_its_exit_code(error: DurableError, code: int) -> None:
    assert exit_of(error) == code


def test_a_dsn_that_nobody_serves_gives_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--dsn", "foo://user:secret-word@host/x"]) == 2
    err = capsys.readouterr().err
    assert "foo:" in err
    assert "secret" not in err


@pytest.mark.parametrize(
    ("dsn", "message", "expected"),
    [
        ("postgresql://u:p@ss@host/db", "no host 'ss@host'", "no host '***@host'"),
        ("postgresql://u:pa/ss@host/db", 'invalid port: "pa"', 'invalid port: "***"'),
        ("host=h password='a b' user=u", "wrong: a b", "wrong: ***"),
        ("postgresql://h/db?password=abc&user=u", "wrong: abc", "wrong: ***"),
        ("postgresql://u:postgres@host/db", 'role "postgres" is missing', 'role "postgres" is missing'),
        ("postgresql://u@host/db", "anything", "anything"),
    ],
)
def test_no_part_of_a_password_is_printed(dsn: str, message: str, expected: str) -> None:
    assert redacted(message, dsn) == expected


def test_a_password_that_is_split_in_the_wrong_place_is_not_printed() -> None:
    done = run("list", DURABLE_DSN="postgresql://user:hidden@words@127.0.0.1:1/x")
    assert done.returncode == 3
    assert "words" not in done.stdout + done.stderr


def test_no_command_gives_2_and_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([])
    assert exit_.value.code == 2
    assert "usage: durable" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_and_its_exit_codes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([name, "--help"])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert COMMANDS[name].summary[1:] in " ".join(out.split())
    for code in ("0", "1", "2", "3", "4", "5", "130"):
        assert f"\n  {code} " in out


def test_the_dsn_may_come_from_the_environment(stage: Stage) -> None:
    made = stage.enqueue()
    done = run("show", made, "--schema", stage.schema, "--json", DURABLE_DSN=stage.dsn)
    assert (done.returncode, done.stderr) == (0, "")
    assert made in done.stdout


def test_a_reader_that_goes_away_is_no_error(stage: Stage) -> None:
    for _ in range(3):
        stage.enqueue()
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "durable", "list", "--dsn", stage.dsn, "--schema", stage.schema],
        stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_terminal_that_cannot_show_a_character_is_no_error(stage: Stage) -> None:
    stage.enqueue(task_name="größe")
    done = run("list", "--dsn", stage.dsn, "--schema", stage.schema, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "gr\\xf6\\xdfe" in done.stdout


def test_an_interrupt_gives_130(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("durable.cli.list.opened", interrupt)
    outcome = stage.run("list")
    assert (outcome.code, outcome.err) == (130, "durable: interrupted\n")
