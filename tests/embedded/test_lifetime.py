"""Who keeps the server running: it serves while one client lives, and ends after the last, however that one ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from storage_postgres.embedded import start
from storage_postgres.embedded.binaries import choose_binaries, locate_binaries
from storage_postgres.embedded.home import open_home
from storage_postgres.embedded.launch import launch
from storage_postgres.embedded.locks import Lock
from storage_postgres.embedded.settings import choose_settings

from .conftest import Spawn
from .support import execute, is_alive, is_gone, is_locked, kill_all, parent_of, query, send, wait_until


def test_processes_share_one_server_until_the_last_leaves(spawn: Spawn, their_home: Path) -> None:
    first, second = spawn(their_home), spawn(their_home)
    assert first.postmaster == second.postmaster
    first.leave()
    assert is_locked(their_home / "clients.lock")
    assert query(second.dsn, "select 1") == 1
    second.leave()
    wait_until(lambda: is_gone(their_home))


def test_four_processes_that_start_it_at_once_get_one_server(spawn: Spawn, new_home: Path) -> None:
    clients = [spawn(new_home, is_waited=False) for _ in range(4)]
    assert len({client.wait_ready().postmaster for client in clients}) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_signalled_client_counts_as_gone(spawn: Spawn, their_home: Path, number: signal.Signals) -> None:
    client = spawn(their_home)
    client.kill(number)
    wait_until(lambda: is_gone(their_home))
    assert not is_alive(client.postmaster)


def test_a_forked_child_keeps_the_server_of_its_dead_parent(spawn: Spawn, their_home: Path) -> None:
    client = spawn(their_home, "fork")
    client.kill()
    assert is_locked(their_home / "clients.lock")
    assert query(client.dsn, "select 1") == 1
    send(client.report["child"], signal.SIGKILL)
    wait_until(lambda: is_gone(their_home))


def test_a_server_whose_watcher_was_killed_gets_another_from_the_next_client(spawn: Spawn, their_home: Path) -> None:
    first = spawn(their_home)
    send(parent_of(first.postmaster), signal.SIGKILL)
    wait_until(lambda: not is_locked(their_home / "watch.lock"))
    second = spawn(their_home)
    assert second.postmaster == first.postmaster
    assert is_locked(their_home / "watch.lock")
    first.kill()
    second.kill()
    wait_until(lambda: is_gone(their_home))


def test_a_server_without_watcher_or_clients_is_joined_not_doubled(spawn: Spawn, their_home: Path) -> None:
    first = spawn(their_home)
    send(parent_of(first.postmaster), signal.SIGKILL)
    first.kill()
    second = spawn(their_home)
    assert second.postmaster == first.postmaster
    second.leave()
    wait_until(lambda: is_gone(their_home))


def test_a_server_that_has_no_client_from_the_start_is_stopped(home: Path) -> None:
    """The watcher's first signal then comes before the postmaster can take one."""
    opened = open_home(home)
    binaries = choose_binaries(locate_binaries(), opened.account)
    settings = choose_settings(binaries, {}, is_durable=False)
    starting = Lock(opened.start_lock)
    assert launch(opened, binaries, opened.data(binaries.version), settings, starting)
    starting.close()
    wait_until(lambda: is_gone(home))


def test_release_twice_ends_one_use(home: Path) -> None:
    with start(home, durable=False) as kept:
        released = start(home, durable=False)
        released.release()
        released.release()
        assert is_locked(home / "clients.lock")
        assert query(kept.dsn(), "select 1") == 1
    wait_until(lambda: is_gone(home))


def test_start_right_after_the_last_release_serves_the_same_data(home: Path) -> None:
    with start(home, durable=False) as server:
        execute(server.dsn(), "create table if not exists kept (number int)")
    with start(home, durable=False) as server:
        assert query(server.dsn(), "select count(*) from kept") == 0


def test_a_terminated_watcher_stops_the_server(home: Path) -> None:
    with start(home, durable=False) as server:
        send(parent_of(server.pid()), signal.SIGTERM)
        wait_until(lambda: not is_locked(home / "run.lock"))
        wait_until(lambda: not is_locked(home / "watch.lock"))


def test_ctrl_c_in_the_clients_terminal_does_not_reach_the_server(home: Path) -> None:
    with start(home, durable=False) as server:
        watcher = parent_of(server.pid())
        ours = os.getsid(0)
        assert os.getsid(watcher) != ours
        assert os.getsid(server.pid()) != ours


def test_no_socket_directory_is_left_behind(home: Path) -> None:
    with start(home, durable=False) as server:
        directory = Path(server.dsn().split()[0].removeprefix("host="))
        assert directory.is_dir()
        assert directory.stat().st_mode & 0o077 == 0
        kill_all(home)
        wait_until(lambda: not is_locked(home / "run.lock"))
        assert directory.is_dir()
    with start(home, durable=False) as again:
        assert again.dsn() == server.dsn()
    wait_until(lambda: is_gone(home))
    assert not directory.exists()
