"""Which directory a server gets, and that neither its path nor the environment matters."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from durable.errors import EmbeddedError
from storage_postgres.embedded import account as account_module
from storage_postgres.embedded import home as home_module
from storage_postgres.embedded import start
from storage_postgres.embedded.account import account_for
from storage_postgres.embedded.home import open_home

from .support import query


def close_directory(path: Path) -> Path:
    """One that Postgres cannot have its data below: root's alone, or not writable."""
    path.mkdir()
    path.chmod(0o700 if os.geteuid() == 0 else 0o500)
    return path


@pytest.fixture
def fallbacks(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the directories go that stand for ./.durable."""
    state = place / "state"
    monkeypatch.setattr(home_module, "MACHINE_STATE", state)
    monkeypatch.setattr(home_module, "SHARED_STATE", state)
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    return state


def test_the_path_of_the_directory_does_not_matter(place: Path) -> None:
    """Neither characters that shells and settings read as their own, nor a length that no socket's path may have."""
    root = place / 'it\'s "quoted", with a comma' / ("d" * 150)
    with start(root, durable=False) as server:
        assert server.root == root
        assert query(server.dsn(), "select 1") == 1


def test_locales_and_libpq_variables_in_the_environment_do_not_matter(
    new_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LC_CTYPE", "LANG", "LANGUAGE"):
        monkeypatch.setenv(name, "xx_NOWHERE.UTF-8")
    wrong = {"PGHOST": "192.0.2.1", "PGHOSTADDR": "192.0.2.1", "PGPORT": "5999", "PGUSER": "x", "PGDATABASE": "x"}
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PGDATA", "/nonexistent")
    with start(new_home, durable=False, timeout=20) as server:
        assert query(server.dsn(), "select current_user || ' ' || current_database()") == "postgres postgres"


def test_programs_of_postgres_see_neither(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_TIME", "LANG", "LANGUAGE", "PGOPTIONS"):
        monkeypatch.setenv(name, "xx_NOWHERE.UTF-8")
    monkeypatch.setenv("TZ", "Europe/Lisbon")
    seen = account_for(place).run(["env"]).stdout.splitlines()
    assert [line for line in seen if "LC_" in line or "NOWHERE" in line] == ["LC_ALL=C"]
    assert "TZ=Europe/Lisbon" in seen


def test_the_default_is_a_directory_of_the_checkout(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(place)
    assert open_home(None).path == place / ".durable"
    assert (place / ".durable").is_dir()
    assert not caplog.records


def test_a_checkout_that_postgres_cannot_reach_gets_a_directory_elsewhere(
    place: Path, fallbacks: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkout = close_directory(place / "checkout")
    monkeypatch.chdir(checkout)
    with caplog.at_level(logging.WARNING, "durable.embedded"), start(durable=False) as server:
        assert server.root.is_relative_to(fallbacks)
        assert query(server.dsn(), "select 1") == 1
    assert len(caplog.messages) == 1
    assert str(server.root) in caplog.messages[0]
    assert str(checkout / ".durable") in caplog.messages[0]
    assert not (checkout / ".durable").exists()


def test_each_checkout_finds_its_own_directory_again(
    place: Path, fallbacks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Path] = []
    for name in ("one", "two", "one"):
        if not (place / name).exists():
            close_directory(place / name)
        monkeypatch.chdir(place / name)
        found.append(open_home(None).path)
    assert found[0] == found[2] != found[1]
    assert found[0].is_relative_to(fallbacks)


def test_a_directory_that_cannot_be_written_is_refused_with_advice(place: Path) -> None:
    closed = close_directory(place / "closed")
    with pytest.raises(EmbeddedError, match=r"choose another directory|choose a directory such as"):
        start(closed / "home")


def test_a_user_id_without_a_name_is_explained(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    with pytest.raises(EmbeddedError, match=r"user id 4000000 has no name .*pass a DSN"):
        account_for(place)


def test_root_without_an_unprivileged_user_is_told_so(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(account_module, "UNPRIVILEGED", ("no-such-user",))
    with pytest.raises(EmbeddedError, match="does not run as root, and there is no user no-such-user"):
        account_for(place)
