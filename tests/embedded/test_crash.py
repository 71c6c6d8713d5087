"""Deaths without warning: of the postmaster, of a client in the middle of a start, and of everything at once."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from durable.errors import EmbeddedError
from storage_postgres.embedded import start
from storage_postgres.embedded.account import account_for

from .conftest import Spawn
from .support import (
    execute,
    find_processes_of,
    is_alive,
    is_gone,
    is_locked,
    kill_all,
    list_processes,
    query,
    send,
    wait_until,
)

FIRST_START = ["init.tmp/global/pg_control", "pg[0-9]*/PG_VERSION"]
"""Files in the order in which the first start makes them."""
EVERY_START = ["server.log", "run.lock", "pg[0-9]*/postmaster.pid"]
"""The same for the files that every start makes."""


def kill_start_at(spawn: Spawn, home: Path, moment: str) -> None:
    """kill -9 a client that starts the server, as soon as there is a file named like `moment`."""
    client = spawn(home, is_waited=False)
    wait_until(lambda: list(home.glob(moment)) or client.process.poll() is not None, interval=0.002)
    assert client.process.poll() is None
    client.kill()


@pytest.mark.parametrize("moment", FIRST_START)
def test_a_first_start_killed_halfway_does_not_hinder_the_next(spawn: Spawn, new_home: Path, moment: str) -> None:
    kill_start_at(spawn, new_home, moment)
    assert query(spawn(new_home).dsn, "select 1") == 1


@pytest.mark.parametrize("moment", EVERY_START)
def test_a_start_killed_halfway_does_not_hinder_the_next(spawn: Spawn, their_home: Path, moment: str) -> None:
    kill_start_at(spawn, their_home, moment)
    client = spawn(their_home)
    assert query(client.dsn, "select 1") == 1
    client.leave()
    wait_until(lambda: is_gone(their_home))


@pytest.mark.parametrize("moment", EVERY_START)
def test_a_start_killed_halfway_leaves_no_server_running(spawn: Spawn, their_home: Path, moment: str) -> None:
    kill_start_at(spawn, their_home, moment)
    wait_until(lambda: is_gone(their_home))


def test_an_initdb_that_outlives_its_client_ends_before_the_next_one(spawn: Spawn, new_home: Path) -> None:
    client = spawn(new_home, is_waited=False)
    wait_until(lambda: find_initdb(new_home))
    initdb = find_initdb(new_home)
    for pid in initdb:
        send(pid, signal.SIGSTOP)
    client.kill()
    assert is_locked(new_home / "start.lock")
    following = spawn(new_home, is_waited=False)
    for pid in initdb:
        send(pid, signal.SIGCONT)
    assert query(following.wait_ready().dsn, "select 1") == 1
    assert not any(is_alive(pid) for pid in initdb)


def find_initdb(home: Path) -> list[int]:
    processes = list_processes()
    return [pid for pid in find_processes_of(home) if pid in processes and "/initdb -D" in processes[pid][2]]


def test_acknowledged_commits_survive_the_death_of_the_postmaster_and_of_everything(
    spawn: Spawn, their_home: Path
) -> None:
    """With the durable settings; the second crash hits a server that has recovered from the first."""
    acknowledged: list[int] = []
    for is_all_killed in (False, True):
        writer = spawn(their_home, "write")
        acknowledged += [writer.read_number() for _ in range(100)]
        if is_all_killed:
            kill_all(their_home)
        else:
            send(writer.postmaster, signal.SIGKILL)
        writer.process.wait(30)
        acknowledged += writer.read_rest()
    assert len(acknowledged) >= 200
    found = query(spawn(their_home, "write").dsn, "select array_agg(number order by number) from written")
    assert set(acknowledged) <= set(found)


def test_the_same_process_can_start_a_killed_server_again(home: Path) -> None:
    with start(home) as first:
        execute(first.dsn(), "create table if not exists kept (number int)")
        send(first.pid(), signal.SIGKILL)
        with start(home) as second:
            assert second.dsn() == first.dsn()
            assert query(first.dsn(), "select count(*) from kept") == 0
    wait_until(lambda: is_gone(home))


def test_another_process_starts_a_killed_server_at_once(spawn: Spawn, their_home: Path) -> None:
    first = spawn(their_home)
    send(first.postmaster, signal.SIGKILL)
    second = spawn(their_home)
    assert second.postmaster != first.postmaster
    assert query(first.dsn, "select 1") == 1


def test_pid_says_that_the_server_has_ended(home: Path) -> None:
    with start(home, durable=False) as server:
        send(server.pid(), signal.SIGKILL)
        wait_until(lambda: not is_locked(home / "run.lock"))
        with pytest.raises(EmbeddedError, match="has ended; call start again"):
            server.pid()


def test_a_pid_that_belongs_to_somebody_else_by_now_is_not_mistaken_for_the_server(home: Path) -> None:
    account = account_for(home)
    owner = {"user": account.uid, "group": account.gid, "extra_groups": ()} if account.is_switched else {}
    with subprocess.Popen(["sleep", "600"], **owner) as innocent:  # type: ignore[call-overload]
        try:
            leave_files_of_a_dead_server(home, lambda lines: [str(innocent.pid), *lines[1:]])
            with start(home, durable=False, timeout=20) as server:
                assert query(server.dsn(), "select 1") == 1
                assert is_alive(innocent.pid)
            wait_until(lambda: is_gone(home))
            assert is_alive(innocent.pid)
        finally:
            innocent.kill()


def test_an_empty_pid_file_does_not_hinder_a_start(home: Path) -> None:
    leave_files_of_a_dead_server(home, lambda lines: [])
    with start(home, durable=False, timeout=20) as server:
        assert query(server.dsn(), "select 1") == 1


def leave_files_of_a_dead_server(home: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Kill everything, then change postmaster.pid and the socket's lock file, which names a pid, too."""
    with start(home, durable=False) as server:
        kill_all(home)
        wait_until(lambda: not is_locked(home / "run.lock") and not is_locked(home / "watch.lock"))
    pid_file = next(home.glob("pg*/postmaster.pid"))
    socket_directory = Path(server.dsn().split()[0].removeprefix("host="))
    for left in [pid_file, *socket_directory.glob(".s.PGSQL.*.lock")]:
        left.write_text("".join(f"{line}\n" for line in change(left.read_text().splitlines())))
