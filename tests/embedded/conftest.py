"""Directories that every user can reach, and clients that run as this user and, under root, as an ordinary one."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage_postgres.embedded import start

from .support import (
    CLIENT,
    Client,
    ClientAccount,
    find_ordinary_account,
    find_processes_of,
    is_gone,
    kill_all,
    wait_until,
)

IS_ROOT = os.geteuid() == 0
collect_ignore = [] if IS_ROOT else ["test_as_root.py"]

Spawn = Callable[..., Client]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that Postgres can reach under every account; pytest's own are closed to others."""
    directory = Path(tempfile.mkdtemp(prefix="durable-test-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    kill_all(directory)
    wait_until(lambda: not find_processes_of(directory))
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def new_home(place: Path) -> Path:
    """The directory of a server that has never run; it does not exist yet."""
    return place / "home"


@pytest.fixture(scope="session")
def stopped_home() -> Iterator[Path]:
    """A server's directory to copy: making one takes longer than most tests."""
    directory = Path(tempfile.mkdtemp(prefix="durable-test-", dir="/var/tmp"))
    directory.chmod(0o755)
    original = directory / "home"
    start(original, durable=False).release()
    wait_until(lambda: is_gone(original))
    for left in [*original.glob("*.lock"), original / "server.log", *original.glob("pg*/postmaster.opts")]:
        left.unlink()
    yield original
    shutil.rmtree(directory)


@pytest.fixture
def home(place: Path, stopped_home: Path) -> Path:
    """The directory of a server that has been initialised and does not run."""
    subprocess.run(["cp", "-R", "-p", stopped_home, place], check=True)
    return place / "home"


@pytest.fixture(scope="session")
def ordinary_account() -> ClientAccount:
    nobody = pwd.getpwnam("nobody")
    return find_ordinary_account(nobody.pw_uid, nobody.pw_gid)


@pytest.fixture(params=["this_user", "ordinary_user"] if IS_ROOT else ["this_user"])
def account(request: pytest.FixtureRequest) -> ClientAccount:
    if request.param == "this_user":
        return ClientAccount()
    found: ClientAccount = request.getfixturevalue("ordinary_account")
    return found


@pytest.fixture
def spawn(place: Path, account: ClientAccount) -> Iterator[Spawn]:
    """Run client.py on a home; returns when it uses the server, unless `is_waited` is False."""
    clients: list[Client] = []

    def spawn_one(home: Path, mode: str = "use", *, is_waited: bool = True) -> Client:
        if account.uid is not None:
            subprocess.run(["chown", "-R", f"{account.uid}:{account.gid}", place], check=True)
        client = Client(account.popen(str(CLIENT), str(home), mode))
        clients.append(client)
        client.go()
        return client.wait_ready() if is_waited else client

    yield spawn_one
    for client in clients:
        client.close()
