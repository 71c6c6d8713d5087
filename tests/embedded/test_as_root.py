"""What root gets: Postgres runs as somebody else, and nobody's directories change for it. Collected as root only."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from durable.errors import EmbeddedError
from storage_postgres.embedded import account as account_module
from storage_postgres.embedded import binaries as binaries_module
from storage_postgres.embedded import home as home_module
from storage_postgres.embedded import start
from storage_postgres.embedded.account import account_for
from storage_postgres.embedded.binaries import choose_binaries, locate_binaries
from storage_postgres.embedded.home import open_home

from .support import ClientAccount, parent_of, query


@pytest.fixture
def private(place: Path) -> Path:
    """A directory that only root can enter, as /root."""
    directory = place / "private"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def copies(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = place / "copies"
    directory.mkdir()
    monkeypatch.setattr(binaries_module, "COPIES", directory)
    return directory


def test_postgres_runs_unprivileged_and_its_watcher_as_root(home: Path) -> None:
    with start(home, durable=False) as server:
        account = account_for(home)
        assert Path(f"/proc/{server.pid()}").stat().st_uid == account.uid != 0
        assert Path(f"/proc/{parent_of(server.pid())}").stat().st_uid == 0


def test_the_account_cannot_write_to_locks_and_log(home: Path) -> None:
    with start(home, durable=False):
        for path in (home, *home.glob("*.lock"), home / "server.log"):
            found = path.stat()
            assert found.st_uid == 0
            assert not found.st_mode & 0o022


def test_a_directory_out_of_reach_is_refused_and_nothing_is_opened_for_it(private: Path) -> None:
    with pytest.raises(
        EmbeddedError, match=r"cannot be reached by the user .* choose a directory such as /var/lib/durable"
    ):
        start(private / "home")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert not (private / "home").exists()


def test_a_directory_of_another_user_is_left_to_that_user(
    place: Path, ordinary_account: ClientAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = place / ".durable"
    foreign.mkdir()
    os.chown(foreign, ordinary_account.uid or -1, ordinary_account.gid or -1)
    with pytest.raises(EmbeddedError, match="belongs to another user"):
        start(foreign)
    monkeypatch.chdir(place)
    monkeypatch.setattr(home_module, "MACHINE_STATE", place / "state")
    assert open_home(None).path.parent == place / "state"
    assert list(foreign.iterdir()) == []


def test_a_link_that_somebody_else_planted_is_not_followed(
    place: Path, ordinary_account: ClientAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = place / "target"
    target.mkdir()
    link = place / ".durable"
    link.symlink_to(target)
    monkeypatch.chdir(place)
    monkeypatch.setattr(home_module, "MACHINE_STATE", place / "state")
    assert open_home(None).path == target
    os.chown(link, ordinary_account.uid or -1, -1, follow_symlinks=False)
    assert open_home(None).path.parent == place / "state"


def test_programs_out_of_reach_are_copied_once(
    new_home: Path, private: Path, copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = choose_binaries(locate_binaries(), account_for(new_home)).directory.parent
    package = private / install.parent.name
    shutil.copytree(install, package / install.name, symlinks=True)
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, private / libraries.name)
    (package / install.name / "share").chmod(0o700)
    monkeypatch.setenv("DURABLE_PG_BIN", str(package / install.name / "bin"))
    with start(new_home, durable=False) as server:
        assert query(server.dsn(), "select 1") == 1
    assert choose_binaries(locate_binaries(), account_for(new_home)).directory.is_relative_to(copies)
    assert len(list(copies.iterdir())) == 1
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_a_copy_that_root_did_not_make_is_refused(
    home: Path, private: Path, copies: Path, ordinary_account: ClientAccount
) -> None:
    programs = private / "supplier" / "install" / "bin"
    programs.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        (programs / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 18.1'\n")
        (programs / name).chmod(0o755)
    copied = choose_binaries([programs], account_for(home)).directory
    planted = copies / copied.relative_to(copies).parts[0]
    os.chown(planted, ordinary_account.uid or -1, -1)
    with pytest.raises(EmbeddedError, match="was made by somebody else than root"):
        choose_binaries([programs], account_for(home))


def test_the_owner_of_existing_data_goes_on_serving_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_module, "UNPRIVILEGED", ("nobody",))
    with start(home, durable=False):
        first = account_for(home)
    monkeypatch.setattr(account_module, "UNPRIVILEGED", ("daemon",))
    assert account_for(home) == first
