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

from .support import CLIENT, Client, ClientAccount, clean_up, find_ordinary_account, is_gone, wait_until

IS_ROOT = os.geteuid() == 0
collect_ignore = [] if IS_ROOT else ["test_as_root.py"]

Spawn = Callable[..., Client]


def make_place() -> Path:
    """A directory that Postgres can reach under every account; pytest's own are closed to others."""
    directory = Path(tempfile.mkdtemp(prefix="durable-test-", dir="/var/tmp"))
    directory.chmod(0o755)
    return directory


@pytest.fixture
def place() -> Iterator[Path]:
    directory = make_place()
    yield directory
    clean_up(directory)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def new_home(place: Path) -> Path:
    """The directory of a server that has never run; it does not exist yet."""
    return place / "home"


@pytest.fixture(scope="session")
def made_home() -> Iterator[Path]:
    """A server's directory, kept for all tests: making or copying one takes longer than most of them."""
    directory = make_place()
    start(directory / "home", durable=False).release()
    wait_until(lambda: is_gone(directory / "home"))
    yield directory / "home"
    # A start that was killed may have left its socket directory; the next one takes it over and removes it.
    start(directory / "home", durable=False).release()
    wait_until(lambda: is_gone(directory / "home"))
    shutil.rmtree(directory)


@pytest.fixture
def home(made_home: Path) -> Iterator[Path]:
    """The directory of a server of this user that has been initialised and does not run."""
    yield from use_once(made_home)


@pytest.fixture
def own_home(home: Path, place: Path) -> Path:
    """A copy of `home` that a test may spoil."""
    subprocess.run(["cp", "-R", "-p", home, place], check=True)
    return place / home.name


def use_once(home: Path) -> Iterator[Path]:
    for left in [*home.glob("*.lock"), *home.glob("server.log"), *home.glob("pg*/postmaster.*")]:
        left.unlink()
    yield home
    clean_up(home)


@pytest.fixture(scope="session")
def ordinary_account() -> ClientAccount:
    nobody = pwd.getpwnam("nobody")
    return find_ordinary_account(nobody.pw_uid, nobody.pw_gid)


@pytest.fixture(scope="session")
def ordinary_home(made_home: Path, ordinary_account: ClientAccount) -> Iterator[Path]:
    directory = make_place()
    subprocess.run(["cp", "-R", "-p", made_home, directory], check=True)
    give(directory, ordinary_account)
    home = directory / made_home.name
    yield home
    last = Client(ordinary_account.popen(str(CLIENT), str(home), "use"))
    last.go()
    last.wait_ready().close()
    wait_until(lambda: is_gone(home))
    shutil.rmtree(directory)


@pytest.fixture(params=["this_user", "ordinary_user"] if IS_ROOT else ["this_user"])
def account(request: pytest.FixtureRequest) -> ClientAccount:
    if request.param == "this_user":
        return ClientAccount()
    found: ClientAccount = request.getfixturevalue("ordinary_account")
    return found


@pytest.fixture
def their_home(account: ClientAccount, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The same as `home`, for the account that the clients run as."""
    yield from use_once(request.getfixturevalue("made_home" if account.uid is None else "ordinary_home"))


@pytest.fixture
def spawn(place: Path, account: ClientAccount) -> Iterator[Spawn]:
    """Run client.py on a home; returns when it uses the server, unless `is_waited` is False."""
    give(place, account)
    clients: list[Client] = []

    def spawn_one(home: Path, mode: str = "use", *, is_waited: bool = True) -> Client:
        client = Client(account.popen(str(CLIENT), str(home), mode))
        clients.append(client)
        client.go()
        return client.wait_ready() if is_waited else client

    yield spawn_one
    for client in clients:
        client.close()


def give(directory: Path, account: ClientAccount) -> None:
    if account.uid is not None:
        subprocess.run(["chown", "-R", f"{account.uid}:{account.gid}", directory], check=True)
